"""Loops under test: the stock loop as the contract, then ours on each driver."""

from __future__ import annotations

import asyncio

import pytest
import uringhub

LOOPS = {
    "stock": (asyncio.SelectorEventLoop, None),
    "uring": (uringhub.new_event_loop, "uring"),
    "epoll": (uringhub.new_event_loop, "epoll"),
}


def make_factory(name: str, monkeypatch):
    factory, driver = LOOPS[name]
    if driver is not None:
        monkeypatch.setenv("URINGHUB_DRIVER", driver)
    return factory


@pytest.fixture(params=LOOPS)
def new_loop(request, monkeypatch):
    """A factory of the loop under test."""
    return make_factory(request.param, monkeypatch)


@pytest.fixture(params=["uring", "epoll"])
def our_loop(request, monkeypatch):
    """A factory of our loop alone, on each driver."""
    return make_factory(request.param, monkeypatch)


@pytest.fixture
def loop(new_loop):
    """An open loop, closed after the test."""
    loop = new_loop()
    yield loop
    loop.close()


@pytest.fixture
def run(loop):
    """Runs a coroutine on the loop under test, for at most ten seconds."""
    return lambda main: loop.run_until_complete(asyncio.wait_for(main, 10))
