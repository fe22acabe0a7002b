"""What observing costs, and that it reports nothing where nothing blocks. Long: `make evtop-long`."""

import contextlib
import os
import statistics
import subprocess
import sys
import time

import pytest
from conftest import EVTOP

pytestmark = [pytest.mark.long, pytest.mark.timeout(0)]
QUIET_S = float(os.environ.get("EVTOP_QUIET_S", "600"))


def processor_s(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def loaded_processors():
    spin = "while True: pass"
    children = [subprocess.Popen(["nice", sys.executable, "-c", spin]) for _ in range(os.cpu_count())]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_the_target_keeps_its_throughput(start, watch, python):
    target = start(python, "echo.py", "eventlet-epolls", 64)
    pid = target.read("ready")
    target.read("rate")
    alone, watched, cost = [], [], []
    for _ in range(8):
        target.read("rate")
        alone.append(target.read("rate"))
        watcher = watch(pid, "--threshold", "1s")
        target.read("rate")
        before = processor_s(watcher.child.pid), time.perf_counter()
        watched.append(target.read("rate"))
        cost.append((processor_s(watcher.child.pid) - before[0]) / (time.perf_counter() - before[1]))
        watcher.stop()
    share = statistics.median(watched) / statistics.median(alone)
    print(
        f"throughput {share:.3f} of {statistics.median(alone):.0f}/s, evtop {statistics.median(cost):.3f} of a processor"
    )
    assert share >= 0.97
    assert statistics.median(cost) <= 0.05


@pytest.mark.parametrize("pause_s", [0.0, 3600.0], ids=["busy", "idle"])
def test_nothing_is_reported_where_nothing_blocks(start, watch, python, hub, pause_s):
    target = start(python, "echo.py", hub, 32, pause_s)
    pid = target.read("ready")
    target.read("rate")
    with loaded_processors():
        watcher = watch(pid)
        until = time.monotonic() + QUIET_S
        while time.monotonic() < until:
            target.read("rate")
        stalls = watcher.stop()
    assert stalls == []


def test_attaching_to_a_large_process_takes_less_than_a_second(start, python):
    target = start(python, "many.py", 100, 500)
    pid = target.read("ready")
    took = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([EVTOP, "--once", str(pid)], stdout=subprocess.DEVNULL, check=True)
        took.append(time.perf_counter() - started)
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        rss = next(line for line in status if line.startswith("VmRSS")).split()[1]
    print(f"attach and show {min(took) * 1000:.0f} ms on {int(rss) // 1024} MiB")
    assert min(took) <= 1.0
