"""Servers: every connection is taken, each in a context of its own, and nothing ends the listening."""

from __future__ import annotations

import asyncio
import contextvars
import os
import resource
import socket

import pytest


class Greeting(asyncio.Protocol):
    """Says hello and hangs up."""

    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()


def clients(address, count):
    made = []
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(address)
        made.append(client)
    return made


async def read_all(loop, client):
    with client:
        data = b""
        while piece := await loop.sock_recv(client, 100):
            data += piece
        return data


async def listening(loop, factory):
    server = await loop.create_server(factory, "127.0.0.1", 0, backlog=1000)
    return server, server.sockets[0].getsockname()


def test_a_crowd_that_comes_at_once_is_served_whole(loop, run):
    async def main():
        server, address = await listening(loop, Greeting)
        crowd = clients(address, 300)
        assert await asyncio.gather(*[read_all(loop, one) for one in crowd]) == [b"hello"] * 300
        server.close()

    run(main())


def test_what_a_factory_sets_is_seen_by_its_connection_alone(loop, run):
    name = contextvars.ContextVar("name", default="nobody")
    before, seen = [], []

    class Named(Greeting):
        def connection_made(self, transport):
            seen.append(name.get())
            super().connection_made(transport)

    def factory():
        before.append(name.get())
        name.set(f"connection {len(before)}")
        return Named()

    async def main():
        server, address = await listening(loop, factory)
        for one in clients(address, 2):
            await read_all(loop, one)
        server.close()
        assert name.get() == "nobody"

    run(main())
    assert before == ["nobody", "nobody"]
    assert sorted(seen) == ["connection 1", "connection 2"]


def test_a_factory_that_fails_costs_its_connection_and_no_other(loop, run):
    factories = iter([lambda: 1 / 0, Greeting])

    async def main():
        server, address = await listening(loop, lambda: next(factories)())
        assert await read_all(loop, clients(address, 1)[0]) == b""
        assert await read_all(loop, clients(address, 1)[0]) == b"hello"
        server.close()

    run(main())


def test_connections_beyond_the_limit_of_descriptors_are_reported_and_served_later(
    loop, run, monkeypatch, request
):
    monkeypatch.setattr("asyncio.constants.ACCEPT_RETRY_DELAY", 0.05)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    reported = []
    loop.set_exception_handler(lambda _loop, context: reported.append(context["message"]))

    async def main():
        server, address = await listening(loop, Greeting)
        client = socket.socket()
        client.setblocking(False)
        # No number is free below the limit, and the client needs none.
        fillers = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 20, limits[1]))
            with pytest.raises(OSError):
                while True:
                    fillers.append(os.dup(client.fileno()))
            client.connect_ex(address)
            while not reported:
                await asyncio.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for filler in fillers:
                os.close(filler)
        assert await read_all(loop, client) == b"hello"
        server.close()

    run(main())
    if request.node.callspec.params["new_loop"] == "stock":
        # It goes on to serve a server that was closed before the delay was over, and reports that.
        reported = [message for message in reported if "BaseSelectorEventLoop._start_serving" not in message]
    assert set(reported) == {"socket.accept() out of system resource"}
