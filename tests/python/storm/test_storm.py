"""A short tier of the kill storm; `make storm` runs the long one."""

import subprocess
import sys
from pathlib import Path

from programs.own_process import require_hub

RUNNER = Path(__file__).with_name("run_storms.py")


def test_twenty_storms_five_at_once_all_balance(hub):
    require_hub(hub)
    done = subprocess.run(
        [sys.executable, RUNNER, "--runs", "20", "--jobs", "5", "--hub", hub.name],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
