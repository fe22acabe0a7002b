"""A pytest plugin: uvloop's own ``Test_UV_*`` cases on ``LOOP_FACTORY`` (``-p uvloop_factory``)."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys

import pytest
import uvloop._testbase

_MODULE, _, _NAME = os.environ["LOOP_FACTORY"].partition(":")
factory = getattr(importlib.import_module(_MODULE), _NAME)


class Policy(asyncio.DefaultEventLoopPolicy):
    """Makes the loop under test."""

    def new_event_loop(self):
        return factory()


uvloop._testbase.UVTestCase.new_loop = lambda self: factory()
uvloop._testbase.UVTestCase.new_policy = lambda self: Policy()


# What CPython 3.10 cannot do on any loop, its own included: tests that fail there leave server threads behind which
# run for ever and starve the tests after them.
_NOT_ON_3_10 = {
    "test_context.py::Test_UV_Context::test_start_tls": "TLS over TLS came to asyncio with Python 3.11",
    "test_tcp.py::Test_UV_TCPSSL::test_create_server_ssl_over_ssl": "TLS over TLS came to asyncio with Python 3.11",
    "test_tcp.py::Test_UV_TCPSSL::test_renegotiation": "its busy servers leave no time for the client's handshake",
}


def pytest_collection_modifyitems(items):
    """Leaves out, on every loop, the tests above."""
    if sys.version_info >= (3, 11):
        return
    for item in items:
        reason = _NOT_ON_3_10.get(item.nodeid.rpartition("/")[2])
        if reason:
            item.add_marker(pytest.mark.skip(reason))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """Keeps the exit code for `pytest_unconfigure`."""
    session.config.uvloop_exit_status = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Ends without waiting for threads that a failed test has left behind."""
    os._exit(getattr(config, "uvloop_exit_status", 1))
