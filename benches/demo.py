"""`make demo`: the same WSGI application and TCP service under the same load, on epolls and on uring."""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent)

from runner import machine, processes, syscalls
from runner.campaign import say
from runner.figures import Figure, ratio
from runner.processes import Unavailable
from runner.report import number
from runner.rows import Row
from servers.implementations import BASELINE, IMPLEMENTATIONS

PAGE_BYTES = 1024
LOADS = [
    Row(
        "tcp",
        "green TCP service, 64 x 512 B",
        workload="demo",
        connections=64,
        size=512,
    ),
    Row(
        "wsgi",
        "WSGI app that asks the TCP service, 64 keep-alive connections",
        workload="demo",
        mode="http",
        connections=64,
        size=PAGE_BYTES,
        path="/orders?session=4711",
    ),
]
#: Two hubs, then the driver that a machine without io_uring would get.
CANDIDATES = (BASELINE, "uring-auto", "uring-epoll")
KEYS = ("requests_per_s", "p50_us", "p99_us")
NOTES = {
    "perf": "counted by perf in a run apart",
    "strace": "counted by strace in a run apart, which slows the server and so flatters a hub that polls",
}
HEAD = ("hub", "driver", "req/s", "CPU us/req", "vs epolls", "syscalls/req", "p50 us", "p99 us")


class Outcome:
    """Samples of one implementation under one load."""

    def __init__(self):
        self.samples: dict[str, list[float]] = {}
        self.syscalls: float | None = None
        self.driver = ""

    def figure(self, key: str) -> Figure:
        """Figure over the rounds so far."""
        return Figure(tuple(self.samples[key]))


def measure(names: list[str], rounds: int, seconds: float) -> tuple[dict, dict]:
    """Interleaved rounds; outcomes by load and implementation, and why an implementation is missing."""
    outcomes = {row.name: {name: Outcome() for name in names} for row in LOADS}
    missing: dict[str, str] = {}
    for number_of_round in range(rounds):
        for name in [name for name in names if name not in missing]:
            say(f"  round {number_of_round + 1} of {rounds}: {IMPLEMENTATIONS[name].title}")
            try:
                with processes.server(IMPLEMENTATIONS[name], LOADS[0]) as server:
                    for row in LOADS:
                        take(outcomes[row.name][name], row, server, seconds)
            except (Unavailable, RuntimeError) as error:
                missing[name] = str(error)
    for by_name in outcomes.values():
        for name in missing:
            del by_name[name]
    return outcomes, missing


def take(outcome: Outcome, row: Row, server, seconds: float) -> None:
    """One window of load."""
    address = server.tcp_address if row.name == "tcp" else server.address
    window = ("--server-pid", str(server.pid), "--seconds", str(seconds), "--warmup-s", "0.3")
    report = processes.load(row, address, *window)
    if report["errors"]:
        raise RuntimeError(f"{report['errors']} failed requests, first: {report['first_error']}")
    outcome.driver = server.driver
    for key in KEYS:
        outcome.samples.setdefault(key, []).append(report[key])
    outcome.samples.setdefault("cpu_us", []).append(report["server"]["cpu_us"])


def trace(outcomes: dict) -> str:
    """Fill in the system calls; the tool that counted them, or why none could."""
    notes = set()
    for name in outcomes[LOADS[0].name]:
        say(f"  counting system calls: {IMPLEMENTATIONS[name].title}")
        try:
            for row in LOADS:
                with processes.server(IMPLEMENTATIONS[name], row) as server:
                    address = server.tcp_address if row.name == "tcp" else server.address
                    calls, tool = syscalls.per_request(row, server.pid, address, None)
                    outcomes[row.name][name].syscalls = calls
                    notes.add(NOTES[tool])
        except (Unavailable, RuntimeError) as error:
            notes.add(f"n/a because {error}")
    return "; ".join(sorted(notes))


def line(name: str, outcome: Outcome, base: Outcome | None) -> list[str]:
    """One implementation under one load."""
    quotient = ratio(base.figure("cpu_us"), outcome.figure("cpu_us")) if base else None
    hub, _, driver = outcome.driver.partition("(")
    return [
        hub,
        driver.rstrip(")") or "–",
        number(outcome.figure("requests_per_s").median, 0),
        number(outcome.figure("cpu_us").median),
        f"{quotient.value:.2f}x" if quotient else "",
        number(outcome.syscalls, 2),
        number(outcome.figure("p50_us").median, 0),
        number(outcome.figure("p99_us").median, 0),
    ]


def table(lines: list[list[str]]) -> str:
    """Columns aligned for a terminal: text to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in lines
    )


def main() -> int:
    """Measure and print; non-zero when the hub itself could not be shown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="window of one load in one round")
    args = parser.parse_args()
    say("building the load client")
    processes.build("load")
    started = time.monotonic()
    outcomes, missing = measure(list(CANDIDATES), args.rounds, args.seconds)
    counted = trace(outcomes)
    elapsed_s = time.monotonic() - started
    where = machine.describe()
    print(
        f"\n{where['machine']}, Linux {where['kernel']}, Python {where['python']}, commit {where['commit']}"
    )
    print("One process serves both; every answer is verified; server and load client on a core each.")
    for row in LOADS:
        by_name = outcomes[row.name]
        base = by_name.get(BASELINE)
        print(f"\n{row.title}")
        print(table([list(HEAD), *(line(name, one, base) for name, one in by_name.items())]))
    print(f"\nMedians of {args.rounds} interleaved rounds of {args.seconds:g} s; {elapsed_s:.0f} s in all.")
    print("CPU is user and system time of the server, from its process clock at both ends of each window.")
    print(f"syscalls/req: {counted}.")
    for name, reason in missing.items():
        print(f"{IMPLEMENTATIONS[name].title} is missing: {reason}")
    return 1 if "uring-auto" in missing else 0


if __name__ == "__main__":
    sys.exit(main())
