"""What `sock_recv`, `sock_sendall` and a reader's `read` return is a coroutine in all that a program can see of it."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import socket
import traceback
import warnings
import weakref

import pytest


@pytest.fixture
def ends():
    """A non-blocking socket and its peer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_it_is_a_coroutine_and_nothing_happens_before_it_is_awaited(loop, run, ends):
    ours, theirs = ends

    async def main():
        theirs.send(b"abc")
        receiving = loop.sock_recv(ours, 2)
        sending = loop.sock_sendall(ours, b"later")
        assert asyncio.iscoroutine(receiving) and isinstance(receiving, collections.abc.Coroutine)
        with pytest.raises(BlockingIOError):
            theirs.recv(10)
        assert ours.recv(1) == b"a"
        assert await receiving == b"bc"
        assert await sending is None
        assert theirs.recv(10) == b"later"

    run(main())


def test_it_cannot_be_awaited_twice(loop, run, ends):
    ours, theirs = ends

    async def main():
        sending = loop.sock_sendall(ours, b"once")
        await sending
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await sending
        assert theirs.recv(10) == b"once"

    run(main())


@pytest.mark.parametrize("name", ["sock_recv", "sock_sendall"])
def test_one_that_is_never_awaited_says_so(loop, ends, name):
    argument = 10 if name == "sock_recv" else b"x"
    with pytest.warns(RuntimeWarning, match=f"{name}' was never awaited"):
        getattr(loop, name)(ends[0], argument)
        gc.collect()


def test_one_that_is_closed_says_nothing_and_does_nothing(loop, run, ends):
    ours, theirs = ends

    async def main():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sending = loop.sock_sendall(ours, b"x")
            sending.close()
            sending.close()
            with pytest.raises(RuntimeError, match="cannot reuse"):
                await sending
            del sending
        with pytest.raises(BlockingIOError):
            theirs.recv(1)

    run(main())


def test_what_is_thrown_before_the_first_step_comes_out_and_ends_it(loop, ends):
    sending = loop.sock_sendall(ends[0], b"x")
    with pytest.raises(KeyError, match="thrown"):
        sending.throw(KeyError("thrown"))
    with pytest.raises(RuntimeError, match="cannot reuse"):
        sending.send(None)
    other = loop.sock_sendall(ends[0], b"x")
    with pytest.raises(TypeError, match="just-started"):
        other.send(1)
    other.close()


def test_closing_one_that_waits_forgets_it(our_loop, ends):
    ours, theirs = ends
    loop = our_loop()

    async def main():
        idle = loop.in_flight
        receiving = loop.sock_recv(ours, 10)
        receiving.send(None)
        receiving.close()
        for _ in range(3):
            await asyncio.sleep(0.001)
        assert loop.in_flight == idle
        theirs.send(b"kept")
        assert await loop.sock_recv(ours, 10) == b"kept"

    loop.run_until_complete(main())
    loop.close()


def test_it_can_be_delegated_to_by_yield_from(loop, run, ends):
    class Wrapped:
        def __await__(self):
            value = yield from loop.sock_recv(ends[0], 10).__await__()
            return value.upper()

    async def main():
        loop.call_later(0.001, ends[1].send, b"text")
        assert await Wrapped() == b"TEXT"

    run(main())


def test_tasks_of_it_end_by_result_timeout_and_cancellation(loop, run, ends):
    ours, theirs = ends

    async def main():
        task = loop.create_task(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        theirs.send(b"one")
        assert await task == b"one"
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.sock_recv(ours, 10), 0.01)
        task = loop.create_task(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        assert "sock_recv" in repr(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        theirs.send(b"two")
        assert await loop.sock_recv(ours, 10) == b"two"

    run(main())


def test_arguments_may_be_named_and_wrong_ones_are_refused(loop, run, ends):
    ours, theirs = ends

    async def main():
        await loop.sock_sendall(sock=theirs, data=bytearray(b"named"))
        buffer = bytearray(3)
        assert await loop.sock_recv_into(sock=ours, buf=buffer) == 3
        assert buffer == b"nam"
        assert await loop.sock_recv(ours, n=10) == b"ed"
        for wrong in (lambda: loop.sock_recv(ours), lambda: loop.sock_recv(ours, 1, 2)):
            with pytest.raises(TypeError):
                wrong()
        with pytest.raises(ValueError, match="negative buffersize"):
            await loop.sock_recv(ours, -1)
        with pytest.raises(TypeError):
            await loop.sock_recv(ours, "1")
        with pytest.raises(TypeError):
            await loop.sock_sendall(ours, "text")

    run(main())


@pytest.mark.parametrize("size", [1, 16 * 1024, 16 * 1024 + 1, 1 << 20])
def test_receives_of_every_size_get_every_byte(loop, run, ends, size):
    ours, theirs = ends
    payload = bytes(range(256)) * (size // 256 + 1)

    async def main():
        sending = loop.create_task(loop.sock_sendall(theirs, payload))
        received = bytearray()
        while len(received) < len(payload):
            piece = await loop.sock_recv(ours, size)
            assert 0 < len(piece) <= size
            received += piece
        await sending
        assert received == payload

    run(main())


def test_an_error_of_the_socket_has_the_place_that_awaits_in_its_traceback(loop, run, ends):
    ours, _ = ends

    async def main():
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(BrokenPipeError) as raised:
            await loop.sock_sendall(ours, b"x")
        assert "await loop.sock_sendall" in "".join(traceback.format_exception(raised.value))

    run(main())


def abandon(loop, ours):
    """Leaves a receive waiting on a loop that is closed; a weak reference to it."""

    async def main():
        task = loop.create_task(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        task._log_destroy_pending = False
        return weakref.ref(task.get_coro())

    abandoned = loop.run_until_complete(main())
    loop.close()
    return abandoned


def test_one_that_is_abandoned_while_it_waits_is_collected(our_loop, ends):
    abandoned = abandon(our_loop(), ends[0])
    gc.collect()
    assert abandoned() is None


def test_call_soon_of_a_loop_is_a_method_like_others(our_loop):
    loop = our_loop()
    seen = []
    assert loop.call_soon is loop.call_soon
    assert type(loop).call_soon.__name__ == "call_soon"
    type(loop).call_soon(loop, seen.append, 1)
    loop.call_soon(seen.append, 2)
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == [1, 2]
    with pytest.raises(TypeError):
        type(loop).call_soon(object(), seen.append)
    with pytest.raises(TypeError):
        loop.call_soon()
    loop.close()
    kept = weakref.ref(loop)
    del loop
    gc.collect()
    assert kept() is None
