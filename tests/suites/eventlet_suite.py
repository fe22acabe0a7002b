"""Runs Eventlet's own test-suite on our hub and compares it, test by test, with Eventlet's own hubs.

    python tests/suites/eventlet_suite.py                     # both drivers against epolls and asyncio
    python tests/suites/eventlet_suite.py --hub uring+epoll --only tests/greenio_test.py

The suite is the one in the pinned sdist, copied out so that the installed Eventlet is what is tested. A test
counts against us when it passes on epolls and does not pass here, or passes on the asyncio hub (which some
tests need) and fails here. Such a test is then run alone three times: only if it passes all three is it
reported as unsteady instead. `eventlet_known.toml` lists what is exempt, each with its reason.

Exit code: 0 nothing failed that passes on the stock hubs, 1 something did, 2 the suite could not be run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
CACHE = HERE / "cache"
SDIST = "eventlet-0.41.3.tar.gz"
HUBS = {
    "epolls": {"EVENTLET_HUB": "epolls"},
    "asyncio": {"EVENTLET_HUB": "asyncio"},
    "uring+uring": {"EVENTLET_HUB": "uring", "URINGHUB_DRIVER": "uring"},
    "uring+epoll": {"EVENTLET_HUB": "uring", "URINGHUB_DRIVER": "epoll"},
}
REFERENCES = ("epolls", "asyncio")
DATABASES = {
    "psycopg2": {"host": "127.0.0.1", "port": 5432, "user": "postgres"},
    "MySQLdb": {"host": "127.0.0.1", "port": 3306, "user": "root", "passwd": ""},
}
TEST_TIMEOUT_S = 40
SUITE_TIMEOUT_S = 900
CRASHES_MAX = 20
RERUNS = 3


@dataclass
class Outcomes:
    """What each test of one run came to: passed, skipped, failed, crashed; and why."""

    states: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def count(self, *states: str) -> int:
        return sum(state in states for state in self.states.values())

    def summary(self) -> str:
        counts = {state: self.count(state) for state in ("passed", "failed", "crashed", "skipped")}
        return ", ".join(f"{n} {state}" for state, n in counts.items() if n or state in ("passed", "failed"))


def fetch_suite() -> Path:
    """Unpacks `tests/` of the pinned sdist, which pip fetches and checks against its index."""
    suite = CACHE / SDIST.removesuffix(".tar.gz")
    if not (suite / "tests").is_dir():
        CACHE.mkdir(exist_ok=True)
        requirement = SDIST.removesuffix(".tar.gz").replace("-", "==")
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "eventlet"]
            + ["-d", str(CACHE), requirement],
            check=True,
        )
        with tempfile.TemporaryDirectory(dir=CACHE) as folder, tarfile.open(CACHE / SDIST) as sdist:
            sdist.extractall(folder, filter="data")
            suite.mkdir(exist_ok=True)
            os.replace(Path(folder, suite.name, "tests"), suite / "tests")
    return suite


def run_all(suite: Path, hubs: list[str], tests: list[str], jobs: int) -> dict[str, Outcomes]:
    """Every test file on every hub, each file in a process of its own.

    So what a failing test leaves behind in its hub fails the rest of its file at most.
    """
    files = tests or sorted(str(path.relative_to(suite)) for path in (suite / "tests").glob("*test*.py"))
    runs = {hub: Outcomes() for hub in hubs}
    with ThreadPoolExecutor(jobs) as pool:
        # File by file, so that the hubs share whatever else the machine is doing.
        pairs = [(hub, file) for file in files for hub in hubs]
        for (hub, file), outcomes in zip(
            pairs, pool.map(lambda pair: run_suite(suite, pair[0], [pair[1]]), pairs), strict=True
        ):
            if outcomes.count("failed", "crashed"):
                print(f"    {hub}: {file}: {outcomes.summary()}", flush=True)
            runs[hub].states |= outcomes.states
            runs[hub].details |= outcomes.details
    return runs


def run_suite(suite: Path, hub: str, tests: list[str], timeout_s: int = SUITE_TIMEOUT_S) -> Outcomes:
    """One run on one hub. After a crash the rest is run in a new process."""
    outcomes = Outcomes()
    with tempfile.TemporaryDirectory(prefix="suite-") as folder:
        for attempt in range(CRASHES_MAX):
            log = Path(folder, f"log-{attempt}")
            settled = Path(folder, "settled")
            settled.write_text("\n".join(outcomes.states))
            ending = _pytest(suite, hub, tests, log, settled, timeout_s)
            if _merge(log, outcomes, ending):
                return outcomes
    outcomes.details["suite"] = f"gave up after {CRASHES_MAX} crashes"
    return outcomes


def _pytest(suite: Path, hub: str, tests: list[str], log: Path, settled: Path, timeout_s: int) -> str:
    env = {k: v for k, v in os.environ.items() if k not in ("EVENTLET_HUB", "URINGHUB_DRIVER")}
    env |= HUBS[hub]
    env |= {
        "EVENTLET_DB_TEST_AUTH": json.dumps(DATABASES),
        "OUTCOME_LOG": str(log),
        "OUTCOME_SKIP": str(settled),
        "PYTHONPATH": f"{HERE}{os.pathsep}{HERE / 'shim'}",
    }
    command = [sys.executable, "-X", "faulthandler", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "outcome_log", f"--timeout={TEST_TIMEOUT_S}", "--timeout-method=signal"]
    # Else pytest would take the options of our own pyproject.toml, which is above the copied suite.
    command += ["-c", "/dev/null", "--rootdir", str(suite), *tests]
    try:
        done = subprocess.run(
            command, cwd=suite, env=env, timeout=timeout_s, stdin=subprocess.DEVNULL, capture_output=True
        )
    except subprocess.TimeoutExpired as error:
        return f"no end after {timeout_s} s\n{(error.stdout or b'').decode(errors='replace')[-3000:]}"
    output = (done.stdout + done.stderr).decode(errors="replace")
    return f"exit code {done.returncode}\n{output[-3000:]}"


def _merge(log: Path, outcomes: Outcomes, ending: str) -> bool:
    """Adds a log to the outcomes; false if the process died within a test, which is then a crash."""
    running = None
    finished = False
    for line in log.read_text().splitlines() if log.exists() else ():
        entry = json.loads(line)
        test, state = entry.get("test"), entry["state"]
        if state == "finished":
            finished = True
        elif state == "started":
            running = test
        elif outcomes.states.get(test) != "failed":
            outcomes.states[test] = state
            outcomes.details[test] = entry["detail"]
    if finished:
        return True
    if running is None:
        raise RuntimeError(f"the suite did not start: {ending}")
    outcomes.states[running] = "crashed"
    outcomes.details[running] = ending
    return False


def regressions(ours: Outcomes, references: dict[str, Outcomes], exempt: dict[str, str]) -> list[str]:
    """The tests that a stock hub passes and ours does not."""
    worse = []
    for test in sorted(set(ours.states).union(*(r.states for r in references.values()))):
        state = ours.states.get(test, "missing")
        on_epolls = references.get("epolls", Outcomes()).states.get(test) == "passed"
        on_any = any(r.states.get(test) == "passed" for r in references.values())
        if state == "passed" or test in exempt:
            continue
        if on_epolls or (on_any and state not in ("skipped", "missing")):
            worse.append(test)
    return worse


def passes_alone(suite: Path, hub: str, test: str) -> bool:
    """Whether the test passes every time when nothing else runs."""
    runs = (run_suite(suite, hub, [test], timeout_s=120) for _ in range(RERUNS))
    return all(run.states.get(test) == "passed" for run in runs)


def compare(suite: Path, hub: str, runs: dict[str, Outcomes], exempt: dict[str, str]) -> int:
    """Prints what is worse on `hub` and returns how many such tests there are."""
    references = {name: runs[name] for name in REFERENCES if name in runs}
    failures = 0
    for test in regressions(runs[hub], references, exempt):
        state = runs[hub].states.get(test, "missing")
        if state in ("failed", "crashed") and passes_alone(suite, hub, test):
            print(f"{hub}: unsteady: {test}: {state} in the suite, passed {RERUNS} of {RERUNS} alone")
            continue
        failures += 1
        print(f"{hub}: REGRESSION: {test}: {state}")
        print("    " + runs[hub].details.get(test, "").strip()[-1500:].replace("\n", "\n    "))
    print(f"{hub}: {runs[hub].summary()}; {failures} that a stock hub passes")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hub", action="append", choices=[h for h in HUBS if h not in REFERENCES])
    parser.add_argument("--only", action="append", default=[], help="a path or node id below tests/")
    parser.add_argument("--jobs", type=int, default=2, help="suites at once")
    parser.add_argument(
        "--reference", action="append", choices=REFERENCES, help="stock hub to compare with; default both"
    )
    parser.add_argument("--recorded", type=Path, help="take the stock hubs' outcomes from a --json file")
    parser.add_argument("--references-only", action="store_true", help="run and print the stock hubs only")
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    options = parser.parse_args()
    suite = fetch_suite()
    known = tomllib.loads((HERE / "eventlet_known.toml").read_text())

    def exempt(hub: str) -> dict[str, str]:
        return {e["test"]: e["reason"] for e in known["exempt"] if e.get("hub", hub) == hub}

    chosen = [] if options.references_only else options.hub or ["uring+uring", "uring+epoll"]
    references = options.reference or list(REFERENCES)
    recorded = json.loads(options.recorded.read_text()) if options.recorded else {}
    hubs = [name for name in [*references, *chosen] if name in chosen or name not in recorded]
    runs = run_all(suite, hubs, options.only, options.jobs)
    for name in set(references) & set(recorded):
        chosen_tests = tuple(options.only) or ("tests",)
        states = {test: state for test, state in recorded[name].items() if test.startswith(chosen_tests)}
        runs[name] = Outcomes(states)
    if options.json:
        options.json.write_text(json.dumps({h: r.states for h, r in runs.items()}, indent=1, sort_keys=True))
    print(f"eventlet's own tests, {SDIST}, CPython {sys.version.split()[0]}")
    for name in references:
        print(f"{name}: {runs[name].summary()}")
        for test, state in runs[name].states.items():
            if state in ("failed", "crashed"):
                print(f"    {state}: {test}: {exempt(name).get(test, 'no reason on record')}")
    return 1 if sum(compare(suite, hub, runs, exempt(hub)) for hub in chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
