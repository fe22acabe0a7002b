"""One process of in-process workloads: registry, measurement, command line.

Used by `micro.py` and `micro_asyncio.py`, which differ in the workloads and in what performs them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator

from servers.implementations import IMPLEMENTATIONS, Implementation
from servers.serve import start_under_its_environment

#: Performs a workload with so many operations, on the implementation that was prepared.
Perform = Callable[[Callable, int], None]
#: The unmeasured round in front is at least so long.
LEAST = 100


class Workloads:
    """Functions by row name, each with the number of operations of one measured round."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._by_name: dict[str, tuple[Callable, int]] = {}

    def __call__(self, name: str, operations: int):
        """Register the decorated function."""

        def register(function):
            self._by_name[self._prefix + name] = (function, operations)
            return function

        return register

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def measure(self, perform: Perform, names: list[str], rounds: int) -> dict[str, float]:
        """Median over `rounds` of CPU microseconds per operation, after one short unmeasured round."""
        figures = {}
        for name in names:
            function, count = self._by_name[name]
            perform(function, max(LEAST, count // 20))
            samples = []
            for _ in range(rounds):
                started_ns = time.process_time_ns()
                perform(function, count)
                samples.append((time.process_time_ns() - started_ns) / 1e3 / count)
            figures[name] = statistics.median(samples)
        return figures


def main(
    description: str,
    workloads: Workloads,
    libraries: tuple[str, ...],
    prepare: Callable[[Implementation], Perform],
) -> None:
    """Measure and print one JSON object. `prepare` runs in the environment of the implementation."""
    parser = argparse.ArgumentParser(description=description)
    choices = [name for name, one in IMPLEMENTATIONS.items() if one.library in libraries]
    parser.add_argument("implementation", choices=choices)
    parser.add_argument("workloads", nargs="*", default=list(workloads), metavar="workload")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    unknown = set(args.workloads) - set(workloads)
    if unknown:
        parser.error(f"unknown workload {', '.join(unknown)}; known: {', '.join(workloads)}")
    implementation = IMPLEMENTATIONS[args.implementation]
    start_under_its_environment(implementation)
    perform = prepare(implementation)
    print(json.dumps(workloads.measure(perform, args.workloads, args.rounds)), flush=True)
