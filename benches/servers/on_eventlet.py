"""Plain blocking-style Eventlet servers; the hub comes from `EVENTLET_HUB`."""

from __future__ import annotations

import socket

import eventlet
import eventlet.wsgi
from eventlet.green import ssl

from servers.serve import announce, wsgi_app


def describe_hub() -> str:
    """Hub in use, and below it the driver or the asyncio loop."""
    hub = eventlet.hubs.get_hub()
    module = type(hub).__module__
    driver = getattr(hub, "driver", None)
    if module.startswith("uringhub") and driver is not None:
        return f"uring({driver() if callable(driver) else driver})"
    loop = getattr(hub, "loop", None)
    name = module.rpartition(".")[2]
    return name if loop is None else f"{name}({type(loop).__module__.partition('.')[0]})"


def echo(connection, recv_bytes: int) -> None:
    """Send back what arrives until the peer closes."""
    try:
        while data := connection.recv(recv_bytes):
            connection.sendall(data)
    except OSError:
        pass  # the client ends its run by closing, with requests in flight
    finally:
        connection.close()


def echo_once(connection, recv_bytes: int) -> None:
    """One message, then close."""
    try:
        connection.sendall(connection.recv(recv_bytes))
    except OSError:
        pass  # as above
    finally:
        connection.close()


def echo_with_timeout(connection, recv_bytes: int) -> None:
    """As `echo`, each recv bounded in time."""
    connection.settimeout(30)
    echo(connection, recv_bytes)


def echo_tls(certificate: str):
    """As `echo`, behind a handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def handle(connection, recv_bytes: int) -> None:
        try:
            connection = context.wrap_socket(connection, server_side=True)
        except OSError:
            connection.close()
            return
        echo(connection, recv_bytes)

    return handle


def handler(args):
    """What runs for each connection; `None` for WSGI, which brings its own."""
    if args.workload == "echo-tls":
        return echo_tls(args.certificate)
    return {"echo": echo, "echo-timeout": echo_with_timeout, "churn": echo_once}.get(args.workload)


def serve(args) -> None:
    """Listen, announce, and give every connection a green thread."""
    if args.workload == "demo":
        from servers import demo

        demo.serve(lambda ports: announce(ports[0], describe_hub(), tcp_port=ports[1]))
        return
    handle = handler(args)
    listener = eventlet.listen(("127.0.0.1", 0), backlog=4096)
    announce(listener.getsockname()[1], describe_hub())
    if args.workload == "wsgi":
        eventlet.wsgi.server(listener, wsgi_app, log_output=False, max_size=4096)
        return
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        eventlet.spawn_n(handle, connection, args.recv_bytes)
