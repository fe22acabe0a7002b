"""Streams: the standard library's, with its limits, and whatever a program puts in their place is called."""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import termios
import traceback
from asyncio import streams

import pytest


class Ends:
    """A reader on a transport of the loop, its protocol, and the socket at the other end."""

    def __init__(self, loop, limit=2**16, reader_class=asyncio.StreamReader):
        self.loop = loop
        near, self.far = socket.socketpair()
        near.setblocking(False)
        self.far.setblocking(False)
        self.near = near
        self.reader = reader_class(limit=limit, loop=loop)
        self.protocol = asyncio.StreamReaderProtocol(self.reader, loop=loop)

    async def __aenter__(self):
        self.transport, _ = await self.loop.create_connection(lambda: self.protocol, sock=self.near)
        return self

    async def __aexit__(self, *_):
        self.far.close()
        self.transport.close()
        await asyncio.sleep(0)

    async def send(self, data):
        """What the other end sends, in the reader's hands when this returns."""
        before = len(self.reader._buffer)
        self.far.send(data)
        while len(self.reader._buffer) == before and self.transport.is_reading():
            await asyncio.sleep(0.001)


def test_what_comes_in_pieces_is_read_in_order(loop, run):
    async def main():
        async with Ends(loop) as ends:
            sent = b"".join(b"%d," % number for number in range(3000))
            task = loop.create_task(ends.reader.readexactly(len(sent)))
            for start in range(0, len(sent), 1000):
                await loop.sock_sendall(ends.far, sent[start : start + 1000])
                await asyncio.sleep(0)
            assert await task == sent
            ends.far.shutdown(socket.SHUT_WR)
            assert await ends.reader.read() == b""
            assert ends.reader.at_eof()

    run(main())


def test_a_line_beyond_the_limit_is_an_error_and_leaves_the_rest(loop, run):
    async def main():
        async with Ends(loop, limit=16) as ends:
            await ends.send(b"x" * 20 + b"\nshort\n")
            with pytest.raises(ValueError, match="limit"):
                await ends.reader.readline()
            assert await ends.reader.readline() == b"short\n"

    run(main())


def test_reading_is_paused_beyond_twice_the_limit_and_goes_on_below_it(loop, run):
    async def main():
        async with Ends(loop, limit=100) as ends:
            await ends.send(b"a" * 200)
            assert ends.transport.is_reading()
            await ends.send(b"b")
            assert not ends.transport.is_reading()
            assert len(await ends.reader.readexactly(50)) == 50
            assert not ends.transport.is_reading()
            assert len(await ends.reader.readexactly(51)) == 51
            assert ends.transport.is_reading()
            assert await ends.reader.readexactly(100) == b"a" * 99 + b"b"

    run(main())


def test_a_cancelled_read_loses_nothing(loop, run):
    async def main():
        async with Ends(loop) as ends:
            task = loop.create_task(ends.reader.readexactly(10))
            await asyncio.sleep(0)
            ends.far.send(b"01234")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            ends.far.send(b"56789")
            assert await ends.reader.readexactly(10) == b"0123456789"

    run(main())


def test_a_waiter_cancelled_in_the_turn_of_the_bytes_is_left_alone(loop, run):
    async def main():
        async with Ends(loop) as ends:
            task = loop.create_task(ends.reader.read(10))
            await asyncio.sleep(0)
            ends.reader._waiter.cancel()
            await ends.send(b"kept")
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await ends.reader.read(10) == b"kept"

    run(main())


def test_a_subclass_of_the_reader_gets_every_piece(loop, run):
    class Counting(asyncio.StreamReader):
        pieces = ()

        def feed_data(self, data):
            assert type(data) is bytes
            self.pieces += (data,)
            super().feed_data(data)

    async def main():
        async with Ends(loop, reader_class=Counting) as ends:
            await ends.send(b"one")
            await ends.send(b"two")
            assert ends.reader.pieces == (b"one", b"two")
            assert await ends.reader.read(10) == b"onetwo"

    run(main())


