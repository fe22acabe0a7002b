"""What is done again and again leaves no memory behind: what is in use is counted."""

from __future__ import annotations

import asyncio
import socket

import pytest
from memory import Growth


class Ends:
    """Two connected sockets, plain and as streams, and a callback."""

    def __init__(self, loop):
        self.loop = loop
        self.ours, self.theirs = socket.socketpair()
        self.plain, self.peer = socket.socketpair()
        for sock in (self.ours, self.theirs, self.plain, self.peer):
            sock.setblocking(False)
        self.buffer = bytearray(100)

    async def open(self):
        self.reader, self.writer = await asyncio.open_connection(sock=self.ours)

    async def close(self):
        self.writer.close()
        for sock in (self.theirs, self.plain, self.peer):
            sock.close()

    @staticmethod
    def nothing(*_):
        """A callback."""


async def cancelled(coroutine):
    """Cancels a task in its first wait."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def read_in_pieces(ends):
    ends.theirs.send(bytes(2000))
    for _ in range(3):
        assert len(await ends.reader.read(600)) == 600
    assert len(await ends.reader.read(1000)) == 200


async def readline(ends):
    ends.theirs.send(b"a line\nand another\n")
    assert await ends.reader.readline() == b"a line\n"
    assert await ends.reader.readuntil(b"\n") == b"and another\n"


async def read_cancelled(ends):
    await cancelled(ends.reader.read(1000))


async def write(ends):
    ends.writer.write(b"x" * 700)
    await ends.writer.drain()
    assert len(ends.theirs.recv(1000)) == 700


async def sock_recv(ends):
    receiving = asyncio.ensure_future(ends.loop.sock_recv(ends.plain, 3000))
    await asyncio.sleep(0)
    ends.peer.send(b"x" * 1000)
    assert len(await receiving) == 1000


async def sock_recv_into(ends):
    ends.peer.send(b"abc")
    assert await ends.loop.sock_recv_into(ends.plain, ends.buffer) == 3


async def sock_recv_cancelled(ends):
    await cancelled(ends.loop.sock_recv(ends.plain, 1000))


async def sock_sendall(ends):
    await ends.loop.sock_sendall(ends.plain, b"x" * 1000)
    assert len(ends.peer.recv(2000)) == 1000


async def reader_callback(ends):
    ready = ends.loop.create_future()
    ends.loop.add_reader(ends.plain, ready.set_result, None)
    ends.peer.send(b"x")
    await ready
    ends.loop.remove_reader(ends.plain)
    assert ends.plain.recv(10) == b"x"


async def callbacks(ends):
    ends.loop.call_soon(ends.nothing, 1000)
    ends.loop.call_soon_threadsafe(ends.nothing, 1000)
    ends.loop.call_later(0, ends.nothing, 1000)
    ends.loop.call_later(3600, ends.nothing, 1000).cancel()
    await asyncio.sleep(0)


async def sleep(_):
    await asyncio.sleep(0.00001)


async def waits(ends):
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(ends.reader.read(1000), 0.00001)
    assert await asyncio.wait_for(sleep(ends), 10) is None
    await asyncio.gather(sleep(ends), sleep(ends))


async def an_error(ends):
    with pytest.raises(OSError):
        await ends.loop.sock_connect(ends.plain, "/no/such/socket")


async def connection(ends):
    """A server, a client and what they say."""
    served = ends.loop.create_future()

    async def serve(reader, writer):
        writer.write(await reader.read(1000))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        served.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x" * 1000)
    assert len(await reader.read()) == 1000
    writer.close()
    await writer.wait_closed()
    await served
    server.close()
    await server.wait_closed()


class Collecting(asyncio.DatagramProtocol):
    """Keeps the first datagram."""

    def __init__(self, future):
        self.future = future

    def datagram_received(self, data, addr):
        self.future.set_result(data)


async def datagrams(ends):
    """An endpoint that sends to itself."""
    came = ends.loop.create_future()
    transport, _ = await ends.loop.create_datagram_endpoint(
        lambda: Collecting(came), local_addr=("127.0.0.1", 0)
    )
    transport.sendto(b"x" * 1000, transport.get_extra_info("sockname"))
    assert len(await came) == 1000
    transport.close()
    await asyncio.sleep(0)


async def in_a_thread(ends):
    assert await ends.loop.run_in_executor(None, len, "x" * 1000) == 1000


async def a_child(_):
    child = await asyncio.create_subprocess_exec("true")
    assert await child.wait() == 0


QUICK = [read_in_pieces, readline, read_cancelled, write, sock_recv, sock_recv_into, sock_recv_cancelled]
QUICK += [sock_sendall, reader_callback, callbacks, an_error, in_a_thread]
SLOW = [sleep, waits, connection, datagrams, a_child]


async def grown(loop, operation, times):
    """What so many repetitions leave behind."""
    ends = Ends(loop)
    await ends.open()
    for _ in range(max(times // 2, 5)):
        await operation(ends)
    growth = Growth(times)
    for _ in range(3):
        with growth:
            for _ in range(times):
                await operation(ends)
    await ends.close()
    return growth


@pytest.mark.parametrize("left", [object, lambda: bytes(600)], ids=["a block", "bytes of malloc"])
def test_what_is_left_is_seen(left):
    kept, growth = [None] * 2000, Growth(500)
    for part in range(3):
        with growth:
            for place in range(part * 500, part * 500 + 500):
                kept[place] = left()
    assert growth.is_a_leak(), growth


@pytest.mark.parametrize("operation", QUICK, ids=lambda operation: operation.__name__)
def test_a_thousand_times_leave_nothing(loop, operation):
    growth = loop.run_until_complete(asyncio.wait_for(grown(loop, operation, 1000), 60))
    assert not growth.is_a_leak(), growth


@pytest.mark.parametrize("operation", SLOW, ids=lambda operation: operation.__name__)
def test_a_hundred_times_leave_nothing(loop, operation):
    growth = loop.run_until_complete(asyncio.wait_for(grown(loop, operation, 100), 60))
    assert not growth.is_a_leak(), growth
