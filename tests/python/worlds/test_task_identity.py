"""``getcurrent()`` and green thread-locals are the same at each step of a task, and no other task's.

The old limitation: all coroutines run in the hub's own greenlet, so that "thread ids aren't meaningful" and all
tasks share their thread-locals.
"""

from __future__ import annotations

import pytest

# Ends a program: what is left of its runners are the idle ones that are kept.
FEW_RUNNERS = """
    import gc
    gc.collect()
    runners = [o for o in gc.get_objects() if type(o).__name__ == "Runner"]
    assert len(runners) <= 34, len(runners)
"""

GETCURRENT = """
async def main():
    seen = {}
    async def step(number):
        for _ in range(5):
            seen.setdefault(number, set()).add(id(eventlet.getcurrent()))
            await asyncio.sleep(0)
            eventlet.sleep(0)
    await asyncio.gather(*[step(n) for n in range(5)])
    assert all(len(ids) == 1 for ids in seen.values()), seen
    assert len(set.union(*seen.values())) == 5, seen
    assert eventlet.getcurrent() is not hubs.get_hub().greenlet
run(main())
"""

LOCALS = """
from eventlet.corolocal import local
async def main():
    store = local()
    async def work(number):
        assert not hasattr(store, "value")
        store.value = number
        for _ in range(3):
            await asyncio.sleep(0)
            assert store.value == number
            eventlet.sleep(0.001)
            assert store.value == number
    for _ in range(2):
        await asyncio.gather(*[work(n) for n in range(5)])
    assert not hasattr(store, "value")
run(main())
"""

PATCHED_LOCALS = """
eventlet.monkey_patch()
import threading
async def main():
    store = threading.local()
    async def work(number):
        store.value = number
        ident = threading.get_ident()
        await asyncio.sleep(0.001)
        time.sleep(0.001)
        assert store.value == number
        assert threading.get_ident() == ident
        return ident
    idents = await asyncio.gather(*[work(n) for n in range(5)])
    assert len(set(idents)) == 5, idents
run(main())
"""

PROGRAMS = {"getcurrent": GETCURRENT, "locals": LOCALS, "patched locals": PATCHED_LOCALS}


@pytest.mark.parametrize("name", PROGRAMS)
def test_task_is_the_same_green_thread_at_each_step(name, lifted):
    lifted(PROGRAMS[name])


@pytest.mark.parametrize("name", PROGRAMS)
def test_stock_hub_does_not_hold_it(name, limited):
    limited(PROGRAMS[name])


def test_greenlets_of_tasks_go_with_their_tasks(lifted):
    lifted(
        """
    async def ask():
        eventlet.getcurrent()
        await asyncio.sleep(0)
        eventlet.getcurrent()
    async def main():
        for _ in range(50):
            await asyncio.gather(*[ask() for _ in range(20)])
    run(main())
    """
        + FEW_RUNNERS
    )


def test_task_that_is_dropped_while_it_waits_takes_its_greenlet_along(lifted):
    lifted(
        """
    import gc
    async def ask():
        eventlet.getcurrent()
        await asyncio.get_running_loop().create_future()
    async def main():
        for _ in range(100):
            asyncio.create_task(ask())
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        gc.collect()
        await asyncio.sleep(0.01)
    run(main())
    """
        + FEW_RUNNERS
    )


def test_callback_about_a_blocked_task_does_not_disturb_it(lifted):
    """``loop.call_soon(task.get_name)`` is bound to the task, and is not one of its steps."""
    lifted("""
    from eventlet.event import Event
    async def main():
        rest = Event()
        async def nap():
            eventlet.getcurrent()
            return rest.wait()
        task = asyncio.create_task(nap())
        await asyncio.sleep(0.005)
        loop = asyncio.get_running_loop()
        for _ in range(5):
            loop.call_soon(task.get_name)
            await asyncio.sleep(0)
        assert not task.done()
        rest.send("rested")
        return await task
    assert run(main()) == "rested"
    """)


def test_greenlet_that_a_coroutine_makes_comes_back_to_that_coroutine(lifted):
    """1. A coroutine runs plain code in a greenlet, as SQLAlchemy and awaitlet do. 2. That blocks in the green
    world, then switches to the greenlet it was made in. The coroutine, by now at a later step, must be there."""
    lifted("""
    from greenlet import getcurrent, greenlet
    def plain(number):
        eventlet.sleep(0.001 * number)
        assert getcurrent().parent.switch(asyncio.sleep(0.001, number)) == number
        eventlet.sleep(0.001)
        return getcurrent().parent.switch(asyncio.sleep(0.001, number + 1))
    async def drive(number):
        child = greenlet(plain)
        result = child.switch(number)
        while not child.dead:
            result = child.switch(await result)
        return result
    async def block():
        eventlet.sleep(0.002)
    async def main():
        blocking = [asyncio.create_task(block()) for _ in range(10)]
        results = await asyncio.gather(*[drive(n) for n in range(10)])
        await asyncio.gather(*blocking)
        return results
    assert run(main()) == list(range(1, 11))
    """)
