"""Runs other projects' asyncio suites on our loop, on each driver.

    python tests/suites/asyncio_suites.py                           # CPython's mixins and policy-driven suites
    python tests/suites/asyncio_suites.py --only uvloop             # uvloop's own tests, from its sdist
    python tests/suites/asyncio_suites.py --driver epoll --only mixins
    python tests/suites/asyncio_suites.py --jobs 2                  # two at a time

A suite passes when it has no failure that `asyncio_known.toml` does not name. What fails beside others on a busy
machine is run once more by itself; it counts if it fails again.

Exit code: 0 all suites pass, 1 a test failed, 2 a suite could not be run.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
CACHE = HERE / "cache"
LOOPS = {
    "stock": {"LOOP_FACTORY": "asyncio:SelectorEventLoop"},
    "uring": {"LOOP_FACTORY": "uringhub:new_event_loop", "URINGHUB_DRIVER": "uring"},
    "epoll": {"LOOP_FACTORY": "uringhub:new_event_loop", "URINGHUB_DRIVER": "epoll"},
}
TEST_TIMEOUT_S = 40
SUITE_TIMEOUT_S = 900


ARGUMENTS = {
    "mixins": [str(HERE / "cpython_mixins.py")],
    "policy": [str(HERE / "cpython_policy.py")],
    "uvloop": ["-p", "uvloop_factory", "-k", "_UV or TestUV or TestBaseUV", "tests"],
}


def unpack_uvloop() -> Path:
    """The unpacked sdist of the uvloop that is installed here, whose tests are not in its wheel."""
    version = importlib.metadata.version("uvloop")
    folder = CACHE / f"uvloop-{version}"
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "uvloop",
             "-d", str(CACHE), f"uvloop=={version}"], check=True,
        )  # fmt: skip
        with tarfile.open(CACHE / f"uvloop-{version}.tar.gz") as sdist:
            members = [m for m in sdist.getmembers() if m.name.startswith(f"uvloop-{version}/tests")]
            sdist.extractall(CACHE, members=members)
    return folder


def run(arguments: list[str], loop: str, cwd: Path) -> dict[str, str]:
    """The outcome of each test: passed, skipped or failed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        subprocess.run(
            [
                sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-s", "-o", "addopts=", "--tb=no",
                "-p", "no:cacheprovider", f"--timeout={TEST_TIMEOUT_S}", f"--junitxml={report}", *arguments,
            ],
            env={**os.environ, "PYTHONPATH": str(HERE), **LOOPS[loop]},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SUITE_TIMEOUT_S,
        )  # fmt: skip
        if not report.exists():
            raise RuntimeError(f"pytest died on {loop}; run it by hand: {' '.join(arguments)}")
        outcomes = {}
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            tags = {child.tag for child in case}
            state = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
            name = f"{case.get('classname')}.{case.get('name')}"
            if outcomes.get(name) != "failed":
                outcomes[name] = state
        return outcomes


def judge(name: str, loop: str, known: dict[str, str]) -> tuple[int, list[str]]:
    """Runs a suite on a loop: the exit status, and what there is to say."""
    arguments = ARGUMENTS[name]
    cwd = unpack_uvloop() if name == "uvloop" else HERE
    try:
        outcomes = run(arguments, loop, cwd)
        wrong = unknown_failures(outcomes, known)
        if wrong:
            again = run([*arguments, "-k", " or ".join(sorted(map(short_name, wrong)))], loop, cwd)
            outcomes |= {test: again[test] for test in wrong if test in again}
            wrong = unknown_failures(outcomes, known)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return 2, [f"{name} on {loop}: {error}"]
    counts = ", ".join(f"{count} {state}" for state, count in sorted(Counter(outcomes.values()).items()))
    head = f"{name} on {loop}, Python {sys.version.split()[0]}: {counts}; {len(wrong)} not known"
    return int(bool(wrong)), [head, *(f"  {test}" for test in wrong)]


def has_tests() -> bool:
    """Whether this Python has its own tests; distributions may leave them out."""
    return all(importlib.util.find_spec(name) for name in ("test", "test.test_asyncio"))


def reasons(known: dict[str, dict[str, str]], suite: str) -> dict[str, str]:
    """What may fail in a suite, on every Python or on this one, and why."""
    version = "{}_{}".format(*sys.version_info[:2])
    return known.get(suite, {}) | known.get(f"{suite}_{version}", {})


def short_name(test: str) -> str:
    """The function's name."""
    return test.rpartition(".")[2]


def unknown_failures(outcomes: dict[str, str], known: dict[str, str]) -> list[str]:
    """Failed tests without a reason on the list."""
    return [test for test, state in outcomes.items() if state == "failed" and short_name(test) not in known]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--driver", choices=list(LOOPS), action="append", help="default: uring and epoll")
    parser.add_argument("--only", choices=list(ARGUMENTS), action="append", help="default: mixins and policy")
    parser.add_argument("--jobs", type=int, default=1, help="so many suites at a time")
    options = parser.parse_args()
    if not has_tests():
        print("skipped: this Python comes without test.test_asyncio")
        return 0
    known = tomllib.loads((HERE / "asyncio_known.toml").read_text())
    # A background job inherits an ignored SIGINT, under nohup SIGHUP too, and some tests send them to their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # The longest first.
    pairs = [
        (name, loop)
        for name in options.only or ["policy", "mixins"]
        for loop in options.driver or ["uring", "epoll"]
    ]
    status = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for code, lines in pool.map(lambda pair: judge(*pair, reasons(known, pair[0])), pairs):
            print("\n".join(lines), flush=True)
            status = max(status, code)
    return status


if __name__ == "__main__":
    sys.exit(main())
