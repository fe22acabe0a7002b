"""Corners in which programs can tell a loop from the stock one, the same on stock and on both drivers."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import fractions
import os
import socket
import struct
import threading
import weakref

import pytest
import uringhub


class Ending(asyncio.Protocol):
    """Tells how its connection ended."""

    def connection_made(self, transport):
        self.transport = transport
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def connected():
    """A protocol with a connection, and the peer's socket, whose close resets it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    _, protocol = await asyncio.get_running_loop().create_connection(Ending, sock=client)
    return protocol, peer


def test_write_after_a_reset_ends_the_connection_with_connection_reset(run):
    async def main():
        loop = asyncio.get_running_loop()
        protocol, peer = await connected()
        await asyncio.sleep(0)  # A receive is in flight.

        def reset():
            peer.close()
            # On loopback it has arrived. The write comes before the loop hears of it, in the order of the stock loop.
            loop.call_soon(protocol.transport.write, b"x")

        loop.call_soon(reset)
        assert type(await protocol.lost) is ConnectionResetError

    run(main())


@pytest.mark.parametrize("size", [1, 1 << 24])
def test_reset_is_told_as_a_reset_though_a_write_is_pending(run, size):
    async def main():
        protocol, peer = await connected()
        protocol.transport.write(b"x" * size)
        await asyncio.sleep(0)
        assert (protocol.transport.get_write_buffer_size() > 0) == (size > 1)
        peer.close()
        assert type(await protocol.lost) is ConnectionResetError

    run(main())


def test_watched_file_lives_and_can_be_let_go_after_it_was_closed(run):
    async def main():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        left.setblocking(False)
        loop.add_reader(left, lambda: None)
        loop.add_writer(right, lambda: None)
        number = right.fileno()
        weak = weakref.ref(right)
        del right
        assert weak() is not None and weak().fileno() == number
        await asyncio.sleep(0.01)
        left.close()
        assert loop.remove_reader(left) is True
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            loop.remove_writer(left)
        assert loop.remove_writer(number) is True
        assert loop.remove_writer(number) is False
        assert weak() is None

    run(main())


def test_file_that_is_always_ready_is_not_watched(loop):
    with open(os.devnull) as null:
        with pytest.raises(PermissionError):
            loop.add_reader(null, print)
    primary, secondary = os.openpty()
    loop.add_reader(primary, print)
    assert loop.remove_reader(primary)
    os.close(primary)
    os.close(secondary)


def test_call_from_a_thread_comes_before_a_later_one_of_the_loop_s_own(run):
    async def main():
        loop = asyncio.get_running_loop()
        order = []
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(order.append, 1))
        thread.start()
        thread.join()
        loop.call_soon(order.append, 2)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert order == [1, 2]

    run(main())


def test_delay_that_is_no_number_of_seconds_is_refused(loop):
    for delay in (decimal.Decimal("0.1"), "1", []):
        with pytest.raises(TypeError):
            loop.call_later(delay, print)
    called = []
    for delay in (fractions.Fraction(1, 1000), True, 0, -1, -0.5):
        loop.call_later(delay, called.append, delay)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert sorted(called) == [-1, -0.5, 0, fractions.Fraction(1, 1000)]  # True is a second.
    with pytest.raises(OverflowError):
        loop.call_later(10**400, print)


def test_data_comes_in_the_context_that_reading_was_resumed_in(run):
    async def main():
        loop = asyncio.get_running_loop()
        where = contextvars.ContextVar("where", default="connected")
        seen = asyncio.Queue()

        class Protocol(asyncio.Protocol):
            def data_received(self, data):
                seen.put_nowait(where.get())

        left, right = socket.socketpair()
        transport, _ = await loop.create_connection(Protocol, sock=left)
        right.send(b"1")
        assert await seen.get() == "connected"
        transport.pause_reading()
        where.set("resumed")
        transport.resume_reading()
        right.send(b"2")
        assert await seen.get() == "resumed"
        transport.close()
        right.close()

    run(main())


def test_run_within_a_running_loop_is_refused_as_by_asyncio(our_loop):
    async def main():
        coroutine = asyncio.sleep(0)
        try:
            with pytest.raises(
                RuntimeError, match=r"^asyncio.run\(\) cannot be called from a running event loop$"
            ):
                uringhub.run(coroutine)
        finally:
            coroutine.close()

    uringhub.run(main())


class Shouting(socket.socket):
    """What it receives comes in capitals, what it sends goes out twice."""

    def recv(self, *args):
        return super().recv(*args).upper()

    def recv_into(self, buffer, *args):
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def recvfrom(self, *args):
        data, address = super().recvfrom(*args)
        return data.upper(), address

    def send(self, data, *args):
        return super().send(bytes(data) * 2, *args) // 2


def test_methods_of_a_subclass_of_socket_are_called(run):
    async def main():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        shouting = Shouting(fileno=left.detach())
        for end in (shouting, right):
            end.setblocking(False)
        receiving = asyncio.create_task(loop.sock_recv(shouting, 100))
        await asyncio.sleep(0.01)
        right.send(b"one")
        assert await receiving == b"ONE"
        buffer = bytearray(3)
        right.send(b"two")
        assert (await loop.sock_recv_into(shouting, buffer), buffer) == (3, b"TWO")
        await loop.sock_sendall(shouting, b"x")
        assert await loop.sock_recv(right, 100) == b"xx"
        reader, writer = await asyncio.open_connection(sock=shouting)
        right.send(b"three")
        assert await reader.read(100) == b"THREE"
        writer.close()
        right.close()

    run(main())


class Wrapper:
    """What is no socket, but has one and speaks for it, as tracers and encrypting connections do."""

    def __init__(self, sock):
        self.sock = sock

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def recv(self, n):
        return self.sock.recv(n).upper()

    def send(self, data):
        return self.sock.send(bytes(data).lower())


def test_methods_of_a_wrapper_of_a_socket_are_called(run):
    async def main():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        for end in (left, right):
            end.setblocking(False)
        wrapper = Wrapper(left)
        receiving = asyncio.create_task(loop.sock_recv(wrapper, 100))
        await asyncio.sleep(0)
        right.send(b"one")
        assert await receiving == b"ONE"
        await loop.sock_sendall(wrapper, b"Two")
        assert await loop.sock_recv(right, 100) == b"two"
        reader, writer = await asyncio.open_connection(sock=wrapper)
        right.send(b"three")
        assert await reader.read(100) == b"THREE"
        writer.write(b"Four")
        await writer.drain()
        assert await loop.sock_recv(right, 100) == b"four"
        writer.close()
        right.close()

    run(main())


def test_methods_of_a_subclass_of_socket_are_called_for_datagrams(run):
    async def main():
        loop = asyncio.get_running_loop()
        got = loop.create_future()

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                got.set_result(data)

        receiver = Shouting(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 0))
        transport, _ = await loop.create_datagram_endpoint(Protocol, sock=receiver)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", transport.get_extra_info("sockname"))
        assert await got == b"HELLO"
        transport.close()

    run(main())


def test_buffer_is_free_to_change_while_sock_recv_into_waits(run):
    async def main():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        left.setblocking(False)
        buffer = bytearray(100)
        receiving = asyncio.create_task(loop.sock_recv_into(left, buffer))
        await asyncio.sleep(0.01)
        del buffer[3:]
        right.send(b"hello")
        assert (await receiving, buffer, await loop.sock_recv(left, 100)) == (3, b"hel", b"lo")
        left.close()
        right.close()

    run(main())
