"""Runs a program in a process of its own, on a chosen hub.

Monkey-patching, forking and choosing a hub change a whole process, so a test that does any of these hands
its program to `run`: the pytest process itself never imports Eventlet's hub.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class HubChoice:
    """A hub as an operator picks it: by environment variables."""

    name: str
    eventlet_hub: str
    driver: str | None = None

    @property
    def is_ours(self) -> bool:
        return self.driver is not None

    @property
    def env(self) -> dict[str, str]:
        env = {"EVENTLET_HUB": self.eventlet_hub}
        if self.driver:
            env["URINGHUB_DRIVER"] = self.driver
        return env


EPOLLS = HubChoice("epolls", "epolls")
URING = HubChoice("uring+uring", "uring", "uring")
EPOLL = HubChoice("uring+epoll", "uring", "epoll")
OURS = (URING, EPOLL)
ALL_HUBS = (EPOLLS, *OURS)


def environment(hub: HubChoice | None = None, extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment for a child: ours without any hub choice, then the hub's, then `extra`."""
    env = {k: v for k, v in os.environ.items() if k not in ("EVENTLET_HUB", "URINGHUB_DRIVER")}
    env.update(hub.env if hub else {})
    env.update(extra or {})
    return env


def run(
    program: str | Path,
    *args: str,
    hub: HubChoice | None = None,
    env: dict[str, str] | None = None,
    timeout_s: float = 60.0,
    check: bool = True,
    python: str | Path = sys.executable,
    python_args: tuple[str, ...] = (),
    cwd: str | Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs `program` (source text, or the path of a file) and returns what it printed.

    With `check`, an exit code other than 0 fails the test and shows both outputs. A program that has not
    ended after `timeout_s` is made to dump its stacks, is killed with all its children, and fails the test.
    """
    with tempfile.TemporaryDirectory(prefix="isolated-") as folder:
        path = Path(folder, "program.py")
        if isinstance(program, Path):
            path = program
        else:
            path.write_text(textwrap.dedent(program))
        command = [str(python), *python_args, "-X", "faulthandler", str(path), *args]
        child = subprocess.Popen(
            command,
            env=environment(hub, env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            out, err = _kill_group(child)
            raise AssertionError(_report(f"no end after {timeout_s} s", hub, out, err)) from None
        except BaseException:
            _kill_group(child)
            raise
    done = subprocess.CompletedProcess(command, child.returncode, out, err)
    if check and child.returncode != 0:
        raise AssertionError(_report(f"exit code {child.returncode}", hub, out, err))
    return done


def _kill_group(child: subprocess.Popen) -> tuple[str, str]:
    """Ends the child and what it started; SIGABRT first, so that faulthandler prints the stacks."""
    child.send_signal(signal.SIGABRT)
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return child.communicate()


def _report(what: str, hub: HubChoice | None, out: str, err: str) -> str:
    return f"{what} on {hub.name if hub else 'no hub'}\n--- stdout\n{out}\n--- stderr\n{err}"
