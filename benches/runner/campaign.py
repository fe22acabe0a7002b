"""Interleaved rounds over rows and implementations."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import tempfile
import time

from servers.implementations import IMPLEMENTATIONS, Implementation

from runner import processes, syscalls
from runner.figures import Figure
from runner.machine import commit
from runner.processes import Unavailable
from runner.rows import Row

#: Keys of the load client's report that become figures.
LOAD_KEYS = ("requests_per_s", "p50_us", "p99_us", "client_cpu_us")
IDLE_SETTLE_S = 0.5
IDLE_WINDOW_S = 2.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much to measure."""

    rounds: int
    seconds: float
    warmup_s: float
    with_syscalls: bool
    implementations: list[str]


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


class Samples:
    """Samples of one row, by implementation and quantity."""

    def __init__(self, row: Row):
        self.row = row
        self.by_implementation: dict[str, dict[str, list[float]]] = {}
        self.extra: dict[str, dict] = {}
        self.unavailable: dict[str, str] = {}

    def add(self, implementation: str, quantities: dict[str, float], **extra) -> None:
        """One round of one implementation."""
        kept = self.by_implementation.setdefault(implementation, {})
        for name, value in quantities.items():
            kept.setdefault(name, []).append(value)
        self.extra.setdefault(implementation, {}).update(extra)

    def miss(self, implementation: str, reason: str) -> None:
        """An implementation that cannot serve the row: not asked again, its samples are dropped."""
        self.unavailable[implementation] = reason
        self.by_implementation.pop(implementation, None)
        say(f"  {self.row.name:22} {implementation:15} not available: {reason}")

    def as_json(self, plan: Plan) -> dict:
        """Plain data for the result file."""
        return {
            "title": self.row.title,
            "kind": self.row.kind,
            "world": self.row.world,
            "commit": commit(),
            "rounds": plan.rounds,
            "unavailable": self.unavailable,
            "implementations": {
                name: {key: Figure(tuple(values)).as_json() for key, values in quantities.items()}
                | self.extra[name]
                for name, quantities in self.by_implementation.items()
            },
        }


def _candidates(row: Row, plan: Plan) -> list[Implementation]:
    chosen = [IMPLEMENTATIONS[name] for name in plan.implementations if name in (row.offered_by or [name])]
    if row.world == "asyncio":
        return [one for one in chosen if one.library == "asyncio"]
    libraries = {"eventlet", "gevent", *(["native"] if row.has_ceiling else [])}
    return [one for one in chosen if one.library in libraries]


def run_server_row(row: Row, plan: Plan, certificate: str | None) -> Samples:
    """Rounds A B C … A B C …, a fresh server each, then one traced run each."""
    samples = Samples(row)
    certificate = certificate if row.workload == "echo-tls" else None
    for number in range(plan.rounds):
        for one in _candidates(row, plan):
            if one.name in samples.unavailable:
                continue
            try:
                quantities, driver = _one_round(one, row, plan, certificate)
            except (Unavailable, RuntimeError) as error:
                samples.miss(one.name, str(error))
                continue
            samples.add(one.name, quantities, driver=driver)
            say(f"  {row.name:22} {one.name:15} {number + 1}/{plan.rounds} {quantities['cpu_us']:9.2f} us")
    if plan.with_syscalls:
        _trace(samples, plan, certificate)
    return samples


def _one_round(one: Implementation, row: Row, plan: Plan, certificate: str | None) -> tuple[dict, str]:
    seconds = max(plan.seconds, row.seconds)
    with processes.server(one, row, certificate) as server:
        report = processes.load(
            row,
            server.address,
            *("--server-pid", str(server.pid), "--seconds", str(seconds), "--warmup-s", str(plan.warmup_s)),
            certificate=certificate,
        )
    if report["errors"] or not report["requests"]:
        raise RuntimeError(f"{report['errors']} failed requests, first: {report['first_error']}")
    usage = report["server"]
    quantities = {key: report[key] for key in LOAD_KEYS}
    quantities |= {key: usage[key] for key in ("cpu_us", "user_share", "busy")}
    if row.idle:
        grown = usage["rss_connected_bytes"] - usage["rss_before_bytes"]
        quantities["rss_per_connection_bytes"] = grown / (row.idle + row.connections)
    return quantities, server.driver


def _trace(samples: Samples, plan: Plan, certificate: str | None) -> None:
    row = samples.row
    for one in _candidates(row, plan):
        if one.name not in samples.by_implementation:
            continue
        try:
            with processes.server(one, row, certificate) as server:
                calls, tool = syscalls.per_request(row, server.pid, server.address, certificate)
        except (Unavailable, RuntimeError) as error:
            samples.extra[one.name]["syscalls_missing"] = str(error)
            continue
        samples.extra[one.name] |= {"syscalls_per_request": calls, "syscalls_tool": tool}


def run_micro_rows(rows: list[Row], plan: Plan) -> list[Samples]:
    """All in-process rows of one world together: one process per implementation and round."""
    by_name = {row.name: Samples(row) for row in rows}
    gone: dict[str, str] = {}
    for number in range(plan.rounds):
        for name in plan.implementations:
            one = IMPLEMENTATIONS[name]
            offered = [row.name for row in rows if one in _candidates(row, plan)]
            if not offered or name in gone:
                continue
            try:
                figures = processes.micro(one, offered)
            except Unavailable as error:
                gone[name] = str(error)
                for row_name in offered:
                    by_name[row_name].miss(name, str(error))
                continue
            for row_name, cpu_us in figures.items():
                by_name[row_name].add(name, {"cpu_us": cpu_us})
            say(f"  {'in-process rows':22} {name:15} {number + 1}/{plan.rounds}")
    return list(by_name.values())


def _voluntary_switches(pid: int) -> int:
    total = 0
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def run_idle_row(row: Row, plan: Plan) -> Samples:
    """Wake-ups of a server that nobody speaks to."""
    samples = Samples(row)
    for one in _candidates(row, plan):
        try:
            with processes.server(one, row) as server:
                time.sleep(IDLE_SETTLE_S)
                before = _voluntary_switches(server.pid)
                time.sleep(IDLE_WINDOW_S)
                wakeups = (_voluntary_switches(server.pid) - before) / IDLE_WINDOW_S
        except Unavailable as error:
            samples.miss(one.name, str(error))
            continue
        samples.add(one.name, {"wakeups_per_s": wakeups}, driver=server.driver)
        say(f"  {row.name:22} {one.name:15} {wakeups:9.2f} wake-ups/s")
    return samples


def run(rows: list[Row], plan: Plan):
    """Measure; yields `(row name, data)` as rows are finished."""
    with tempfile.TemporaryDirectory() as directory:
        certificate = None
        for row in rows:
            if row.kind == "idle":
                yield row.name, run_idle_row(row, plan).as_json(plan)
            if row.kind != "server":
                continue
            if row.workload == "echo-tls":
                try:
                    certificate = str(processes.make_certificate(pathlib.Path(directory)))
                except Unavailable as error:
                    say(f"  {row.name}: skipped, {error}")
                    continue
            yield row.name, run_server_row(row, plan, certificate).as_json(plan)
    for world in ("eventlet", "asyncio"):
        micro_rows = [row for row in rows if row.kind == "micro" and row.world == world]
        if micro_rows:
            for samples in run_micro_rows(micro_rows, plan):
                yield samples.row.name, samples.as_json(plan)
