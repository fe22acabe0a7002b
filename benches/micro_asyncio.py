"""CPU time of an asyncio loop's primitives in one process: `python benches/micro_asyncio.py loop-uring`.

Prints one JSON object, microseconds of process CPU time per operation for every workload.
"""

from __future__ import annotations

import asyncio
import pathlib
import sys

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent)

from micro_process import Workloads, main
from servers.on_asyncio import make_loop

#: Each is a coroutine function that performs so many operations as it is told.
workload = Workloads("loop-")
#: So many callbacks are scheduled before the loop runs them.
BATCH = 100


def nothing() -> None:
    """A callback."""


async def nothing_either() -> None:
    """A coroutine."""


@workload("call-soon", 50_000)
async def call_soon(count: int) -> None:
    """Schedule callbacks in batches, and have them run."""
    loop = asyncio.get_running_loop()
    for _ in range(count // BATCH):
        for _ in range(BATCH):
            loop.call_soon(nothing)
        await asyncio.sleep(0)


@workload("call-later-cancel", 50_000)
async def call_later_cancel(count: int) -> None:
    """A timer that is cancelled at once, as every bounded wait makes one."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        loop.call_later(10, nothing).cancel()


@workload("sleep0", 50_000)
async def sleep(count: int) -> None:
    """sleep(0) with nobody else to run."""
    for _ in range(count):
        await asyncio.sleep(0)


@workload("create-task", 20_000)
async def create_task(count: int) -> None:
    """Make a task and wait for it."""
    for _ in range(count):
        await asyncio.create_task(nothing_either())


@workload("wait-for", 20_000)
async def wait_for(count: int) -> None:
    """A bounded wait that ends in time."""
    for _ in range(count):
        await asyncio.wait_for(nothing_either(), 10)


@workload("sleepers-20k", 20_000)
async def sleepers(count: int) -> None:
    """As many tasks as operations, each asleep once."""
    await asyncio.gather(*[asyncio.sleep(0.2) for _ in range(count)])


@workload("subprocess", 100)
async def subprocess(count: int) -> None:
    """Start a program and wait for its end; the child's own time is not counted."""
    for _ in range(count):
        process = await asyncio.create_subprocess_exec("/bin/true")
        await process.wait()


def prepare(implementation):
    """A loop, current but not running."""
    loop = make_loop(implementation.loop)
    asyncio.set_event_loop(loop)
    return lambda function, count: loop.run_until_complete(function(count))


if __name__ == "__main__":
    main(__doc__, workload, ("asyncio",), prepare)