@pytest.mark.parametrize(
    ("owner", "name"),
    [("protocol", "data_received"), ("reader", "feed_data"), ("reader", "_wakeup_waiter")],
)
def test_a_function_put_on_one_instance_is_called(loop, run, owner, name):
    async def main():
        async with Ends(loop) as ends, Ends(loop) as others:
            target, calls = getattr(ends, owner), []
            original = getattr(target, name)

            def watched(*args):
                calls.append(args)
                return original(*args)

            await ends.send(b"before ")
            setattr(target, name, watched)
            await ends.send(b"after")
            await others.send(b"others")
            assert len(calls) == 1
            assert await ends.reader.read(20) == b"before after"
            assert await others.reader.read(20) == b"others"

    run(main())


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (asyncio.StreamReaderProtocol, "data_received"),
        (asyncio.StreamReader, "feed_data"),
        (asyncio.StreamReader, "_wakeup_waiter"),
        (asyncio.StreamReader, "read"),
    ],
)
def test_a_function_put_on_the_class_is_called_and_may_be_taken_off(loop, run, monkeypatch, owner, name):
    calls, original = [], getattr(owner, name)

    def watched(self, *args):
        calls.append(args)
        return original(self, *args)

    async def main():
        async with Ends(loop) as ends:
            await ends.send(b"1")
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, watched)
                await ends.send(b"2")
                if name == "read":
                    assert await ends.reader.read(1) == b"1"
            await ends.send(b"3")
            assert len(calls) == 1
            assert await ends.reader.read(20) == (b"23" if name == "read" else b"123")

    run(main())


@pytest.mark.parametrize("name", ["_wait_for_data", "exception", "_drain_helper"])
def test_what_the_methods_of_a_stream_call_may_be_replaced(loop, run, monkeypatch, name):
    owner = asyncio.StreamReaderProtocol if name == "_drain_helper" else asyncio.StreamReader
    calls, original = [], getattr(owner, name)

    def watched(self, *args):
        calls.append(args)
        return original(self, *args)

    async def use(ends, writer):
        loop.call_later(0.001, ends.far.send, b"line\n")
        assert await ends.reader.readline() == b"line\n"
        writer.write(b"x")
        await writer.drain()

    async def main():
        async with Ends(loop) as ends:
            writer = asyncio.StreamWriter(ends.transport, ends.protocol, ends.reader, loop)
            await use(ends, writer)
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, watched)
                await use(ends, writer)
            await use(ends, writer)
            assert len(calls) == 1

    run(main())


def test_only_one_may_wait_and_the_other_is_told_by_the_name_of_its_method(loop, run):
    async def main():
        async with Ends(loop) as ends:
            first = loop.create_task(ends.reader.read(10))
            await asyncio.sleep(0)
            for name, wait in {
                "read": ends.reader.read(1),
                "readexactly": ends.reader.readexactly(1),
            }.items():
                with pytest.raises(RuntimeError, match=rf"^{name}\(\) called while another coroutine"):
                    await wait
            await loop.sock_sendall(ends.far, b"first")
            assert await first == b"first"

    run(main())


def test_every_way_to_read(loop, run):
    async def main():
        async with Ends(loop) as ends:
            await ends.send(b"0123456789")
            assert await ends.reader.read(0) == b""
            assert await ends.reader.read(n=2) == b"01"
            assert await ends.reader.read(True) == b"2"
            assert await ends.reader.readexactly(3) == b"345"
            ends.far.shutdown(socket.SHUT_WR)
            assert await ends.reader.read() == b"6789"
            assert await ends.reader.read(5) == b""
            with pytest.raises(TypeError):
                await ends.reader.read("5")
            ends.reader.set_exception(OSError("set"))
            assert str(ends.reader.exception()) == "set"
            with pytest.raises(OSError, match="set"):
                await ends.reader.read(1)

    run(main())


def test_a_read_that_waits_gets_the_exception_that_is_set(loop, run):
    async def main():
        async with Ends(loop) as ends:
            task = loop.create_task(ends.reader.read(10))
            await asyncio.sleep(0)
            ends.reader.set_exception(OSError("broken"))
            with pytest.raises(OSError, match="broken"):
                await task
            assert ends.reader._waiter is None

    run(main())


