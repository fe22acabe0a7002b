"""The doctor: what runs here, why it is not io_uring if it is not, and what to do about it.

Everything that could end the process or load half a program is tried in a child: under some seccomp profiles
the first io_uring syscall kills, and that too is a finding.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field

OK, NOTE, PROBLEM = "ok", "note", "problem"
# Exit codes; 2 is what argparse uses for a wrong command line.
EXIT_AS_ASKED, EXIT_COULD_BE_BETTER, EXIT_WOULD_NOT_START = 0, 1, 3

PROBE = "import json, sys; from uringhub._native import probe; print(json.dumps(probe(sys.argv[1])))"
RESOLVE = "import eventlet.hubs.uring as hub; print(hub.__file__)"
CHILD_TIMEOUT_S = 60


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is in order, what was seen, and what would mend it."""

    level: str
    subject: str
    detail: str
    remedy: str = ""


@dataclass
class Report:
    """All findings, and the facts behind them for a machine to read."""

    findings: list[Finding] = field(default_factory=list)
    facts: dict = field(default_factory=dict)

    def add(self, level: str, subject: str, detail: str, remedy: str = "") -> None:
        self.findings.append(Finding(level, subject, detail, remedy))

    @property
    def exit_code(self) -> int:
        levels = {finding.level for finding in self.findings}
        if PROBLEM in levels:
            return EXIT_WOULD_NOT_START
        return EXIT_COULD_BE_BETTER if NOTE in levels else EXIT_AS_ASKED

    def as_json(self) -> str:
        findings = [asdict(finding) for finding in self.findings]
        return json.dumps({**self.facts, "findings": findings, "exit_code": self.exit_code}, indent=2)


def examine() -> Report:
    """Looks at everything and changes nothing."""
    report = Report()
    _versions(report)
    _driver(report)
    _eventlet(report)
    return report


def _versions(report: Report) -> None:
    names = ("uringhub", "eventlet", "greenlet")
    versions = {"python": platform.python_version(), **{name: _version(name) for name in names}}
    report.facts["versions"] = versions
    report.facts["executable"] = sys.executable
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    report.add(OK, "versions", found)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _driver(report: Report) -> None:
    choice = os.environ.get("URINGHUB_DRIVER") or "auto"
    uname = os.uname()
    report.facts["kernel"] = {"release": uname.release, "machine": uname.machine}
    report.add(OK, "kernel", f"{uname.sysname} {uname.release} {uname.machine}")
    answer = _child(PROBE, choice)
    if isinstance(answer, str):
        report.facts["driver"] = {"choice": choice, "chosen": None, "error": answer}
        report.add(PROBLEM, "driver", answer, _remedy_of_death(answer))
        return
    probe = json.loads(answer.stdout)
    report.facts["driver"] = {"choice": choice, **probe}
    chosen, unavailable = probe["chosen"], probe["unavailable"]
    asked = f"URINGHUB_DRIVER={choice}"
    if unavailable is None:
        tried = f"{len(probe['checks'])} checks" if probe["checks"] else "io_uring was not tried"
        report.add(OK, "driver", f"{chosen} ({asked}; {tried})")
    elif chosen:
        report.add(NOTE, "driver", f"{chosen} ({asked})", "see below; URINGHUB_DRIVER=epoll accepts it")
    else:
        report.add(PROBLEM, "driver", f"none ({asked})", "see below")
    for found in probe["findings"]:
        report.add(NOTE, "io_uring" if unavailable else "limits", found["finding"], found["remedy"])
    memlock, files = probe["memlock_limit_bytes"], probe["open_files_limit"]
    locked = "unlimited" if memlock is None else f"{memlock // 1024} KiB"
    report.add(OK, "limits", f"memlock {locked}, open files {'unlimited' if files is None else files}")


def _remedy_of_death(answer: str) -> str:
    if "SIGSYS" in answer:
        return "a seccomp filter kills what tries io_uring: set URINGHUB_DRIVER=epoll, or allow it there"
    if "uringhub._native" in answer:
        return f"reinstall for this Python: {sys.executable} -m pip install --force-reinstall uringhub"
    return ""


def _eventlet(report: Report) -> None:
    hub = os.environ.get("EVENTLET_HUB")
    report.facts["eventlet"] = {"EVENTLET_HUB": hub, "resolves_to": None}
    if _version("eventlet") is None:
        executable = sys.executable
        report.add(NOTE, "eventlet", "not installed here", f"{executable} -m pip install eventlet")
        return
    answer = _child(RESOLVE, EVENTLET_HUB="uring")
    if isinstance(answer, str):
        remedy = "name the module in full: EVENTLET_HUB=uringhub.hub"
        if "No module named 'eventlet.hubs.uring'" not in answer:
            remedy = "the message above names what is missing"
        report.add(PROBLEM, "EVENTLET_HUB=uring", answer, remedy)
        return
    path = answer.stdout.strip()
    report.facts["eventlet"]["resolves_to"] = path
    report.add(OK, "EVENTLET_HUB=uring", f"resolves to {path}")
    if hub is None:
        report.add(OK, "this shell", "EVENTLET_HUB is not set: programs started here use Eventlet's own hub")
    elif hub.partition(":")[0] not in ("uring", "uringhub.hub"):
        report.add(NOTE, "this shell", f"EVENTLET_HUB={hub} picks another hub", "export EVENTLET_HUB=uring")
    else:
        report.add(OK, "this shell", f"EVENTLET_HUB={hub}: programs started here use this hub")


def _child(program: str, *args: str, **env: str) -> subprocess.CompletedProcess[str] | str:
    """Runs `program` in a new interpreter; a sentence says what went wrong if something did."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, *args],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CHILD_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"cannot run {sys.executable}: {error}"
    if done.returncode < 0:
        return f"the trial process was killed by {signal.Signals(-done.returncode).name}"
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return lines[-1]
    return done
