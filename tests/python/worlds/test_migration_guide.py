"""The migration guide is a row of programs, and each of them runs, on both drivers."""

from __future__ import annotations

import re

import isolated
import pytest

GUIDE = (isolated.PROJECT / "docs/migration.md").read_text()
BLOCKS = re.findall(r"^```python ([\w -]+)\n(.*?)^```", GUIDE, re.M | re.S)
WITHOUT_EVENTLET = "import sys; sys.modules['eventlet'] = sys.modules['greenlet'] = None\n"


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(number, our_hub, request):
    flags, program = BLOCKS[number]
    if "postgresql" in flags:
        request.getfixturevalue("postgresql")
    if "without-eventlet" in flags:
        isolated.run(WITHOUT_EVENTLET + program, env={"URINGHUB_DRIVER": our_hub.driver})
    else:
        isolated.run(program, hub=our_hub)


def test_every_python_block_is_run():
    assert len(BLOCKS) == len(re.findall(r"^```python", GUIDE, re.M)) >= 9
