"""The same servers on asyncio loops, in asyncio's own words; one workload per way of using a loop."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import ssl

from servers.serve import HELLO, announce

BACKLOG = 4096


class Echo(asyncio.Protocol):
    """Sends back what arrives."""

    def connection_made(self, transport):
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data):
        """Send it back."""
        self.transport.write(data)


class EchoDatagrams(asyncio.DatagramProtocol):
    """Sends every datagram back to where it came from."""

    def connection_made(self, transport):
        """Keep the transport."""
        self.transport = transport

    def datagram_received(self, data, address):
        """Send it back."""
        self.transport.sendto(data, address)


async def echo_streams(reader, writer, recv_bytes: int) -> None:
    """Send back what arrives until the peer closes."""
    try:
        while data := await reader.read(recv_bytes):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the client ends its run by closing, with requests in flight
    finally:
        writer.close()


async def echo_sockets(loop, connection, recv_bytes: int) -> None:
    """The same with the loop's socket operations."""
    with connection:
        try:
            while data := await loop.sock_recv(connection, recv_bytes):
                await loop.sock_sendall(connection, data)
        except OSError:
            pass  # as above


def listen() -> socket.socket:
    """A listening TCP socket."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    return listener


def port_of(listener) -> int:
    """The port that the kernel chose."""
    return listener.getsockname()[1]


async def serve_on(_server) -> None:
    """Serves until killed. `create_server` has started it, and rloop 0.5.0 closes the listening socket of a server
    that is told so again, as `serve_forever` does."""
    await asyncio.Event().wait()


async def serve_protocol(loop, args, name: str) -> None:
    """`create_server` with a protocol, behind TLS if there is a certificate."""
    context = None
    if args.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.certificate)
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=BACKLOG, ssl=context)
    announce(port_of(server.sockets[0]), name)
    await serve_on(server)


async def serve_streams(loop, args, name: str) -> None:
    """`asyncio.start_server`."""

    async def handle(reader, writer):
        await echo_streams(reader, writer, args.recv_bytes)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=BACKLOG)
    announce(port_of(server.sockets[0]), name)
    await serve_on(server)


async def serve_sockets(loop, args, name: str) -> None:
    """`sock_accept`, `sock_recv`, `sock_sendall`."""
    listener = listen()
    announce(port_of(listener), name)
    tasks = set()
    while True:
        connection, _ = await loop.sock_accept(listener)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        task = loop.create_task(echo_sockets(loop, connection, args.recv_bytes))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def serve_datagrams(loop, args, name: str) -> None:
    """`create_datagram_endpoint`."""
    endpoint = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    endpoint.bind(("127.0.0.1", 0))
    endpoint.setblocking(False)
    port = port_of(endpoint)
    await loop.create_datagram_endpoint(EchoDatagrams, sock=endpoint)
    announce(port, name, address=f"udp:127.0.0.1:{port}")
    await asyncio.Event().wait()


async def serve_unix(loop, args, name: str) -> None:
    """`create_unix_server`, in the abstract namespace: nothing is left behind."""
    path = f"uringhub-bench-{os.getpid()}"
    server = await loop.create_unix_server(Echo, "\0" + path, backlog=BACKLOG)
    announce(0, name, address=f"unix:@{path}")
    await serve_on(server)


async def serve_aiohttp(loop, args, name: str) -> None:
    """A hello of aiohttp."""
    from aiohttp import web

    async def hello(_request):
        return web.Response(body=HELLO)

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG).start()
    announce(runner.addresses[0][1], name)
    await asyncio.Event().wait()


async def serve_uvicorn(loop, args, name: str) -> None:
    """A hello of a bare ASGI application under uvicorn."""
    import uvicorn

    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-length", b"%d" % len(HELLO))],
    }
    body = {"type": "http.response.body", "body": HELLO}

    async def hello(_scope, _receive, send):
        await send(start)
        await send(body)

    listener = listen()
    config = uvicorn.Config(hello, lifespan="off", access_log=False, log_level="warning", backlog=BACKLOG)
    announce(port_of(listener), name)
    await uvicorn.Server(config).serve(sockets=[listener])


SERVERS = {
    "echo": serve_protocol,
    "echo-tls": serve_protocol,
    "echo-streams": serve_streams,
    "echo-sockets": serve_sockets,
    "echo-udp": serve_datagrams,
    "echo-unix": serve_unix,
    "aiohttp": serve_aiohttp,
    "uvicorn": serve_uvicorn,
}


def make_loop(factory: str):
    """A loop of `module:callable`."""
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)()


def describe_loop(loop) -> str:
    """The loop's package, and its driver if it has one."""
    package = type(loop).__module__.partition(".")[0]
    driver = getattr(loop, "driver", None)
    return f"{package}({driver})" if driver else package


def serve(args, factory: str) -> None:
    """Serve one workload on a new loop until killed."""
    loop = make_loop(factory)
    asyncio.set_event_loop(loop)
    loop.run_until_complete(SERVERS[args.workload](loop, args, describe_loop(loop)))
