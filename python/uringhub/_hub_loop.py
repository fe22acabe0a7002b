"""The hub's asyncio loop: :class:`uringhub.loop.Loop` on the hub's own turn, timers and driver.

Handles and green threads stand in one ready queue, and the hub waits for both at once. The loop is the current
one of the hub's thread, for ``asyncio.get_event_loop()``. It counts as running from its first use on, for as
long as the thread lives: a program without coroutines has no running loop, as on eventlet's other hubs.
"""

import asyncio
import os
import sys
from asyncio import base_events, events

from eventlet import hubs, patcher
from eventlet.support import greenlets

from uringhub import _native, _worlds
from uringhub.loop import Loop

_threading = patcher.original("threading")


class HubLoop(Loop):
    """A loop that the hub of its thread drives."""

    def __new__(cls, hub):
        """As ``Loop``, without a driver of its own."""
        return super().__new__(cls, hub._lend())

    def __init__(self, hub):
        self._hub = hub
        super().__init__()
        hub._take_in(self)
        asyncio.set_event_loop(self)

    def enter(self):
        """Become the running loop of the hub's thread; without effect when it is."""
        if self._thread_id is not None:
            return
        self._thread_id = _threading.get_ident()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
        )
        events._set_running_loop(self)

    def run_until_complete(self, future):
        """Wait for an awaitable in a green thread, as :func:`uringhub.await_`.

        :raises RuntimeError: called in a coroutine of this loop.
        """
        if asyncio.current_task(self) is not None:
            raise RuntimeError("This event loop is already running")
        return _worlds.await_(future)

    def run_forever(self):
        """Refused: the hub runs the loop."""
        raise RuntimeError("This event loop is already running")

    def stop(self):
        """End the hub, as stopping the loop of eventlet's asyncio hub does."""
        self._hub.abort()

    def close(self):
        """Refused: the hub has it as long as its thread lives."""
        raise RuntimeError("Cannot close a running event loop")

    def __del__(self):
        # The engine is the hub's, and so is what would have to be closed.
        pass

    def _make_self_pipe(self):
        """Other threads wake the hub; the pair is for signal handlers, and made with the first of them."""
        self._ssock = self._csock = None

    def add_signal_handler(self, sig, callback, *args):
        """As in the base class."""
        if self._csock is None:
            super()._make_self_pipe()
        super().add_signal_handler(sig, callback, *args)

    def remove_signal_handler(self, sig):
        """As in the base class; the last one gives the wake-up descriptor back to the hub."""
        removed = super().remove_signal_handler(sig)
        if not self._signal_handlers:
            self._hub._follow_signals_anew()
        return removed

    def _run_in_debug(self, handle):
        # Not by `handle._run`: it enters the context, which a callback that is suspended half-way would keep.
        self._current_handle = handle
        begin = self.time()
        green = greenlets.greenlet.getcurrent()
        before, green.gr_context = green.gr_context, handle._context
        try:
            handle._callback(*handle._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            _worlds.report(handle, error)
        finally:
            green.gr_context = before
            self._current_handle = None
            duration = self.time() - begin
            if duration >= self.slow_callback_duration:
                base_events.logger.warning(
                    "Executing %s took %.3f seconds", base_events._format_handle(handle), duration
                )


def _after_fork():
    """Python unsets the running loop in a forked child; the thread that forked goes on with its own there."""
    hub = getattr(hubs._threadlocal, "hub", None)
    if isinstance(hub, _native.Core) and hub._loop is not None and hub._loop.is_running():
        events._set_running_loop(hub._loop)


os.register_at_fork(after_in_child=_after_fork)
