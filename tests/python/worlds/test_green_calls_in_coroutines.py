"""Green code in a coroutine suspends that task alone.

The old limitation, from eventlet's documentation of ``spawn_for_awaitable``: "The coroutine/future/etc. don't run
in their own greenlet. As a result, things like ``eventlet.Lock`` won't work correctly inside async functions."
On eventlet's asyncio hub a green call in a coroutine blocks or breaks the hub.
"""

from __future__ import annotations

import sys

import pytest

SLEEP = """
async def sleeper(number, done):
    eventlet.sleep(0.05)
    assert asyncio.current_task().get_name() == str(number)
    await asyncio.sleep(0)
    done.append(number)

async def main():
    done, beats = [], []
    async def beat():
        while len(done) < 20:
            beats.append(1)
            await asyncio.sleep(0.002)
    tasks = [asyncio.create_task(sleeper(n, done), name=str(n)) for n in range(20)]
    await asyncio.gather(beat(), *tasks)
    return done, len(beats)

begin = time.monotonic()
done, beats = run(main())
assert done == list(range(20)) and beats > 3, (done, beats)
assert time.monotonic() - begin < 0.5
"""

SEMAPHORE = """
from eventlet.semaphore import Semaphore

async def main():
    lock, inside, order = Semaphore(1), [], []
    async def visit(number):
        with lock:
            inside.append(number)
            assert inside == [number]
            await asyncio.sleep(0.005)
            eventlet.sleep(0.005)
            inside.remove(number)
        order.append(number)
    def green():
        with lock:
            assert not inside
            eventlet.sleep(0.005)
            order.append("green")
    green_thread = eventlet.spawn(green)
    await asyncio.gather(*[visit(n) for n in range(4)])
    await green_thread
    return order

order = run(main())
assert sorted(map(str, order)) == ["0", "1", "2", "3", "green"], order
"""

RLOCK = """
eventlet.monkey_patch()
import threading

async def main():
    lock, inside = threading.RLock(), []
    async def visit(number):
        for _ in range(3):
            with lock:
                await asyncio.sleep(0.001)
                with lock:
                    inside.append(number)
                    assert inside == [number], inside
                    await asyncio.sleep(0.001)
                    eventlet.sleep(0.001)
                    inside.remove(number)
            await asyncio.sleep(0)
    await asyncio.gather(*[visit(n) for n in range(5)])

run(main())
"""

QUEUE = """
from eventlet.queue import Queue

async def main():
    queue, got = Queue(1), []
    async def consume():
        for _ in range(50):
            got.append(queue.get())
            await asyncio.sleep(0)
    async def produce():
        for item in range(25):
            queue.put(item)
    def produce_green():
        for item in range(25, 50):
            queue.put(item)
    green_thread = eventlet.spawn(produce_green)
    await asyncio.gather(consume(), produce())
    await green_thread
    return got

got = run(main())
assert sorted(got) == list(range(50))
assert [i for i in got if i < 25] == list(range(25))
"""

EVENT = """
from eventlet.event import Event

async def main():
    event = Event()
    async def wait():
        return event.wait()
    waiting = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0.01)
    eventlet.spawn_after(0.01, event.send, "sent")
    return await asyncio.gather(*waiting)

assert run(main()) == ["sent"] * 3
"""

PATCHED_CALLS = """
eventlet.monkey_patch()
import socket, subprocess, time

async def main():
    ours, theirs = socket.socketpair()
    async def receive():
        return ours.recv(100)
    async def nap():
        time.sleep(0.05)
        return "napped"
    async def child():
        return subprocess.check_output(["sh", "-c", "sleep 0.05; echo out"])
    async def send():
        await asyncio.sleep(0.02)
        theirs.sendall(b"bytes")
    begin = time.monotonic()
    results = await asyncio.gather(receive(), nap(), child(), send())
    assert time.monotonic() - begin < 10
    return results

assert run(main()) == [b"bytes", "napped", b"out\\n", None]
"""

