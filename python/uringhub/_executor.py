"""The thread pool of ``loop.run_in_executor`` and ``asyncio.to_thread`` in a monkey-patched program: OS threads.

What such a program makes of ``concurrent.futures`` itself are green threads, as on Eventlet's other hubs. Eventlet's asyncio hub
gives the module the original threads instead, whose futures stay green: two threads that wait for one of them end in
"Cannot switch to a different thread".
"""

import concurrent.futures
import functools
import importlib.util
import os
from asyncio import base_events

from eventlet import patcher


def _load():
    """A copy of ``concurrent.futures.thread`` on the original ``threading`` and ``queue``."""
    threading = patcher.original("threading")
    import concurrent.futures.thread as green

    class Future(concurrent.futures.Future):
        """A future that OS threads wait for."""

        def __init__(self):
            super().__init__()
            self._condition = threading.Condition()

    class Base:
        """``concurrent.futures._base`` with that future."""

        def __getattr__(self, name):
            return getattr(concurrent.futures._base, name)

    spec = importlib.util.spec_from_file_location("uringhub._native_threads", green.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.threading = threading
    module.queue = patcher.original("queue")
    # Held at a fork by another thread, it would stay held in the child.
    lock = module._global_shutdown_lock = threading.Lock()
    os.register_at_fork(
        before=lock.acquire, after_in_child=lock._at_fork_reinit, after_in_parent=lock.release
    )
    module._base = Base()
    module._base.Future = Future
    return module


_module = None


def _make():
    global _module
    if _module is None:
        _module = _load()
    return _module.ThreadPoolExecutor(thread_name_prefix="asyncio")


def install():
    """Have asyncio's loops, those that a green thread runs included, make their default executor here."""
    original = base_events.BaseEventLoop.run_in_executor
    if hasattr(original, "uringhub"):
        return

    @functools.wraps(original)
    def run_in_executor(self, executor, func, *args):
        is_first = executor is None and self._default_executor is None and not self._executor_shutdown_called
        if is_first and patcher.is_monkey_patched("thread"):
            self._default_executor = _make()
        return original(self, executor, func, *args)

    run_in_executor.uringhub = True
    base_events.BaseEventLoop.run_in_executor = run_in_executor
