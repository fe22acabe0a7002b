"""Measures what an installed uringhub costs an interpreter start that does not use it, and one that does.

    python tests/python/packaging/startup_cost.py [--runs 60]

Three fresh venvs: without the package, with it, and with it and EVENTLET_HUB=uring. Their starts are
interleaved; shown are medians of CPU time (user and system) of `python -c pass`, and what `-X importtime`
says the `.pth` file made the interpreter import.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from interpreters import Interpreter, build_wheelhouse, make_venv

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import isolated


def start_cpu_ms(interpreter: Interpreter, env: dict[str, str]) -> float:
    child = subprocess.Popen([str(interpreter.python), "-c", "pass"], env=env)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return (usage.ru_utime + usage.ru_stime) * 1000


def imported_of_ours(interpreter: Interpreter, env: dict[str, str]) -> list[str]:
    command = [str(interpreter.python), "-X", "importtime", "-c", "pass"]
    trace = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stderr
    return re.findall(r"\b(uringhub\S*)$", trace, re.M)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        wheelhouse = build_wheelhouse(Path(folder, "wheelhouse"))
        without = make_venv(Path(folder, "without"), wheelhouse)
        installed = make_venv(Path(folder, "with"), wheelhouse)
        installed.install("uringhub")
        plain, uring = isolated.environment(), isolated.environment(extra={"EVENTLET_HUB": "uring"})
        cases = {
            "not installed": (without, plain),
            "installed, no variable": (installed, plain),
            "installed, EVENTLET_HUB=uring": (installed, uring),
        }
        samples: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(options.runs):
            for name, case in cases.items():
                samples[name].append(start_cpu_ms(*case))
        base = statistics.median(samples["not installed"])
        for name, case in cases.items():
            median = statistics.median(samples[name])
            modules = ", ".join(imported_of_ours(*case)) or "nothing of ours"
            print(f"{name:30} {median:7.2f} ms CPU  {median - base:+6.2f} ms  imports {modules}")


if __name__ == "__main__":
    main()
