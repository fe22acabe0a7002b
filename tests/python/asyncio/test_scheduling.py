"""Handles and timers: order, cancelling, what monitors see, what a failing callback does."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import socket
import threading
import weakref

import pytest


def test_callbacks_run_in_the_order_they_were_scheduled_whatever_the_thread_method(loop):
    seen = []
    for number in range(6):
        schedule = loop.call_soon_threadsafe if number % 2 else loop.call_soon
        schedule(seen.append, number)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == list(range(6))


def test_a_callback_scheduled_by_a_callback_runs_in_the_next_turn(loop):
    seen = []
    loop.call_soon(lambda: (seen.append("first"), loop.call_soon(seen.append, "third")))
    loop.call_soon(seen.append, "second")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["first", "second"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["first", "second", "third"]


def test_timers_fire_by_time_and_never_early(loop):
    seen = []

    def note(name, when):
        seen.append((name, loop.time() >= when))

    now = loop.time()
    for name, delay in (("late", 0.02), ("early", 0.01), ("now", 0)):
        loop.call_at(now + delay, note, name, now + delay)
    loop.call_later(0.03, loop.stop)
    loop.run_forever()
    assert seen == [("now", True), ("early", True), ("late", True)]


def test_a_cancelled_handle_neither_runs_nor_keeps_its_callback_alive(loop):
    class Callback:
        def __call__(self):
            raise AssertionError("cancelled")

    for schedule in (loop.call_soon, lambda callback: loop.call_later(0.001, callback)):
        callback = Callback()
        alive = weakref.ref(callback)
        handle = schedule(callback)
        del callback
        handle.cancel()
        assert handle.cancelled()
        gc.collect()
        assert alive() is None
    loop.call_later(0.01, loop.stop)
    loop.run_forever()


def test_handles_are_the_stock_classes_and_show_their_callback(loop):
    plain = loop.call_soon(print, "x")
    timer = loop.call_later(5, print, "x")
    assert isinstance(plain, asyncio.Handle) and isinstance(timer, asyncio.TimerHandle)
    assert "print(" in repr(plain) and "print(" in repr(timer)
    assert timer.when() > loop.time()
    plain.cancel()
    timer.cancel()
    assert "cancelled" in repr(timer)


def test_a_monitor_that_replaces_run_sees_every_callback(loop, monkeypatch):
    seen = []
    stock_run = asyncio.Handle._run

    def run(handle):
        seen.append(handle._callback)
        return stock_run(handle)

    monkeypatch.setattr(asyncio.events.Handle, "_run", run)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert loop.stop in seen


def test_a_failing_callback_reaches_the_exception_handler_and_the_loop_goes_on(loop):
    seen = []
    loop.set_exception_handler(lambda _loop, context: seen.append(context))
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(loop.stop)
    loop.run_forever()
    (context,) = seen
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["message"].startswith("Exception in callback ")
    assert isinstance(context["handle"], asyncio.Handle)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_process_leaves_the_loop_usable(loop, error):
    def end():
        raise error

    loop.call_soon(end)
    with pytest.raises(error):
        loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_a_context_that_is_entered_twice_is_reported_not_lost(loop):
    import contextvars

    seen = []
    loop.set_exception_handler(lambda _loop, context: seen.append(context["exception"]))
    context = contextvars.copy_context()
    loop.call_soon(lambda: context.run(lambda: None), context=context)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert [type(error) for error in seen] == [RuntimeError]


def test_another_thread_wakes_a_waiting_loop(loop, run):
    async def main():
        event = asyncio.Event()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(event.set,))
        asyncio.get_running_loop().call_later(0.01, thread.start)
        await event.wait()
        thread.join()

    run(main())


def test_more_readers_than_the_queue_takes_are_added_here_and_run_there(loop):
    # 1. This thread adds more readers than a ring has submission entries, and removes some. 2. Another one runs
    # the loop.
    pairs = [socket.socketpair() for _ in range(150)]
    removed = [socket.socketpair() for _ in range(150)]
    heard = []

    def hear(end):
        heard.append(end.recv(1))
        if len(heard) == len(pairs):
            loop.stop()

    for (near, far), (other, _) in zip(pairs, removed, strict=True):
        loop.add_reader(other, pytest.fail, "removed")
        loop.add_reader(near, hear, near)
        far.send(b"x")
    for near, far in removed:
        loop.remove_reader(near)
        far.send(b"x")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(loop.run_forever).result(10)
    assert heard == [b"x"] * len(pairs)
    for near, far in pairs + removed:
        loop.remove_reader(near)
        near.close()
        far.close()


def test_connections_of_a_loop_that_moved_to_another_thread_are_closed_there(loop):
    # 1. A loop with many connections stops here. 2. It runs there, and closes them. 3. The peers see it.
    pairs = [socket.socketpair() for _ in range(12)]

    async def connect():
        made = [await loop.create_connection(asyncio.Protocol, sock=near) for near, _ in pairs]
        # Until each of them receives.
        await asyncio.sleep(0)
        return [transport for transport, _ in made]

    async def close(transports):
        for transport in transports:
            transport.close()

    transports = loop.run_until_complete(connect())
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(loop.run_until_complete, close(transports)).result(10)
    for _, far in pairs:
        far.settimeout(5)
        assert far.recv(1) == b""
        far.close()


def test_a_loop_made_here_runs_there_and_is_closed_here(new_loop):
    loop = new_loop()
    loop.run_until_complete(asyncio.sleep(0))
    seen = []

    def serve():
        asyncio.set_event_loop(loop)
        loop.call_soon(seen.append, threading.get_ident())
        loop.run_forever()

    for _ in range(2):
        thread = threading.Thread(target=serve)
        thread.start()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        assert not thread.is_alive()
    assert len(seen) == 2
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()


def test_a_closed_loop_says_so(loop):
    loop.close()
    for call in (
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_soon_threadsafe(print),
        loop.run_forever,
    ):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            call()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda loop: loop.call_later(None, print), TypeError),
        # Python 3.10 asserts it.
        (lambda loop: loop.call_at(None, print), (TypeError, AssertionError)),
        (lambda loop: loop.call_soon(), TypeError),
        (lambda loop: loop.call_later("1", print), TypeError),
    ],
)
def test_wrong_arguments_raise_what_the_stock_loop_raises(loop, call, error):
    with pytest.raises(error):
        call(loop)


def test_debug_mode_names_the_slow_callback_and_forbids_foreign_threads(loop, caplog):
    import time

    loop.set_debug(True)
    loop.slow_callback_duration = 0.001

    def lazy():
        time.sleep(0.002)

    loop.call_soon(lazy)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert any("lazy" in record.message and "took" in record.message for record in caplog.records)
    errors = []

    def foreign():
        try:
            loop.call_soon(print)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=foreign)
    loop.call_soon(thread.start)
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    thread.join()
    assert errors == ["Non-thread-safe operation invoked on an event loop other than the current one"]


def test_debug_mode_names_the_line_that_made_a_task_or_handle(loop):
    loop.set_debug(True)

    async def nothing():
        pass

    made = [loop.create_task(nothing()), loop.call_soon(print), loop.call_later(5, print)]
    for thing in made:
        assert thing._source_traceback[-1].filename == __file__
    made[1].cancel()
    made[2].cancel()
    loop.run_until_complete(made[0])
