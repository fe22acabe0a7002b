"""``uringhub.sync``: green threads, tasks and OS threads wait on the same lock, event, queue or semaphore.

The old limitation: a lock of the one world blocks or breaks the other, so that programs poll (oslo.log every 0.1 ms).
"""

from __future__ import annotations

import subprocess
import sys

import isolated
import pytest

# Five kinds of waiters, each with a function that runs `work(step)` in it, where `step` acquires or gets.
WORLDS = """
from eventlet.patcher import original
from uringhub import sync
import uringhub
_threading = original("threading")

def in_green_threads(bodies):
    return [eventlet.spawn(body) for body in bodies]

def in_thread(target):
    thread = _threading.Thread(target=target)
    thread.start()
    return thread

async def as_task(body_async):
    return await body_async()
"""


@pytest.fixture
def both(lifted):
    return lambda program, **options: lifted(WORLDS + _dedent(program), **options)


def _dedent(program: str) -> str:
    import textwrap

    return textwrap.dedent(program)


def test_lock_excludes_green_threads_tasks_and_threads(both):
    both("""
    lock, inside, done = sync.Lock(), [], []
    ROUNDS = 40
    def blocking(name, nap):
        for _ in range(ROUNDS):
            with lock:
                assert not inside, inside
                inside.append(name)
                nap()
                inside.remove(name)
        done.append(name)
    async def awaiting(name):
        for _ in range(ROUNDS):
            async with lock:
                assert not inside, inside
                inside.append(name)
                await asyncio.sleep(0)
                inside.remove(name)
        done.append(name)
    async def blocking_in_a_task(name):
        blocking(name, lambda: eventlet.sleep(0))
    async def main():
        threads = [in_thread(lambda n=n: blocking(("thread", n), lambda: time.sleep(0.0001))) for n in range(2)]
        loops = [in_thread(lambda n=n: asyncio.new_event_loop().run_until_complete(awaiting(("loop", n))))
                 for n in range(2)]
        greens = [eventlet.spawn(blocking, ("green", n), lambda: eventlet.sleep(0)) for n in range(2)]
        await asyncio.gather(*[awaiting(("task", n)) for n in range(2)], blocking_in_a_task("blocking task"))
        [await g for g in greens]
        return threads + loops
    for thread in run(main()):
        while thread.is_alive():
            eventlet.sleep(0.001)
    assert len(done) == 9, done
    assert not lock.locked() and "waiters=0" in repr(lock)
    """)


def test_lock_is_passed_on_in_the_order_of_arrival(both):
    both("""
    lock, order = sync.Lock(), []
    lock.acquire()
    def green(name):
        with lock:
            order.append(name)
    async def task(name):
        async with lock:
            order.append(name)
    async def main():
        waiting = []
        for number in range(6):
            waiting.append(eventlet.spawn(green, number) if number % 2 else asyncio.create_task(task(number)))
            await asyncio.sleep(0.002)
        lock.release()
        [await w for w in waiting]
    run(main())
    assert order == list(range(6)), order
    """)


def test_event_wakes_all_worlds(both):
    both("""
    event, woken = sync.Event(), []
    async def wait_async(name):
        assert await event.wait_async()
        woken.append(name)
    def wait(name):
        assert event.wait(5)
        woken.append(name)
    thread = in_thread(lambda: wait("thread"))
    loop = in_thread(lambda: asyncio.new_event_loop().run_until_complete(wait_async("loop")))
    green = eventlet.spawn(wait, "green")
    async def main():
        task = asyncio.create_task(wait_async("task"))
        await asyncio.sleep(0.02)
        assert not woken
        in_thread(event.set)
        await task
        await green
    run(main())
    while thread.is_alive() or loop.is_alive():
        eventlet.sleep(0.001)
    assert sorted(woken) == ["green", "loop", "task", "thread"]
    assert event.is_set() and event.wait(0)
    event.clear()
    assert not event.wait(0.01)
    """)


@pytest.mark.parametrize("maxsize", [0, 1, 7])
def test_queue_carries_every_item_once_between_all_worlds(maxsize, both):
    both(
        f"""
    MAXSIZE = {maxsize}
    """
        + """
    queue, got = sync.Queue(MAXSIZE), []
    PRODUCERS, ITEMS = 4, 60
    def produce(name):
        for number in range(ITEMS):
            queue.put((name, number))
    async def produce_async(name):
        for number in range(ITEMS):
            await queue.put_async((name, number))
    def consume():
        while (item := queue.get()) is not None:
            got.append(item)
            queue.task_done()
    async def consume_async():
        while (item := await queue.get_async()) is not None:
            got.append(item)
            queue.task_done()
    async def main():
        threads = [in_thread(consume), in_thread(lambda: produce("thread")),
                   in_thread(lambda: asyncio.new_event_loop().run_until_complete(produce_async("loop")))]
        greens = [eventlet.spawn(consume)]
        tasks = [asyncio.create_task(consume_async()) for _ in range(2)]
        produce_green = eventlet.spawn(produce, "green")
        await produce_async("task")
        await produce_green
        while any(thread.is_alive() for thread in threads[1:]):
            await asyncio.sleep(0.001)
        await queue.join_async()
        for _ in range(4):
            await queue.put_async(None)
        await asyncio.gather(*tasks)
        [await g for g in greens]
        while threads[0].is_alive():
            await asyncio.sleep(0.001)
    run(main())
    assert len(got) == len(set(got)) == PRODUCERS * ITEMS, len(got)
    assert queue.empty() and not queue.full()
    """
    )


