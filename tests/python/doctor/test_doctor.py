"""`python -m uringhub`: what it finds, the remedy it names, and its exit code."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import isolated
import pytest
from isolated import PROJECT

FILTER = [sys.executable, str(PROJECT / "tests/python/seccomp/forbid_io_uring.py")]
AS_ASKED, COULD_BE_BETTER, WRONG_COMMAND_LINE, WOULD_NOT_START = 0, 1, 2, 3
DOCTOR = [sys.executable, "-m", "uringhub"]


def doctor(*args: str, prefix=(), **env: str) -> subprocess.CompletedProcess[str]:
    environment = isolated.environment(extra=env)
    return subprocess.run(
        [*prefix, *DOCTOR, *args], env=environment, capture_output=True, text=True, timeout=60
    )


def findings(report: dict, level: str) -> dict[str, str]:
    """What was found at this level, each with its remedy."""
    return {f["detail"]: f["remedy"] for f in report["findings"] if f["level"] == level}


def test_healthy_machine_runs_as_asked():
    done = doctor("--json", URINGHUB_DRIVER="uring")
    report = json.loads(done.stdout)
    assert (done.returncode, report["exit_code"]) == (AS_ASKED, AS_ASKED), done.stdout
    assert report["driver"]["chosen"] == "io_uring"
    assert all(check["errno"] is None for check in report["driver"]["checks"])
    assert report["eventlet"]["resolves_to"].endswith("uringhub/hub.py")
    assert set(report["versions"]) == {"python", "uringhub", "eventlet", "greenlet"}
    assert None not in report["versions"].values()


@pytest.mark.parametrize("action", ["eperm", "enosys"])
def test_refused_io_uring_is_epoll_with_the_reason_and_a_remedy(action):
    done = doctor("--json", prefix=[*FILTER, action])
    report = json.loads(done.stdout)
    assert done.returncode == COULD_BE_BETTER
    assert report["driver"]["chosen"] == "epoll"
    notes = findings(report, "note")
    assert any(action.upper() in detail or "io_uring_setup" in detail for detail in notes)
    assert any("seccomp profile" in remedy for remedy in notes.values())


def test_refused_io_uring_that_was_demanded_would_not_start():
    done = doctor("--json", prefix=[*FILTER, "eperm"], URINGHUB_DRIVER="uring")
    assert done.returncode == WOULD_NOT_START
    assert json.loads(done.stdout)["driver"]["chosen"] is None


def test_filter_that_kills_is_found_without_being_killed():
    done = doctor("--json", prefix=[*FILTER, "kill"])
    problems = findings(json.loads(done.stdout), "problem")
    assert done.returncode == WOULD_NOT_START
    assert problems == {
        "the trial process was killed by SIGSYS": "a seccomp filter kills what tries io_uring: "
        "set URINGHUB_DRIVER=epoll, or allow it there"
    }


def test_opt_out_tries_no_io_uring_even_under_a_filter_that_kills():
    done = doctor("--json", prefix=[*FILTER, "kill"], URINGHUB_DRIVER="epoll")
    report = json.loads(done.stdout)
    assert done.returncode == AS_ASKED
    assert report["driver"]["chosen"] == "epoll"
    assert report["driver"]["checks"] == []


def test_unknown_driver_would_not_start_and_the_valid_values_are_named():
    done = doctor(URINGHUB_DRIVER="iouring")
    assert done.returncode == WOULD_NOT_START
    assert "auto, uring, epoll" in done.stdout


def test_driver_name_that_is_no_text_starts_nothing():
    name = os.fsdecode(b"epol\xff")
    program = "import uringhub; uringhub.new_event_loop()"
    environment = isolated.environment(extra={"URINGHUB_DRIVER": name})
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: URINGHUB_DRIVER=") and "auto, uring, epoll" in last


def test_hub_of_the_environment_is_named():
    ours = doctor("--json", EVENTLET_HUB="uring", URINGHUB_DRIVER="epoll")
    assert ours.returncode == AS_ASKED
    other = doctor("--json", EVENTLET_HUB="poll", URINGHUB_DRIVER="epoll")
    assert other.returncode == COULD_BE_BETTER
    assert "export EVENTLET_HUB=uring" in findings(json.loads(other.stdout), "note").values()


def test_missing_eventlet_is_found_with_the_command_that_installs_it(tmp_path):
    """`-S` with only our package on the path is a Python that has no Eventlet."""
    program = (
        "import sys; sys.argv[0] = 'uringhub'; from uringhub.__main__ import main; sys.exit(main(['--json']))"
    )
    env = isolated.environment(extra={"PYTHONPATH": str(PROJECT / "python"), "URINGHUB_DRIVER": "epoll"})
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    report = json.loads(done.stdout)
    assert done.returncode == COULD_BE_BETTER
    assert report["versions"]["eventlet"] is None
    assert f"{sys.executable} -m pip install eventlet" in findings(report, "note").values()


def test_text_has_every_finding_and_its_remedy():
    report = json.loads(doctor("--json", prefix=[*FILTER, "eperm"]).stdout)
    text = doctor(prefix=[*FILTER, "eperm"]).stdout
    for finding in report["findings"]:
        assert finding["detail"] in text
        assert finding["remedy"] in text
    assert "\x1b" not in text


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_terminal_gets_colour_unless_told_otherwise(no_color, colored):
    # 1. The doctor writes to a terminal of ours; 2. it ends, which closes the other side; 3. we read all.
    ours, theirs = pty.openpty()
    env = isolated.environment(extra={"NO_COLOR": no_color, "URINGHUB_DRIVER": "epoll"})
    subprocess.run(DOCTOR, env=env, stdout=theirs, stderr=theirs, timeout=60)
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 65536):
            text += chunk
    except OSError:
        pass  # EIO is a terminal's end of file.
    os.close(ours)
    assert (b"\x1b[32mok" in text) == colored
    assert b"driver" in text


def test_version_and_help_are_printed():
    version = doctor("--version")
    assert (version.returncode, version.stdout) == (AS_ASKED, "uringhub 0.1.0\n")
    help_text = doctor("--help").stdout
    assert "examples:" in help_text and "exit codes:" in help_text
    assert doctor("--nonsense").returncode == WRONG_COMMAND_LINE
