"""A stock asyncio loop as a guest of the hub: what ``spawn_for_awaitable`` and ``await green_thread`` run on.

The hub drives it: once a turn its ready handles run, before the green threads of that turn, as on eventlet's
asyncio hub. It never waits itself: its selector is watched by the hub like any
descriptor, its deadlines are calls scheduled on the hub. It is made on first use, so that a program without
coroutines has no running loop, as on eventlet's other hubs.

Source: CPython, ``asyncio/base_events.py`` (``run_forever``, ``_run_once``).
"""

import asyncio
import importlib.util
import sys
from asyncio import events

from eventlet import patcher

_threading = patcher.original("threading")


def _epoll_selector():
    """A selector with a descriptor to watch: under monkey-patching ``selectors`` knows only ``select``."""
    spec = importlib.util.find_spec("selectors")
    selectors = importlib.util.module_from_spec(spec)
    patched = sys.modules.get("select")
    sys.modules["select"] = patcher.original("select")
    try:
        spec.loader.exec_module(selectors)
    finally:
        sys.modules["select"] = patched
    return selectors.EpollSelector()


class GuestLoop(asyncio.SelectorEventLoop):
    """A selector loop that is stepped from the hub's greenlet and always counts as running."""

    def __init__(self, hub):
        self._hub = hub
        self._step_call = None
        self._deadline_call = None
        self._stepping = False
        super().__init__(_epoll_selector())
        self.cb = self._on_selector
        self._watch = hub._watch(self._selector.fileno(), False, self)

    def enter(self):
        """Become the running loop of the hub's thread."""
        self._thread_id = _threading.get_ident()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
        )
        asyncio.set_event_loop(self)
        events._set_running_loop(self)

    def _call_soon(self, callback, args, context):
        handle = super()._call_soon(callback, args, context)
        self._step_soon()
        return handle

    def _add_callback(self, handle):
        super()._add_callback(handle)
        self._step_soon()

    def call_at(self, when, callback, *args, context=None):
        """As in the base class; the hub's timers hold the earliest deadline."""
        handle = super().call_at(when, callback, *args, context=context)
        if self._scheduled and self._scheduled[0] is handle:
            self._step_at_deadline()
        return handle

    def _step_soon(self):
        # Another thread has no hub to call; what it writes to the loop's own socket wakes this one.
        if self._step_call is None and not self._stepping and _threading.get_ident() == self._thread_id:
            self._step_call = self._hub._call_first(self._step)

    def _step_at_deadline(self):
        if self._deadline_call is not None:
            self._deadline_call.cancel()
            self._deadline_call = None
        if self._scheduled:
            delay = max(self._scheduled[0]._when - self.time(), 0)
            self._deadline_call = self._hub.schedule_call_global(delay, self._step)

    def _on_selector(self, _fileno):
        self._step()

    def _step(self):
        if self._step_call is not None:
            self._step_call.cancel()
            self._step_call = None
        # A loop that is stopping looks at its selector without waiting.
        self._stopping = True
        self._stepping = True
        try:
            self._run_once()
        finally:
            self._stopping = False
            self._stepping = False
            if self._ready and self._step_call is None:
                self._step_call = self._hub.schedule_call_global(0, self._step)
            self._step_at_deadline()
