"""The same servers on gevent, in its own words."""

from __future__ import annotations

import gevent
import gevent.pywsgi
from gevent import socket, ssl

from servers.serve import announce, wsgi_app


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
    """Listen, announce, and give every connection a greenlet."""
    handle = handler(args)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted sockets inherit it; eventlet.wsgi sets it by itself, gevent.pywsgi does not.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    loop = gevent.get_hub().loop
    announce(listener.getsockname()[1], f"gevent({loop.backend})")
    if args.workload == "wsgi":
        gevent.pywsgi.WSGIServer(listener, wsgi_app, log=None).serve_forever()
        return
    while True:
        connection, _ = listener.accept()
        gevent.spawn(handle, connection, args.recv_bytes)
