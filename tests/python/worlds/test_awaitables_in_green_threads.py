"""A green thread waits for any awaitable by one call, ``uringhub.await_``, without another green thread.

The old limitation: eventlet has ``spawn_for_awaitable`` only, a new green thread for each thing to wait for, and
asyncio's locks, queues and events cannot be used in a green thread.
"""

from __future__ import annotations

import pytest

PROGRAMS = {
    "lock": """
        async def main():
            lock = asyncio.Lock()
            order = []
            def green(name):
                uringhub.await_(lock.acquire())
                order.append(name)
                eventlet.sleep(0.001)
                lock.release()
            async def task(name):
                async with lock:
                    order.append(name)
                    await asyncio.sleep(0.001)
            greens = [eventlet.spawn(green, n) for n in range(3)]
            await asyncio.gather(*[task(n) for n in range(3, 6)])
            [await g for g in greens]
            assert sorted(order) == list(range(6)), order
        run(main())
        """,
    "queue": """
        queue = asyncio.Queue(1)
        async def produce():
            for item in range(100):
                await queue.put(item)
        eventlet.spawn(lambda: uringhub.await_(produce()))
        assert [uringhub.await_(queue.get()) for _ in range(100)] == list(range(100))
        """,
    "event": """
        event = asyncio.Event()
        async def fire():
            await asyncio.sleep(0.01)
            event.set()
        greens = [eventlet.spawn(uringhub.await_, event.wait()) for _ in range(3)]
        uringhub.await_(fire())
        assert [g.wait() for g in greens] == [True] * 3
        """,
    "future": """
        future = hubs.get_hub().loop.create_future()
        eventlet.spawn_after(0.01, future.set_result, "result")
        assert uringhub.await_(future) == "result"
        assert uringhub.await_(future) == "result"
        """,
    "gather": """
        async def value(v):
            await asyncio.sleep(0.01)
            return v
        async def several():
            return await asyncio.gather(value(1), value(2))
        assert uringhub.await_(several()) == [1, 2]
        """,
    "a plain function in a coroutine": """
        async def beat():
            for _ in range(3):
                await asyncio.sleep(0.001)
            return asyncio.current_task()
        def plain(task):
            return uringhub.await_(task)
        async def main():
            me = asyncio.current_task()
            other = asyncio.create_task(beat())
            assert plain(other) is other
            assert asyncio.current_task() is me
        run(main())
        """,
    "run_until_complete": """
        async def value():
            await asyncio.sleep(0.01)
            return 7
        loop = asyncio.get_event_loop_policy().get_event_loop()
        green = eventlet.spawn(loop.run_until_complete, value())
        assert loop.run_until_complete(value()) == 7
        assert green.wait() == 7
        """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_green_thread_waits_for(name, lifted):
    lifted("import uringhub\n" + PROGRAMS[name].replace("\n        ", "\n"))


def test_exception_and_traceback_cross_intact_in_both_directions(lifted):
    lifted("""
    import traceback, uringhub
    class Mine(Exception):
        pass
    def deep():
        raise Mine("text")
    def names(error):
        return [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    error = Mine("same object")
    async def coroutine():
        await asyncio.sleep(0)
        deep()
    async def same():
        raise error
    try:
        uringhub.await_(coroutine())
    except Mine as caught:
        assert names(caught)[-2:] == ["coroutine", "deep"], names(caught)
    try:
        uringhub.await_(same())
    except Mine as caught:
        assert caught is error
    async def main():
        try:
            await eventlet.spawn(deep)
        except Mine as caught:
            assert names(caught)[-1] == "deep", names(caught)
            return True
    assert run(main())
    """)


def test_exception_of_a_callback_reaches_the_exception_handler(lifted):
    lifted("""
    seen = []
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: seen.append(context["exception"]))
        def fail():
            eventlet.sleep(0.001)
            raise ValueError("after blocking")
        loop.call_soon(fail)
        await asyncio.sleep(0.02)
    run(main())
    assert [str(error) for error in seen] == ["after blocking"]
    """)


def test_keyboard_interrupt_in_a_coroutine_reaches_the_main_program(lifted):
    lifted("""
    async def main():
        eventlet.sleep(0.001)
        raise KeyboardInterrupt
    try:
        run(main())
    except KeyboardInterrupt:
        print("interrupted")
    """)


def test_hub_greenlet_must_not_wait(lifted):
    lifted("""
    import uringhub
    errors = []
    def callback():
        coroutine = asyncio.sleep(0)
        try:
            uringhub.await_(coroutine)
        except RuntimeError as error:
            errors.append(str(error))
            coroutine.close()
    hubs.get_hub().schedule_call_global(0, callback)
    eventlet.sleep(0.01)
    assert errors == ["do not call blocking functions from the mainloop"], errors
    """)