PROGRAMS = {
    "sleep": SLEEP,
    "semaphore": SEMAPHORE,
    "rlock": RLOCK,
    "queue": QUEUE,
    "event": EVENT,
    "patched": PATCHED_CALLS,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_green_call_suspends_its_task_alone(name, lifted):
    lifted(PROGRAMS[name])


@pytest.mark.parametrize("name", PROGRAMS)
def test_stock_hub_does_not_hold_it(name, limited):
    limited(PROGRAMS[name])


def test_plain_callback_that_blocks_does_not_hold_up_the_others(lifted):
    lifted("""
    order = []
    def slow():
        eventlet.sleep(0.02)
        order.append("slow")
    async def main():
        loop = asyncio.get_running_loop()
        loop.call_soon(slow)
        loop.call_soon(order.append, "fast")
        await asyncio.sleep(0.05)
    run(main())
    assert order == ["fast", "slow"], order
    """)


def test_reader_whose_callback_blocks_is_not_called_again_meanwhile(lifted):
    """An fd whose callback is suspended would be reported again and again, being readable all the while."""
    lifted("""
    ours, theirs = socket.socketpair()
    inside, calls = [], []
    def on_readable():
        assert not inside
        inside.append(1)
        eventlet.sleep(0.02)
        calls.append(ours.recv(1))
        inside.pop()
    async def main():
        asyncio.get_running_loop().add_reader(ours, on_readable)
        theirs.send(b"abc")
        await asyncio.sleep(0.15)
        asyncio.get_running_loop().remove_reader(ours)
    run(main())
    assert calls == [b"a", b"b", b"c"], calls
    """)


def test_protocol_that_blocks_gets_its_bytes_in_order(lifted):
    lifted("""
    received, inside = [], []
    class Slow(asyncio.Protocol):
        def data_received(self, data):
            assert not inside
            inside.append(1)
            eventlet.sleep(0.01)
            received.append(data)
            inside.pop()
    async def main():
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        transport, _ = await asyncio.get_running_loop().create_connection(Slow, sock=ours)
        for number in range(10):
            theirs.send(b"%d" % number)
            await asyncio.sleep(0.002)
        while b"".join(received) != b"0123456789":
            await asyncio.sleep(0.01)
        transport.close()
    run(main())
    """)


def test_hundreds_of_tasks_may_block_at_once(lifted):
    """Runners are pooled, and the pool grows with what is blocked and shrinks again."""
    lifted("""
    async def main():
        async def nap():
            eventlet.sleep(0.05)
            await asyncio.sleep(0.01)
            eventlet.sleep(0.01)
        for _ in range(3):
            await asyncio.gather(*[nap() for _ in range(500)])
    run(main())
    import gc, greenlet
    gc.collect()
    runners = [o for o in gc.get_objects() if type(o).__name__ == "Runner" and not o.dead]
    assert len(runners) <= 34, len(runners)
    """)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_task_may_block_inside_a_green_thread(lifted):
    """The task starts on the green thread's own stack, and blocks there."""
    lifted("""
    async def nap(number):
        eventlet.sleep(0.02)
        await asyncio.sleep(0)
        return number
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        def green(number):
            import uringhub
            return uringhub.await_(loop.create_task(nap(number)))
        greens = [eventlet.spawn(green, n) for n in range(5)]
        return [await g for g in greens]
    assert run(main()) == list(range(5))
    """)


def test_two_tasks_that_share_a_context_may_both_block(lifted):
    """With ``Context.run`` the second would fail: "cannot enter context: already entered"."""
    lifted("""
    async def main():
        loop = asyncio.get_running_loop()
        context, done = contextvars.copy_context(), []
        def nap(number):
            eventlet.sleep(0.01)
            done.append(number)
        for number in range(3):
            loop.call_soon(nap, number, context=context)
        await asyncio.sleep(0.05)
        assert done == [0, 1, 2], done
    for debug in (False, True):
        hubs.get_hub().loop.set_debug(debug)
        run(main())
    """)
