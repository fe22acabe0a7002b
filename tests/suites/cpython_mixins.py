"""CPython's own loop-generic mixins, run against ``LOOP_FACTORY=module:callable``.

    LOOP_FACTORY=uringhub:new_event_loop python -m pytest tests/suites/cpython_mixins.py

Needs ``test.test_asyncio``, which distributions may leave out of their Python.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import unittest

from test.test_asyncio import (
    test_buffered_proto,
    test_events,
    test_sendfile,
    test_server,
    test_sock_lowlevel,
    test_sslproto,
    test_subprocess,
    utils,
)

try:
    from test.test_asyncio import test_ssl
except ImportError:
    # Python 3.10 has no such module.
    test_ssl = None

_MODULE, _, _NAME = os.environ.get("LOOP_FACTORY", "asyncio:SelectorEventLoop").partition(":")
factory = getattr(importlib.import_module(_MODULE), _NAME)
IS_STOCK = _MODULE == "asyncio"


class Policy(asyncio.DefaultEventLoopPolicy):
    """Makes the loop under test."""

    def new_event_loop(self):
        return factory()


class UnderTest:
    """What the mixins ask their subclass for."""

    @staticmethod
    def close_loop(loop):
        if not loop.is_closed():
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    def create_event_loop(self):
        return factory()

    def new_loop(self):
        return factory()


class Watched:
    """The stock loop needs a child watcher before 3.12."""

    def setUp(self):
        super().setUp()
        if IS_STOCK and hasattr(asyncio, "SafeChildWatcher"):
            watcher = asyncio.SafeChildWatcher()
            watcher.attach_loop(self.loop)
            asyncio.set_child_watcher(watcher)

    def tearDown(self):
        if IS_STOCK and hasattr(asyncio, "SafeChildWatcher"):
            asyncio.set_child_watcher(None)
        super().tearDown()


class TestEvents(UnderTest, Watched, test_events.EventLoopTestsMixin, utils.TestCase):
    pass


class TestSubprocessEvents(
    UnderTest, Watched, test_events.SubprocessTestsMixin, test_events.EventLoopTestsMixin, utils.TestCase
):
    pass


for _test in dir(test_events.EventLoopTestsMixin):
    if _test.startswith("test_"):
        setattr(TestSubprocessEvents, _test, None)


class TestSockets(UnderTest, test_sock_lowlevel.BaseSockTestsMixin, utils.TestCase):
    pass


class TestSendfile(UnderTest, test_sendfile.SendfileTestsBase, utils.TestCase):
    pass


class TestStartServer(UnderTest, test_server.BaseStartServer, unittest.TestCase):
    pass


class TestBufferedProtocol(UnderTest, test_buffered_proto.BaseTestBufferedProtocol, unittest.TestCase):
    pass


if test_ssl:

    class TestTls(UnderTest, test_ssl.TestSSL):
        pass


class TestStartTls(UnderTest, test_sslproto.BaseStartTLS, unittest.TestCase):
    pass


class TestSubprocess(UnderTest, test_subprocess.SubprocessMixin, utils.TestCase):
    def setUp(self):
        super().setUp()
        asyncio.set_event_loop_policy(Policy())
        self.loop = factory()
        self.set_event_loop(self.loop)
        if IS_STOCK and hasattr(asyncio, "ThreadedChildWatcher"):
            asyncio.get_event_loop_policy().set_child_watcher(asyncio.ThreadedChildWatcher())

    def tearDown(self):
        super().tearDown()
        asyncio.set_event_loop_policy(None)
