"""CPython's suites that ask the policy for their loop, run against ``LOOP_FACTORY=module:callable``."""

from __future__ import annotations

import asyncio
import importlib
import os
import unittest

import pytest

_MODULE, _, _NAME = os.environ.get("LOOP_FACTORY", "asyncio:SelectorEventLoop").partition(":")
factory = getattr(importlib.import_module(_MODULE), _NAME)

# What a Python is too old for is left out.
SUITES = (
    "context", "locks", "pep492", "queues", "runners", "streams", "taskgroups", "tasks", "threads", "timeouts",
    "waitfor", "eager_task_factory",
)  # fmt: skip


class Policy(asyncio.DefaultEventLoopPolicy):
    """Makes the loop under test."""

    def new_event_loop(self):
        return factory()


@pytest.fixture(autouse=True)
def policy():
    """The policy under test, around each test."""
    asyncio.set_event_loop_policy(Policy())
    yield
    asyncio.set_event_loop_policy(None)


for _suite in SUITES:
    try:
        _module = importlib.import_module(f"test.test_asyncio.test_{_suite}")
    except ModuleNotFoundError:
        continue
    for _class_name, _class in vars(_module).items():
        is_suite = isinstance(_class, type) and issubclass(_class, unittest.TestCase)
        if is_suite and _class.__module__ == _module.__name__:
            globals()[f"{_suite}_{_class_name}"] = _class
