"""CPU time of an asyncio loop's primitives in one process: `python benches/micro_asyncio.py loop-uring`.

Prints one JSON object, microseconds of process CPU time per operation for every workload.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import statistics
import sys
import time

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent)

from servers.implementations import IMPLEMENTATIONS
from servers.on_asyncio import make_loop
from servers.serve import start_under_its_environment

WORKLOADS = {}
#: So many callbacks are scheduled before the loop runs them.
BATCH = 100


def workload(name: str, operations: int):
    """Register a coroutine function that performs as many operations as it is told."""

    def register(function):
        WORKLOADS[f"loop-{name}"] = (function, operations)
        return function

    return register


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


def measure(loop, names: list[str], rounds: int) -> dict[str, float]:
    """Median over `rounds` of CPU microseconds per operation, after one short unmeasured round."""
    figures = {}
    for name in names:
        function, count = WORKLOADS[name]
        loop.run_until_complete(function(max(BATCH, count // 20)))
        samples = []
        for _ in range(rounds):
            started_ns = time.process_time_ns()
            loop.run_until_complete(function(count))
            samples.append((time.process_time_ns() - started_ns) / 1e3 / count)
        figures[name] = statistics.median(samples)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    choices = [name for name, one in IMPLEMENTATIONS.items() if one.library == "asyncio"]
    parser.add_argument("implementation", choices=choices)
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), metavar="workload")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    unknown = set(args.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"unknown workload {', '.join(unknown)}; known: {', '.join(WORKLOADS)}")
    implementation = IMPLEMENTATIONS[args.implementation]
    start_under_its_environment(implementation)
    loop = make_loop(implementation.loop)
    asyncio.set_event_loop(loop)
    print(json.dumps(measure(loop, args.workloads, args.rounds)), flush=True)


if __name__ == "__main__":
    main()
