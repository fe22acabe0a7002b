"""A pytest plugin that logs each test's start and outcome at once, so that a crash loses nothing.

Environment: OUTCOME_LOG is the file to append to; OUTCOME_SKIP names a file of node ids to leave out, one on
each line (those that an earlier, crashed process already settled).
"""

import json
import os
from pathlib import Path

LOG = Path(os.environ["OUTCOME_LOG"])
RANK = {"passed": 0, "skipped": 1, "failed": 2}


def _write(**entry):
    with LOG.open("a") as log:
        log.write(json.dumps(entry) + "\n")


def pytest_collection_modifyitems(config, items):
    skip = os.environ.get("OUTCOME_SKIP")
    if skip:
        settled = set(Path(skip).read_text().splitlines())
        items[:] = [item for item in items if item.nodeid not in settled]


def pytest_runtest_logstart(nodeid, location):
    _write(test=nodeid, state="started")


def pytest_runtest_logreport(report):
    # Setup and teardown count only where they are what went wrong.
    if report.when == "call" or report.outcome != "passed":
        detail = "" if report.outcome == "passed" else str(report.longrepr)[-4000:]
        _write(test=report.nodeid, state=report.outcome, detail=detail)


def pytest_collectreport(report):
    if report.outcome != "passed":
        _write(test=report.nodeid, state=report.outcome, detail=str(report.longrepr)[-4000:])


def pytest_sessionfinish(session, exitstatus):
    _write(state="finished", exit=int(exitstatus))
