"""Programs of green threads and coroutines in one thread, each run in a process of its own."""

from __future__ import annotations

import textwrap

import isolated
import pytest

# On a hub that does not hold what a program asks for, it may well wait for ever: it ends after a while then.
PRELUDE = """
import faulthandler
faulthandler.dump_traceback_later({deadline_s}, exit=True)
import asyncio, contextvars, os, signal, socket, sys, threading, time
import eventlet
from eventlet import hubs
from eventlet.asyncio import spawn_for_awaitable

def run(main):
    return spawn_for_awaitable(main).wait()
"""
DEADLINE_S = 30
STOCK = isolated.HubChoice("asyncio", "asyncio")
STOCK_DEADLINE_S = 4


@pytest.fixture
def lifted(our_hub):
    """Runs a program on our hub, on either driver."""

    def run(program: str, **options) -> str:
        source = PRELUDE.format(deadline_s=DEADLINE_S) + textwrap.dedent(program)
        return isolated.run(source, hub=our_hub, **options).stdout

    return run


@pytest.fixture
def limited():
    """Runs a program on eventlet's own asyncio hub, where it is known to fail."""

    def run(program: str) -> None:
        source = PRELUDE.format(deadline_s=STOCK_DEADLINE_S) + textwrap.dedent(program)
        done = isolated.run(source, hub=STOCK, check=False)
        assert done.returncode != 0, done.stdout

    return run
