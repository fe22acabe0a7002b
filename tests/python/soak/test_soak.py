"""The soak: a short tier in every run of the tests, ten minutes on each driver by `make soak`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs.own_process import require_hub

SOAK = Path(__file__).with_name("soak.py")


def soak(hub, seconds, *options):
    """Runs it and shows its table."""
    require_hub(hub)
    command = [sys.executable, SOAK, "--hub", hub.name, "--seconds", str(seconds), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 1.5 + 90)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_twenty_seconds_of_soak_lose_nothing(hub):
    soak(hub, 20)


@pytest.mark.slow
def test_ten_seconds_of_soak_with_both_worlds_lose_nothing(our_hub):
    soak(our_hub, 10, "--worlds")


def minutes(request):
    """URINGHUB_SOAK_SECONDS changes the ten minutes."""
    if "soak" not in (request.config.option.markexpr or ""):
        pytest.skip("make soak runs it")
    return float(os.environ.get("URINGHUB_SOAK_SECONDS", "600"))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_minutes_of_soak_lose_nothing(our_hub, request):
    soak(our_hub, minutes(request))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_minutes_of_soak_with_both_worlds_lose_nothing(our_hub, request):
    soak(our_hub, minutes(request), "--worlds")