def test_nothing_is_lost_when_waiters_are_cancelled_killed_or_out_of_time(both):
    """1. A waiter is given the semaphore. 2. Before it runs it is cancelled, killed, or its time is up. It passes
    on what it was given."""
    both("""
    import random
    random.seed(7)
    semaphore = sync.Semaphore(2)
    entered = [0]
    def green(timeout):
        if semaphore.acquire(timeout=timeout):
            try:
                entered[0] += 1
                eventlet.sleep(0)
            finally:
                semaphore.release()
    async def task():
        async with semaphore:
            entered[0] += 1
            await asyncio.sleep(0)
    async def main():
        for round in range(60):
            greens = [eventlet.spawn(green, random.choice([None, 0.0001, 0])) for _ in range(6)]
            tasks = [asyncio.create_task(task()) for _ in range(6)]
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
            for victim in random.sample(greens, 3):
                victim.kill()
            for victim in random.sample(tasks, 3):
                victim.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for g in greens:
                try:
                    await g
                except asyncio.CancelledError:
                    pass
    run(main())
    assert entered[0] > 60
    assert repr(semaphore).endswith("value=2 waiters=0>"), semaphore
    """)


def test_a_release_from_a_thread_wakes_an_idle_hub_at_once(both):
    both("""
    lock = sync.Lock()
    lock.acquire()
    def later():
        time.sleep(0.05)
        lock.release()
    in_thread(later)
    begin = time.monotonic()
    assert lock.acquire(timeout=5)
    assert time.monotonic() - begin < 1
    """)


def test_timeouts_and_refusals(both):
    both("""
    lock = sync.Lock()
    assert lock.acquire(blocking=False) and not lock.acquire(blocking=False)
    assert not lock.acquire(timeout=0.01) and not lock.acquire(timeout=0)
    lock.release()
    for wrong, error in ((lock.release, RuntimeError), (lambda: sync.Semaphore(-1), ValueError),
                         (sync.Queue().get_nowait, sync.QueueEmpty), (sync.Queue().task_done, ValueError),
                         (lambda: sync.Queue().get(timeout=0.01), sync.QueueEmpty)):
        try:
            wrong()
        except error:
            pass
        else:
            raise AssertionError(error)
    full = sync.Queue(1)
    full.put(1)
    for put in (full.put_nowait, lambda item: full.put(item, timeout=0.01)):
        try:
            put(2)
        except sync.QueueFull:
            pass
        else:
            raise AssertionError("not full")
    assert full.full() and full.qsize() == 1 and not full.join(0.01)
    """)


def test_under_monkey_patching_made_before_and_after(both):
    both("""
    from uringhub import sync
    before = sync.Lock()
    before.acquire()
    eventlet.monkey_patch()
    after = sync.Lock()
    after.acquire()
    thread = _threading.Thread(target=lambda: (time.sleep(0.02), before.release(), after.release()))
    thread.start()
    async def main():
        await before.acquire_async()
        return after.acquire(timeout=5)
    assert run(main())
    """)


def test_waiter_of_a_closed_loop_does_not_swallow_what_it_is_given(both):
    both("""
    lock = sync.Lock()
    lock.acquire()
    def orphan():
        loop = asyncio.new_event_loop()
        task = loop.create_task(lock.acquire_async())
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        orphans.append(task)
    orphans = []
    thread = in_thread(orphan)
    while thread.is_alive():
        eventlet.sleep(0.001)
    lock.release()
    assert lock.acquire(timeout=1)
    os._exit(0)
    """)


def test_waiter_of_an_ended_thread_does_not_swallow_what_it_is_given(both):
    both("""
    from uringhub import sync
    threading = eventlet.patcher.original("threading")
    semaphore = sync.Semaphore(0)

    def leave_one_waiting():
        eventlet.spawn(semaphore.acquire)
        eventlet.sleep(0.05)

    thread = threading.Thread(target=leave_one_waiting)
    thread.start()
    thread.join()
    semaphore.release()
    assert semaphore.acquire(timeout=1)
    os._exit(0)
    """)


def test_without_eventlet_tasks_and_threads_share_them():
    """The primitives stay when eventlet goes."""
    program = """
    import asyncio, sys, threading, time
    sys.modules["eventlet"] = sys.modules["greenlet"] = None
    from uringhub import sync
    import uringhub

    queue, lock = sync.Queue(2), sync.Lock()
    def produce():
        for number in range(100):
            with lock:
                time.sleep(0)
            queue.put(number)
    async def main():
        thread = threading.Thread(target=produce)
        thread.start()
        got = []
        for _ in range(100):
            async with lock:
                await asyncio.sleep(0)
            got.append(await queue.get_async())
        thread.join()
        return got
    assert uringhub.run(main()) == list(range(100))
    """
    isolated.run(program)


def test_annotations_are_complete():
    program = """
    import inspect
    from uringhub import sync
    for name in sync.__all__:
        for method, function in vars(getattr(sync, name)).items():
            if inspect.isfunction(function):
                signature = inspect.signature(function)
                assert signature.return_annotation is not inspect.Signature.empty, (name, method)
                assert function.__doc__ or method.startswith("_"), (name, method)
    """
    assert subprocess.run([sys.executable, "-c", __import__("textwrap").dedent(program)]).returncode == 0


def test_a_queue_whose_items_are_never_told_done_keeps_nothing(both):
    both("""
    import sys
    queue = sync.Queue()
    def pass_through(count):
        for _ in range(count):
            queue.put(None)
            queue.get()
    pass_through(1000)
    before = sys.getallocatedblocks()
    pass_through(50_000)
    assert sys.getallocatedblocks() - before < 50
    queue.task_done()
    assert queue.join(timeout=0) is False
    assert sync.Semaphore(10**15).acquire(blocking=False)
    """)
