"""Where and with what a comparison ran."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=10)
    except OSError:
        return "absent"
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else "unknown"


def _cpu_model() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "CPU part")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def commit() -> str:
    """Short hash of the working tree, marked when it has changes outside the results."""
    changed = _output("git", "status", "--porcelain", "--", ".", ":!benches/results")
    suffix = "" if changed in ("", "unknown", "absent") else "+changes"
    return _output("git", "rev-parse", "--short", "HEAD") + suffix


def describe() -> dict:
    """Machine, kernel, versions and commit."""
    packages = ("eventlet", "greenlet", "gevent", "uvloop", "rloop", "uringhub")
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} CPUs, {platform.machine()}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rustc": _output("rustc", "--version"),
        "load_average": list(os.getloadavg()),
        "packages": {name: _version(name) for name in packages},
    }


def _siblings(cpu: int) -> set[int]:
    path = pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        text = path.read_text().strip()
    except OSError:
        return {cpu}
    siblings = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        siblings.update(range(int(first), int(last or first) + 1))
    return siblings


def cores() -> tuple[set[int], set[int]]:
    """CPUs for the server and for the load client: two cores if there are two."""
    allowed = sorted(os.sched_getaffinity(0))
    server = allowed[0]
    for cpu in allowed[1:]:
        if cpu not in _siblings(server):
            return {server}, {cpu}
    return {server}, {allowed[-1]}
