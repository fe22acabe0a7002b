"""System calls per request of a server, from a short extra run beside the timed ones.

`perf stat` counts them in the kernel at full speed, where the machine allows that. Otherwise strace does,
which makes every call so slow that the client has always answered already: a hub that would have had to
wait then finds data at once, and the figure of the readiness hubs comes out too low. The report names the
tool.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator

from runner.processes import Unavailable, load
from runner.rows import Row

ATTACH_LIMIT_S = 5
#: Enough that accepting the connections does not show.
REQUESTS_PER_CONNECTION = 100
MOST_REQUESTS = 20_000
EVENT = "raw_syscalls:sys_enter"


def parse_strace(text: str) -> int:
    """All calls of an `strace -c` summary.

    The columns are `% time, seconds, usecs/call, calls, [errors], syscall`; the last line is the total.
    """
    for line in reversed(text.splitlines()):
        fields = line.split()
        if len(fields) >= 5 and fields[-1] == "total":
            return int(fields[3])
    raise ValueError("no total in strace's summary")


def parse_perf(text: str) -> int:
    """The count of an event from `perf stat -x,`; it is not a number when the event was refused."""
    for line in text.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[2].startswith(EVENT):
            return int(fields[0])
    raise ValueError("no count in perf's output")


def per_request(row: Row, pid: int, address: str, certificate: str | None) -> tuple[float, str]:
    """Calls per request of the process `pid` under the load of `row`, and the tool that counted."""
    if row.idle:
        raise Unavailable("opening the idle connections would be most of it")
    failures = []
    for tool, counting, parse in (("perf", _perf, parse_perf), ("strace", _strace, parse_strace)):
        with tempfile.TemporaryDirectory() as directory:
            output = pathlib.Path(directory) / "count"
            try:
                with counting(pid, output):
                    report = load(row, address, *_bounded(row), certificate=certificate)
                return parse(output.read_text()) / report["requests"], tool
            except (Unavailable, ValueError) as error:
                failures.append(f"{tool}: {error}")
    raise Unavailable("; ".join(failures))


def _bounded(row: Row) -> tuple[str, ...]:
    requests = min(MOST_REQUESTS, row.connections * REQUESTS_PER_CONNECTION)
    if row.connections * row.size > 2**24:
        requests = row.connections * 4
    return ("--warmup-s", "0", "--requests", str(requests))


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Unavailable("not installed")
    return path


@contextlib.contextmanager
def _perf(pid: int, output: pathlib.Path) -> Iterator[None]:
    """Count into `output` while the block runs; perf says when it has begun."""
    control, to_control = os.pipe()
    from_ack, ack = os.pipe()
    command = [_program("perf"), "stat", "-x", ",", "-e", EVENT, "-p", str(pid), "-o", str(output)]
    command += ["--delay", "-1", "--control", f"fd:{control},{ack}"]
    try:
        with _tool(command, pass_fds=(control, ack)) as perf:
            os.write(to_control, b"enable\n")
            ready, _, _ = select.select([from_ack], [], [], ATTACH_LIMIT_S)
            if not ready or perf.poll() is not None:
                raise Unavailable("counting system calls needs more privilege")
            yield
    finally:
        for fd in (control, to_control, from_ack, ack):
            os.close(fd)


@contextlib.contextmanager
def _strace(pid: int, output: pathlib.Path) -> Iterator[None]:
    """Count into `output` while the block runs; the kernel names the tracer when it has begun."""
    status = pathlib.Path(f"/proc/{pid}/status")
    deadline = time.monotonic() + ATTACH_LIMIT_S
    with _tool([_program("strace"), "-c", "-f", "-p", str(pid), "-o", str(output)]) as strace:
        while f"TracerPid:\t{strace.pid}\n" not in status.read_text():
            if strace.poll() is not None or time.monotonic() > deadline:
                raise Unavailable("could not attach to the server")
            time.sleep(0.01)
        yield


@contextlib.contextmanager
def _tool(command: list[str], **options) -> Iterator[subprocess.Popen]:
    """A tool that writes its count when it is interrupted."""
    tool = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield tool
    finally:
        tool.send_signal(signal.SIGINT)
        try:
            tool.wait(timeout=10)
        except subprocess.TimeoutExpired:
            tool.kill()
            tool.wait()
