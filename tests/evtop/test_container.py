"""Processes in namespaces of their own, as containers have them, seen from the host and from inside."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest
from conftest import DEADLINE_S, EVTOP, dump

needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("nsenter"),
    reason="needs root, unshare and nsenter, to make namespaces",
)
CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture
def contained(start, python):
    """The host's id of a program that is process 1 of its own PID and mount namespaces."""
    outer = start(python, "waits_asyncio.py", prefix=CONTAINER)
    assert outer.read("ready") == 1
    children = pathlib.Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text(encoding="ascii")
    return int(children.split()[0])


@needs_namespaces
def test_from_the_host_a_contained_process_has_both_ids(contained):
    snapshot = dump(contained)
    assert (snapshot["process"]["pid"], snapshot["process"]["namespace_pid"]) == (contained, 1)
    assert any(task["coroutine"] == "waits_for_lock" for task in snapshot["tasks"])


@needs_namespaces
def test_inside_the_container_it_is_process_1(contained):
    command = ["nsenter", "--target", str(contained), "--pid", "--mount", EVTOP, "dump", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    snapshot = json.loads(done.stdout)
    assert snapshot["process"]["pid"] == 1
    assert any(task["coroutine"] == "waits_for_lock" for task in snapshot["tasks"])


@needs_namespaces
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
def test_without_the_capability_the_flag_of_the_container_is_named(contained):
    drop = [
        "setpriv",
        "--bounding-set=-sys_ptrace",
        "--inh-caps=-sys_ptrace",
        "--reuid=65534",
        "--clear-groups",
    ]
    copy = pathlib.Path(f"/tmp/evtop-{os.getpid()}")
    shutil.copy(EVTOP, copy)
    try:
        command = ["nsenter", "--target", str(contained), "--pid", "--mount", *drop, str(copy), "dump", "1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    finally:
        copy.unlink()
    assert done.returncode == 4, done.stderr
    assert "--cap-add=SYS_PTRACE" in done.stderr