def test_a_read_resumes_a_transport_that_the_reader_has_paused(loop, run):
    async def main():
        async with Ends(loop, limit=10) as ends:
            await ends.send(b"x" * 30)
            assert not ends.transport.is_reading()
            assert await ends.reader.read(15) == b"x" * 15
            assert not ends.transport.is_reading()
            assert await ends.reader.read(15) == b"x" * 15
            assert ends.transport.is_reading()

    run(main())


def test_drain_waits_while_writing_is_paused_and_fails_once_the_connection_is_lost(loop, run):
    async def main():
        async with Ends(loop) as ends:
            writer = asyncio.StreamWriter(ends.transport, ends.protocol, ends.reader, loop)
            writer.write(b"x" * 5_000_000)
            draining = loop.create_task(writer.drain())
            await asyncio.sleep(0)
            assert not draining.done()
            received = 0
            while received < 5_000_000:
                received += len(await loop.sock_recv(ends.far, 1 << 20))
            await draining
            await writer.drain()
            ends.transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(ConnectionResetError, match="Connection lost"):
                await writer.drain()

    run(main())


def test_streams_stay_instances_of_what_they_were_made_of(loop, run):
    async def main():
        async with Ends(loop) as ends:
            assert isinstance(ends.reader, asyncio.StreamReader)
            assert type(ends.reader).__name__ == "StreamReader"
            assert isinstance(ends.protocol, asyncio.StreamReaderProtocol)
            assert "StreamReader" in repr(ends.reader)

    run(main())


def test_a_transport_that_has_lost_its_connection_may_get_another_protocol(loop, run):
    async def main():
        async with Ends(loop) as ends:
            ends.transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            ends.transport.set_protocol(asyncio.StreamReaderProtocol(ends.reader, loop=loop))

    run(main())


def test_in_debug_mode_streams_are_left_to_the_standard_library(loop, run):
    async def main():
        loop.set_debug(True)
        async with Ends(loop) as ends:
            assert type(ends.reader) is asyncio.StreamReader
            await ends.send(b"bytes")
            assert await ends.reader.read(10) == b"bytes"
        loop.set_debug(False)

    run(main())


def test_a_property_put_on_the_class_is_asked(loop, run, monkeypatch):
    async def main():
        async with Ends(loop) as ends:
            await ends.send(b"mine")
            other = asyncio.StreamReader(loop=loop)
            monkeypatch.setattr(streams.StreamReaderProtocol, "_stream_reader", property(lambda self: other))
            ends.far.send(b"others")
            assert await other.read(20) == b"others"
            monkeypatch.undo()
            assert await ends.reader.read(20) == b"mine"

    run(main())


def failures(loop):
    """Collects what the exception handler is told."""
    told = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    return told


def test_bytes_after_a_fed_end_are_a_fatal_error_of_data_received(loop, run):
    async def main():
        told = failures(loop)
        async with Ends(loop) as ends:
            ends.reader.feed_eof()
            ends.far.send(b"late")
            while not told:
                await asyncio.sleep(0.001)
            assert told[0]["message"] == "Fatal error: protocol.data_received() call failed."
            assert isinstance(told[0]["exception"], AssertionError)
            assert ends.transport.is_closing()

    run(main())


def test_a_buffer_that_cannot_grow_is_a_fatal_error_of_data_received(loop, run):
    async def main():
        told = failures(loop)
        async with Ends(loop) as ends:
            await ends.send(b"first")
            view = memoryview(ends.reader._buffer)
            ends.far.send(b"second")
            while not told:
                await asyncio.sleep(0.001)
            assert isinstance(told[0]["exception"], BufferError)
            assert "feed_data" in "".join(traceback.format_exception(told[0]["exception"]))
            assert bytes(view) == b"first"
            view.release()

    run(main())


def test_bytes_for_a_reader_that_is_gone_are_dropped(loop, run):
    async def main():
        told = failures(loop)
        async with Ends(loop) as ends:
            ends.reader = None
            ends.far.send(b"for nobody")
            left = array.array("i", [1])
            while left[0]:  # What is not received yet; then it is delivered within a turn.
                fcntl.ioctl(ends.transport.get_extra_info("socket").fileno(), termios.FIONREAD, left)
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not told
            assert not ends.transport.is_closing()

    run(main())
