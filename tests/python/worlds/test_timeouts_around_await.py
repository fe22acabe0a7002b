"""``eventlet.Timeout`` around an ``await`` fires.

The old limitation: on eventlet's asyncio hub such a timeout is silently ignored, or its exception is thrown into
the hub's own greenlet.
"""

from __future__ import annotations

import pytest

AWAIT = """
async def main():
    future = asyncio.get_running_loop().create_future()
    try:
        with eventlet.Timeout(0.02) as timeout:
            await future
    except eventlet.Timeout as caught:
        assert caught is timeout and type(caught) is eventlet.Timeout
        assert not isinstance(caught, asyncio.CancelledError)
        assert future.cancelled()
        return "timed out"
assert run(main()) == "timed out"
"""

SILENT = """
async def main():
    with eventlet.Timeout(0.02, False):
        await asyncio.sleep(10)
    with eventlet.Timeout(0.02, False):
        eventlet.sleep(10)
    return "went on"
begin = time.monotonic()
assert run(main()) == "went on" and time.monotonic() - begin < 2
"""

GREEN_CALL = """
async def main():
    try:
        with eventlet.Timeout(0.02):
            eventlet.sleep(10)
    except eventlet.Timeout:
        return "timed out"
assert run(main()) == "timed out"
"""

PROGRAMS = {"await": AWAIT, "silent": SILENT, "green call": GREEN_CALL}


@pytest.mark.parametrize("name", PROGRAMS)
def test_timeout_fires_in_a_coroutine(name, lifted):
    lifted(PROGRAMS[name])


@pytest.mark.parametrize("name", PROGRAMS)
def test_stock_hub_does_not_hold_it(name, limited):
    limited(PROGRAMS[name])


def test_timeout_that_escapes_fails_its_task_and_does_not_cancel_it(lifted):
    lifted("""
    class Mine(Exception):
        pass
    async def escape(exception):
        with eventlet.Timeout(0.01, exception):
            await asyncio.sleep(10)
    async def main():
        for exception, expected in ((None, eventlet.Timeout), (Mine, Mine), (Mine("text"), Mine)):
            task = asyncio.create_task(escape(exception))
            await asyncio.wait([task])
            assert not task.cancelled()
            assert type(task.exception()) is expected, task.exception()
    run(main())
    """)


def test_inner_task_is_cancelled_like_by_a_cancellation(lifted):
    lifted("""
    async def main():
        async def inner():
            await asyncio.sleep(10)
        task = asyncio.create_task(inner())
        with eventlet.Timeout(0.01, False):
            await task
        await asyncio.sleep(0)
        assert task.cancelled()
    run(main())
    """)


def test_asyncio_cleans_up_after_a_timeout(lifted):
    """Its primitives clean up for ``CancelledError`` only, so on its way the exception is one as well."""
    lifted("""
    async def main():
        lock = asyncio.Lock()
        await lock.acquire()
        with eventlet.Timeout(0.01, False):
            await lock.acquire()
        lock.release()
        assert not lock.locked()
        await asyncio.wait_for(lock.acquire(), 1)

        inner = asyncio.get_running_loop().create_future()
        with eventlet.Timeout(0.01, False):
            await asyncio.wait_for(inner, 10)
        assert inner.cancelled()

        if sys.version_info >= (3, 11):
            children = []
            async def child():
                await asyncio.sleep(10)
            try:
                with eventlet.Timeout(0.01):
                    async with asyncio.TaskGroup() as group:
                        children.append(group.create_task(child()))
            except eventlet.Timeout as caught:
                assert type(caught) is eventlet.Timeout
            else:
                raise AssertionError("no timeout")
            assert children[0].cancelled()
    run(main())
    """)


def test_timeout_meets_a_task_that_is_about_to_run(lifted):
    """1. The result is there. 2. The time is up before the task has run. The result is not thrown away, and
    the timeout, cancelled meanwhile, does not strike later."""
    lifted("""
    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(50):
            future = loop.create_future()
            loop.call_soon(future.set_result, "kept")
            with eventlet.Timeout(0):
                assert await future == "kept"
            await asyncio.sleep(0)
            await asyncio.sleep(0.0001)
    run(main())
    """)


def test_cancelled_timeout_does_not_fire(lifted):
    lifted("""
    async def main():
        timeout = eventlet.Timeout(0.01)
        timeout.cancel()
        with eventlet.Timeout(0.01):
            await asyncio.sleep(0)
        await asyncio.sleep(0.03)
        return "undisturbed"
    assert run(main()) == "undisturbed"
    """)


def test_nested_timeouts_each_catch_their_own(lifted):
    lifted("""
    async def main():
        try:
            with eventlet.Timeout(0.02) as outer:
                with eventlet.Timeout(10):
                    await asyncio.sleep(10)
        except eventlet.Timeout as caught:
            assert caught is outer
        with eventlet.Timeout(10):
            try:
                with eventlet.Timeout(0.01) as inner:
                    await asyncio.sleep(10)
            except eventlet.Timeout as caught:
                assert caught is inner
            await asyncio.sleep(0.01)
        return True
    assert run(main())
    """)


def test_timeout_around_await_in_a_green_thread_cancels_what_it_waits_for(lifted):
    lifted("""
    import uringhub
    future = hubs.get_hub().loop.create_future()
    try:
        with eventlet.Timeout(0.01):
            uringhub.await_(future)
    except eventlet.Timeout:
        assert future.cancelled()
    else:
        raise AssertionError("no timeout")
    """)


def test_timeout_around_a_gather_is_reported_to_nobody_else(lifted):
    lifted("""
    import gc
    reports = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        try:
            with eventlet.Timeout(0.01):
                await asyncio.gather(asyncio.sleep(10), asyncio.sleep(10))
        except eventlet.Timeout:
            pass
        await asyncio.sleep(0.01)
        gc.collect()
        await asyncio.sleep(0)
        return reports
    assert run(main()) == []
    """)
