"""Green threads that live for one switch: what a look shows is sound, what it misses is said, and a pause misses none."""

import json
import shutil
import subprocess

import pytest
from conftest import EVTOP, dump, evtop

LOOKS = 10


def dump_paused(pid):
    done = evtop("dump", pid, "--json", "--pause")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_stack_is_nonsense_and_what_is_missed_is_counted(start, python):
    target = start(python, "churn.py")
    pid = target.read("ready")
    target.read("spawns_per_s")
    for _ in range(LOOKS):
        snapshot = dump(pid)
        assert snapshot["counters"]["missed_permille"] is not None
        for green in snapshot["green_threads"]:
            names = [frame["function"].rsplit(".")[-1] for frame in green["stack"]]
            # A stack is whole: it starts in something the program or the hub calls first, or it is not shown.
            assert not names or names[-1] in {"<module>", "run", "deep", "short", "main"}, names


def test_a_pause_misses_nothing_and_the_process_goes_on(start, python):
    target = start(python, "churn.py")
    pid = target.read("ready")
    target.read("spawns_per_s")
    for _ in range(LOOKS):
        snapshot = dump_paused(pid)
        counters = snapshot["counters"]
        assert counters["is_paused"]
        lost = ("green_threads_lost", "missed_permille", "stacks_torn", "stacks_cut", "frames_undecodable")
        assert [counters[name] for name in lost] == [0] * len(lost)
    assert target.read("spawns_per_s") > 0
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        assert "TracerPid:\t0\n" in status.read()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_process_that_somebody_else_traces_cannot_be_paused(start, python):
    target = start(python, "churn.py")
    pid = target.read("ready")
    tracer = subprocess.Popen(["strace", "-qq", "-e", "trace=none", "-p", str(pid)])
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            while "TracerPid:\t0\n" in status.read():
                status.seek(0)
                assert tracer.poll() is None
        done = subprocess.run(
            [EVTOP, "dump", str(pid), "--pause"], capture_output=True, text=True, timeout=30
        )
    finally:
        tracer.terminate()
        tracer.wait()
    assert done.returncode == 1
    assert "cannot be paused" in done.stderr and "without --pause" in done.stderr
