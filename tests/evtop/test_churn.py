"""Green threads that live for one switch: what a look shows is sound, what it misses is said, and a pause misses none."""

import json
import os
import shutil
import statistics
import subprocess

import pytest
from conftest import DEADLINE_S, EVTOP, ROOT, dump, evtop, name_of
from results import record

LOOKS = 10
CHAINS = 300
# A stack is whole: it ends in what the program or the hub calls first, or it is not shown.
OUTERMOST = ("<module>", "run", "deep", "short", "main")


@pytest.fixture
def churning(start, python):
    """Starts a program that spawns without end, and waits until it does: `churning(program, *arguments)`."""

    def run(program, *arguments):
        target = start(python, program, *arguments)
        target.read("ready")
        target.read("spawns_per_s")
        return target

    return run


def dump_paused(pid):
    done = evtop("dump", pid, "--json", "--pause")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def alive(snapshot):
    green = [node for node in snapshot["green_threads"] if node["role"] == "green thread"]
    return [node for node in green if node["state"] != "dead"]


def test_no_stack_is_nonsense_and_what_is_missed_is_counted(churning):
    target = churning("churn.py")
    for _ in range(LOOKS):
        snapshot = dump(target.pid)
        assert snapshot["counters"]["missed_permille"] is not None
        for node in snapshot["green_threads"] + snapshot["threads"]:
            names = [frame["function"].rsplit(".")[-1] for frame in node["stack"]]
            assert not names or names[-1] in OUTERMOST, names


@pytest.mark.long
def test_thousands_of_looks_show_no_nonsense(churning, python):
    target = churning("churn.py")
    command = [str(ROOT / "target" / "release" / "examples" / "whole"), str(target.pid), "3000", *OUTERMOST]
    lines = subprocess.check_output(command, text=True).splitlines()
    record(
        f"churn: stacks that are nonsense, Python {name_of(python)}",
        "none at 20k spawns/s",
        lines[-1],
        "make evtop-long ONLY=nonsense",
        spawns_per_s=target.lines[-1]["spawns_per_s"],
    )
    assert " 0 nonsense" in lines[-1], "\n".join(lines[-20:])


def test_the_share_that_is_missed_is_told_honestly(churning):
    target = churning("churn.py")
    there, shown, told = [], [], []
    # How many there are rises and falls within a look: only many looks can be compared with many pauses.
    for _ in range(3 * LOOKS):
        there.append(len(alive(dump_paused(target.pid))))
        snapshot = dump(target.pid)
        shown.append(len(alive(snapshot)))
        told.append(snapshot["counters"]["missed_permille"] / 1000)
    missed = 1 - statistics.mean(shown) / statistics.mean(there)
    record(
        "churn: share missed without a pause, as told and in truth",
        "told honestly at 20k spawns/s",
        f"told {statistics.mean(told):.0%}, in truth {missed:.0%}",
        "make evtop-test",
        spawns_per_s=target.lines[-1]["spawns_per_s"],
    )
    assert missed * 2 / 3 <= statistics.mean(told) <= missed * 3 / 2 + 0.05


def test_a_pause_misses_nobody(churning):
    target = churning("chains.py", CHAINS)
    for _ in range(LOOKS):
        snapshot = dump_paused(target.pid)
        counters = snapshot["counters"]
        assert counters["is_paused"]
        lost = ("green_threads_lost", "missed_permille", "stacks_torn", "stacks_cut", "frames_undecodable")
        assert [counters[name] for name in lost] == [0] * len(lost)
        # The one more is between the start of its successor and its own end.
        assert len(alive(snapshot)) in {CHAINS, CHAINS + 1}


def test_the_process_stands_still_for_the_time_that_is_told_and_goes_on(churning):
    target = churning("chains.py", CHAINS)
    paused_ms = dump_paused(target.pid)["counters"]["paused_us"] / 1000
    lines = len(target.lines)
    # The line in which the pause falls may be the next one or wait in the pipe already.
    for _ in range(3):
        assert target.read("spawns_per_s") > 0
    gap_ms = max(line["longest_gap_ms"] for line in target.lines[lines:])
    print(f"stopped for {paused_ms:.1f} ms, {gap_ms:.1f} ms without a switch")
    assert 0 < paused_ms <= gap_ms + 5
    with open(f"/proc/{target.pid}/status", encoding="utf-8") as status:
        assert "TracerPid:\t0\n" in status.read()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_process_that_somebody_else_traces_cannot_be_paused(churning):
    pid = churning("churn.py").pid
    tracer = subprocess.Popen(["strace", "-qq", "-e", "trace=none", "-p", str(pid)])
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            while "TracerPid:\t0\n" in status.read():
                status.seek(0)
                assert tracer.poll() is None
                os.sched_yield()
        done = subprocess.run(
            [EVTOP, "dump", str(pid), "--pause"], capture_output=True, text=True, timeout=DEADLINE_S
        )
    finally:
        tracer.terminate()
        tracer.wait()
    assert done.returncode == 1
    assert "cannot be paused" in done.stderr and "without --pause" in done.stderr
