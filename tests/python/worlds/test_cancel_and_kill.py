"""Cancelling a task and killing a green thread reach across, also with an operation in flight.

The old limitation: a task that is in green code cannot be cancelled there, and the exception of the one world may
end up in the hub's own greenlet.
"""

from __future__ import annotations

import pytest

CANCEL_BLOCKED = """
async def main():
    seen = []
    async def block():
        try:
            eventlet.sleep(10)
        except asyncio.CancelledError as error:
            seen.append(error.args)
            raise
    task = asyncio.create_task(block())
    await asyncio.sleep(0.01)
    assert task.cancel("why")
    await asyncio.wait([task])
    assert task.cancelled() and seen == [("why",)], (task, seen)
run(main())
"""

CANCEL_IN_RECV = """
from eventlet.green import socket as green_socket
async def main():
    ours, theirs = green_socket.socketpair()
    async def receive():
        return ours.recv(100)
    task = asyncio.create_task(receive())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    theirs.sendall(b"for the next")
    assert ours.recv(100) == b"for the next"
run(main())
"""

PROGRAMS = {"blocked": CANCEL_BLOCKED, "in recv": CANCEL_IN_RECV}


@pytest.mark.parametrize("name", PROGRAMS)
def test_task_is_cancelled_where_it_blocks(name, lifted):
    lifted(PROGRAMS[name])


@pytest.mark.parametrize("name", PROGRAMS)
def test_stock_hub_does_not_hold_it(name, limited):
    limited(PROGRAMS[name])


def test_asyncio_timeouts_reach_into_green_code_and_leave_nothing_behind(lifted):
    """A cancellation that the C task only notes would come once more at its next step."""
    lifted("""
    async def main():
        async def block():
            eventlet.sleep(10)
        try:
            await asyncio.wait_for(block(), 0.02)
        except asyncio.TimeoutError:
            pass
        else:
            raise AssertionError("no timeout")
        if sys.version_info >= (3, 11):
            for _ in range(2):
                try:
                    async with asyncio.timeout(0.02):
                        eventlet.sleep(10)
                except TimeoutError:
                    assert asyncio.current_task().cancelling() == 0
                else:
                    raise AssertionError("no timeout")
                await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        return "undisturbed"
    assert run(main()) == "undisturbed"
    """)


def test_cancel_that_meets_a_wake_up_is_not_lost(lifted):
    """1. The task is woken. 2. It is cancelled before it has run. It is cancelled at its next await."""
    lifted("""
    from eventlet.event import Event
    async def main():
        event, seen = Event(), []
        async def block():
            seen.append(event.wait())
            await asyncio.sleep(10)
        task = asyncio.create_task(block())
        await asyncio.sleep(0.01)
        event.send("woken")
        task.cancel()
        await asyncio.wait([task], timeout=2)
        assert task.cancelled(), task
    run(main())
    """)


def test_task_may_go_on_after_it_was_cancelled_in_green_code(lifted):
    lifted("""
    async def main():
        async def stubborn():
            for _ in range(2):
                try:
                    eventlet.sleep(10)
                except asyncio.CancelledError:
                    pass
            await asyncio.sleep(0.01)
            return "finished"
        task = asyncio.create_task(stubborn())
        for _ in range(2):
            await asyncio.sleep(0.01)
            task.cancel()
        assert await task == "finished"
    run(main())
    """)


def test_cancelling_an_await_kills_the_green_thread_in_its_recv(lifted):
    lifted("""
    from eventlet.green import socket as green_socket
    from greenlet import GreenletExit
    async def main():
        ours, theirs = green_socket.socketpair()
        ended = []
        def receive():
            try:
                ours.recv(100)
            except GreenletExit:
                ended.append("killed")
                raise
        green = eventlet.spawn(receive)
        async def wait():
            await green
        task = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0.01)
        assert ended == ["killed"] and green.dead
        theirs.sendall(b"kept")
        assert ours.recv(100) == b"kept"
    run(main())
    """)


def test_killing_the_green_thread_cancels_the_coroutine_in_its_receive(lifted):
    lifted("""
    async def main_of_it(reader, cancelled):
        try:
            await reader.read(100)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise
    ours, theirs = socket.socketpair()
    cancelled = []
    async def go():
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            await main_of_it(reader, cancelled)
        finally:
            writer.close()
    green = spawn_for_awaitable(go())
    eventlet.sleep(0.02)
    green.kill()
    eventlet.sleep(0.02)
    assert cancelled == [1] and green.dead
    """)


def test_kill_before_the_start_cancels_too(lifted):
    lifted("""
    future = hubs.get_hub().loop.create_future()
    spawn_for_awaitable(future).kill()
    eventlet.sleep(0)
    assert future.cancelled()
    """)


def test_coroutine_may_kill_a_green_thread_and_itself_go_on(lifted):
    lifted("""
    async def main():
        log = []
        def green():
            try:
                eventlet.sleep(10)
            finally:
                log.append(asyncio.current_task())
        thread = eventlet.spawn(green)
        await asyncio.sleep(0.01)
        me = asyncio.current_task()
        thread.kill()
        assert asyncio.current_task() is me
        assert log == [None], log
        await asyncio.sleep(0.001)
        return True
    assert run(main())
    """)


def test_killed_coroutine_ends_with_the_exit(lifted):
    lifted("""
    from greenlet import GreenletExit
    async def main():
        greenlets = []
        async def block():
            greenlets.append(eventlet.getcurrent())
            eventlet.sleep(10)
        task = asyncio.create_task(block())
        await asyncio.sleep(0.01)
        eventlet.kill(greenlets[0])
        await asyncio.wait([task])
        assert isinstance(task.exception(), GreenletExit)
        await asyncio.sleep(0.01)
    run(main())
    """)
