"""CPU time of scheduling primitives in one process: `python benches/micro.py epolls`.

Prints one JSON object, microseconds of process CPU time per operation for every workload. The
workloads are written once; what differs between Eventlet and gevent is in `micro_api.py`.
"""

from __future__ import annotations

import pathlib
import sys

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent)

from micro_process import Workloads, main
from servers.serve import install_policy

#: Each performs so many operations as it is told, with the calls of an API.
workload = Workloads()


def nothing() -> None:
    """A Python function to spawn."""


@workload("sleep0-alone", 20_000)
def sleep_alone(api, count: int) -> None:
    """sleep(0) with nobody else to run."""
    for _ in range(count):
        api.sleep(0)


def _sleepers_at_zero(api, threads: int, count: int) -> None:
    def run():
        for _ in range(count // threads):
            api.sleep(0)

    for handle in [api.spawn(run) for _ in range(threads)]:
        api.wait(handle)


@workload("sleep0-switch", 20_000)
def sleep_switch(api, count: int) -> None:
    """sleep(0) that switches to the only other green thread."""
    _sleepers_at_zero(api, 2, count)


@workload("sleep0-100", 20_000)
def sleep_hundred(api, count: int) -> None:
    """sleep(0) in a hundred green threads."""
    _sleepers_at_zero(api, 100, count)


@workload("spawn-wait", 4_000)
def spawn_wait(api, count: int) -> None:
    """Spawn a Python function and wait for its result."""
    for _ in range(count):
        api.wait(api.spawn(nothing))


@workload("pool-spawn_n", 4_000)
def pool_spawn_n(api, count: int) -> None:
    """GreenPool(100).spawn_n, then waitall."""
    pool = api.pool(100)
    for _ in range(count):
        api.pool_spawn_n(pool, nothing)
    api.pool_wait(pool)


@workload("pool-spawn", 4_000)
def pool_spawn(api, count: int) -> None:
    """GreenPool(100).spawn, then waitall."""
    pool = api.pool(100)
    for _ in range(count):
        pool.spawn(nothing)
    api.pool_wait(pool)


@workload("timeout", 20_000)
def timeout(api, count: int) -> None:
    """Enter and leave `with Timeout(10)`."""
    for _ in range(count):
        with api.Timeout(10):
            pass


@workload("sleepers-20k", 20_000)
def sleepers(api, count: int) -> None:
    """As many green threads as operations, each asleep once."""
    for handle in [api.spawn(api.sleep, 0.2) for _ in range(count)]:
        api.wait(handle)


@workload("sleepers-20k-python", 20_000)
def sleepers_python(api, count: int) -> None:
    """The same, each inside a Python function of its own, which needs a data stack."""

    def run():
        api.sleep(0.2)

    for handle in [api.spawn(run) for _ in range(count)]:
        api.wait(handle)


@workload("queue-1", 10_000)
def queue(api, count: int) -> None:
    """Hand items through Queue(1)."""
    items = api.Queue(1)

    def put():
        for item in range(count):
            items.put(item)

    producer = api.spawn(put)
    for _ in range(count):
        items.get()
    api.wait(producer)


@workload("event", 5_000)
def event(api, count: int) -> None:
    """Wait for a one-shot event that another green thread sends, then give way."""
    events = [api.Event() for _ in range(count)]

    def send():
        for one in events:
            api.event_send(one)
            api.sleep(0)

    sender = api.spawn(send)
    for one in events:
        api.event_wait(one)
    api.wait(sender)


@workload("semaphore", 10_000)
def semaphore(api, count: int) -> None:
    """Two green threads contend for Semaphore(1) and give way inside."""
    lock = api.Semaphore(1)

    def run():
        for _ in range(count // 2):
            with lock:
                api.sleep(0)

    for handle in [api.spawn(run) for _ in range(2)]:
        api.wait(handle)


def _round_trips(api, count: int, timeout_s: float | None) -> None:
    near, far = api.socket.socketpair()
    near.settimeout(timeout_s)
    far.settimeout(timeout_s)

    def answer():
        while data := far.recv(4096):
            far.sendall(data)

    server = api.spawn(answer)
    for _ in range(count):
        near.sendall(b"x" * 64)
        near.recv(4096)
    near.close()
    api.wait(server)
    far.close()


@workload("recv", 4_000)
def recv(api, count: int) -> None:
    """Round trip of 64 B over a socket pair: two sends, two receives that wait."""
    _round_trips(api, count, None)


@workload("recv-settimeout", 4_000)
def recv_settimeout(api, count: int) -> None:
    """The same after settimeout(30) on both ends."""
    _round_trips(api, count, 30.0)


@workload("worlds-ping-pong", 10_000)
def worlds_ping_pong(api, count: int) -> None:
    """A green thread and a task hand a ball to and fro: what the task waits on is asyncio's, what the green
    thread waits on is Eventlet's, and each is filled from the other world."""
    to_task, to_green = api.task_queue(), api.Queue()

    async def return_it():
        for _ in range(count):
            to_green.put_nowait(await to_task.get())

    task = api.create_task(return_it())
    for ball in range(count):
        to_task.put_nowait(ball)
        to_green.get()
    api.wait_for_task(task)


@workload("worlds-await", 5_000)
def worlds_await(api, count: int) -> None:
    """A green thread waits for a coroutine that waits once, by the one call that the library has for it."""

    async def wait_once():
        await api.task_sleep(0)

    for _ in range(count):
        api.wait_for_task(wait_once())


def prepare(implementation):
    """The library's calls, under the hub that it is about."""
    install_policy(implementation.policy)
    import micro_api

    api = micro_api.load(implementation.library)
    return lambda function, count: function(api, count)


if __name__ == "__main__":
    main(__doc__, workload, ("eventlet", "gevent"), prepare)
