"""Descriptors, sockets and transports: nothing lost, nothing held open, errors as on the stock loop."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys

import pytest


class Recorder(asyncio.Protocol):
    """Keeps what it receives; `lost` is done when the connection is."""

    def __init__(self):
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data

    def connection_lost(self, exc):
        if not self.lost.done():
            self.lost.set_result(exc)


async def connected_pair(loop):
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    return transport, protocol, theirs


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_a_reader_runs_as_long_as_something_is_unread(loop, run):
    async def main():
        ours, theirs = socket.socketpair()
        done = loop.create_future()
        seen = []

        def readable():
            seen.append(ours.recv(1))
            if len(seen) == 3:
                loop.remove_reader(ours)
                done.set_result(None)

        loop.add_reader(ours, readable)
        theirs.send(b"abc")
        await done
        assert b"".join(seen) == b"abc"
        assert loop.remove_reader(ours) is False
        ours.close()
        theirs.close()

    run(main())


def test_a_replaced_reader_is_cancelled_and_the_new_one_runs(loop, run):
    async def main():
        ours, theirs = socket.socketpair()
        done = loop.create_future()
        loop.add_reader(ours, done.set_exception, AssertionError("replaced"))
        loop.add_reader(ours, lambda: done.done() or done.set_result("new"))
        theirs.send(b"x")
        assert await done == "new"
        loop.remove_reader(ours)
        ours.close()
        theirs.close()

    run(main())


def test_a_regular_file_or_a_closed_number_cannot_be_watched(loop, tmp_path):
    (tmp_path / "file").write_text("x")
    with open(tmp_path / "file") as file, pytest.raises(PermissionError):
        loop.add_reader(file, print)
    fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(fd, print)
    with pytest.raises(ValueError, match="Invalid file"):
        loop.add_reader(object(), print)


def test_a_closed_server_refuses_at_once(loop):
    server = loop.run_until_complete(loop.create_server(Recorder, "127.0.0.1", 0))
    address = server.sockets[0].getsockname()
    server.close()
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(address)


def test_what_came_before_a_pause_is_delivered_after_it_and_in_order(loop, run):
    async def main():
        transport, protocol, theirs = await connected_pair(loop)
        sent = bytearray()
        for number in range(50):
            piece = bytes([number]) * 5000
            await loop.sock_sendall(theirs, piece)
            sent += piece
            if number % 5 == 0:
                transport.pause_reading()
                before = len(protocol.data)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert len(protocol.data) == before
                transport.resume_reading()
        theirs.close()
        await protocol.lost
        assert protocol.data == sent

    run(main())


def test_closing_a_reading_transport_ends_the_stream_for_the_peer(loop, run):
    async def main():
        transport, protocol, theirs = await connected_pair(loop)
        await asyncio.sleep(0)
        transport.close()
        assert await loop.sock_recv(theirs, 10) == b""
        assert await protocol.lost is None
        theirs.close()

    run(main())


def test_a_large_write_pauses_the_protocol_and_arrives_whole(loop, run):
    class Pausable(Recorder):
        paused = resumed = 0

        def pause_writing(self):
            self.paused += 1

        def resume_writing(self):
            self.resumed += 1

    async def main():
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        transport, protocol = await loop.create_connection(Pausable, sock=ours)
        payload = os.urandom(3_000_000)
        transport.write(payload)
        transport.write(b"tail")
        assert transport.get_write_buffer_size() > 0 and protocol.paused == 1
        transport.close()
        received = bytearray()
        while data := await loop.sock_recv(theirs, 1 << 20):
            received += data
        assert received == payload + b"tail"
        assert await protocol.lost is None and protocol.resumed == 1
        theirs.close()

    run(main())


@pytest.mark.parametrize("end", ["close", "reset"])
def test_large_pieces_arrive_whole_and_in_order_and_so_does_the_end(loop, run, end):
    async def main():
        listener = socket.create_server(("127.0.0.1", 0))
        transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
        theirs, _ = listener.accept()
        sent = bytearray()
        # Large ones first, then too small ones to go on receiving in large pieces, then large ones again.
        for size in (300_000, 100_000, 5_000_000, 1, 2, 3, 4, 5, 6, 300_000):
            piece = os.urandom(size)
            sent += piece
            await loop.run_in_executor(None, theirs.sendall, piece)
            await until(lambda: len(protocol.data) == len(sent))
        assert protocol.data == sent
        if end == "reset":
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        error = await protocol.lost
        assert type(error) is (ConnectionResetError if end == "reset" else type(None))
        listener.close()

    run(main())


def test_a_buffered_protocol_gets_every_byte_whatever_the_size_of_its_buffer(loop, run):
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self):
            self.buffer = bytearray(777)
            self.data = bytearray()
            self.lost = loop.create_future()

        def get_buffer(self, sizehint):
            return self.buffer

        def buffer_updated(self, nbytes):
            self.data += self.buffer[:nbytes]

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        _transport, protocol = await loop.create_connection(Buffered, sock=ours)
        payload = os.urandom(100_000)
        await loop.sock_sendall(theirs, payload)
        theirs.close()
        assert await protocol.lost is None
        assert protocol.data == payload

    run(main())


def test_a_protocol_that_fails_closes_its_connection_and_is_reported(loop, run):
    class Failing(Recorder):
        def data_received(self, data):
            raise ZeroDivisionError

    seen = []
    loop.set_exception_handler(lambda _loop, context: seen.append(context))

    async def main():
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.create_connection(Failing, sock=ours)
        theirs.send(b"x")
        assert isinstance(await protocol.lost, ZeroDivisionError)
        assert transport.is_closing()
        theirs.close()

    run(main())
    assert seen[0]["message"] == "Fatal error: protocol.data_received() call failed."


def test_a_cancelled_sock_recv_takes_no_byte(loop, run):
    async def main():
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        for _ in range(20):
            task = loop.create_task(loop.sock_recv(ours, 10))
            await asyncio.sleep(0)
            theirs.send(b"x")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await loop.sock_recv(ours, 10) == b"x"
        ours.close()
        theirs.close()

    run(main())


def test_a_peer_that_resets_is_an_error_of_the_connection(loop, run):
    async def main():
        listener = socket.create_server(("127.0.0.1", 0))
        transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
        peer, _ = listener.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        assert isinstance(await protocol.lost, ConnectionResetError)
        listener.close()

    run(main())


def test_the_exit_of_a_child_is_noticed_without_a_thread_or_a_watcher(our_loop):
    import threading

    loop = our_loop()

    async def main():
        threads = set(threading.enumerate())  # Of which one that an earlier test has left may end.
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(7)")
        assert await child.wait() == 7
        assert set(threading.enumerate()) <= threads

    loop.run_until_complete(main())
    loop.close()


def test_a_child_process_makes_a_fresh_loop_of_its_own(our_loop):
    loop = our_loop()
    loop.run_until_complete(asyncio.sleep(0))
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            asyncio.events._set_running_loop(None)
            fresh = our_loop()
            fresh.run_until_complete(asyncio.sleep(0.001))
            fresh.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()


def test_the_loop_needs_neither_eventlet_nor_greenlet(our_loop):
    import subprocess

    program = (
        "import sys, asyncio, uringhub\n"
        "sys.modules['eventlet'] = sys.modules['greenlet'] = None\n"
        "uringhub.run(asyncio.sleep(0))\n"
        "uringhub.install(); asyncio.run(asyncio.sleep(0))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
