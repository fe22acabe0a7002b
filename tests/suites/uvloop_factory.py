"""A pytest plugin: uvloop's own ``Test_UV_*`` cases on ``LOOP_FACTORY`` (``-p uvloop_factory``)."""

from __future__ import annotations

import asyncio
import importlib
import os

import uvloop._testbase

_MODULE, _, _NAME = os.environ["LOOP_FACTORY"].partition(":")
factory = getattr(importlib.import_module(_MODULE), _NAME)


class Policy(asyncio.DefaultEventLoopPolicy):
    """Makes the loop under test."""

    def new_event_loop(self):
        return factory()


uvloop._testbase.UVTestCase.new_loop = lambda self: factory()
uvloop._testbase.UVTestCase.new_policy = lambda self: Policy()
