"""The Eventlet hub: ``EVENTLET_HUB=uring``, ``use_hub("uring")`` or ``use_hub("uringhub.hub")``.

The turn, the timers, the waits and the socket operations are native (``uringhub._native.Core``). This module
holds what other projects reach for on a hub: the attributes and methods of ``eventlet.hubs.hub.BaseHub``,
persistent listeners, and the frame named ``do_poll`` that oslo.service looks for from its signal handlers.

Source: eventlet 0.41, ``eventlet/hubs/hub.py`` and ``eventlet/hubs/asyncio.py``.
"""

import errno
import importlib
import ssl  # noqa: F401  (`_share_ssl_context` finds it loaded)
import sys
import traceback

from eventlet import patcher
from eventlet.hubs import asyncio as _asyncio_hub
from eventlet.hubs import hub as _base
from eventlet.support import greenlets as greenlet

from uringhub import _eventlet, _executor, _green_selector, _native, _signals, _threads

_time = patcher.original("time")

READ = _base.READ
WRITE = _base.WRITE


def is_available():
    """Whether the hub can run here: always, since it falls back to epoll."""
    return True


def _share_ssl_context():
    """Have asyncio know the contexts of the program: eventlet gives it a copy of ``ssl`` with a class of its own."""
    try:
        green = importlib.import_module("eventlet.green.ssl")
    except ImportError:
        green = None
    context = getattr(green, "_original_sslcontext", None) or sys.modules["ssl"].SSLContext
    patcher.original("ssl").SSLContext = context


# What eventlet patches. It imports its own versions of them all to name them; its copy of `threading` stays, and
# reports an assertion after each fork on Python 3.13.
_PATCHED = "os select selectors socket ssl queue _thread threading time builtins subprocess".split()


def _unpatch_asyncio():
    """Have asyncio use the original modules, as eventlet does it, but leave ``concurrent.futures`` to the program."""
    pool = sys.modules.get("concurrent.futures.thread")
    names = ("threading", "queue")
    before = {name: getattr(pool, name, sys.modules.get(name)) for name in names}
    for name in _PATCHED:
        patcher._unmonkey_patch_asyncio(name)
    patcher.original("selectors").select = patcher.original("select")
    pool = sys.modules.get("concurrent.futures.thread")
    if pool is not None:
        for name, module in before.items():
            setattr(pool, name, module or importlib.import_module(name))


class Hub(_native.Core, _asyncio_hub.Hub):
    """Runs green threads on io_uring completions, or on epoll where io_uring cannot be had.

    It is an instance of ``eventlet.hubs.asyncio.Hub``, because that is what eventlet checks before it lets
    green threads and coroutines wait for each other. It allows several readers of one descriptor all the
    same.

    :param clock: a callable that returns seconds; only read by those who look at ``hub.clock``, deadlines
        are on the monotonic clock.
    :raises ValueError: ``URINGHUB_DRIVER`` is none of auto, uring, epoll.
    :raises OSError: the driver that was asked for cannot be had; the message names cause and remedy.
    """

    def __init__(self, clock=None):
        _eventlet.install()
        self.listeners = {READ: {}, WRITE: {}}
        self.secondaries = {READ: {}, WRITE: {}}
        self.closed = []
        self.clock = clock or _time.monotonic
        self.lclass = _base.FdListener
        self.debug_exceptions = True
        self.debug_blocking_resolution = 1
        self.greenlet = greenlet.greenlet(self.run)
        self._loop = None
        self._wakeup = None
        self.make_current()
        _threads.follow(self)

    def _thread_ended(self):
        """Give up the driver and all that waits."""
        self.listeners = {READ: {}, WRITE: {}}
        self.secondaries = {READ: {}, WRITE: {}}
        self.closed = []
        self._end()
        self._loop = None

    def _post_initialize(self):
        """Have asyncio use the original socket, select and threading; ``get_hub()`` works by now."""
        _unpatch_asyncio()
        _share_ssl_context()
        _executor.install()
        _green_selector.install()
        from uringhub._hub_loop import HubLoop

        self._loop = HubLoop(self)

    # The loop ---------------------------------------------------------------------------------------------

    def run(self, *_args, **_kwargs):
        """Run until :meth:`abort`; arguments are accepted because greenlets that end pass theirs on."""
        if self.running:
            raise RuntimeError("Already running!")
        try:
            self.running = True
            self.stopping = False
            self._wakeup = _signals.follow(self, self._wakeup)
            self._run()
            self._clear()
        finally:
            self.running = False
            self.stopping = False
            if self._wakeup is not None:
                self._wakeup.close(self)
                self._wakeup = None

    def wait(self, seconds=None):
        """Wait for completions at most ``seconds``, or until one comes."""
        try:
            self.do_poll(seconds)
        except OSError as error:
            if error.errno != errno.EINTR:
                raise

    def do_poll(self, seconds):
        """The wait itself; oslo.service's signal handlers raise ``OSError(EINTR)`` through this frame."""
        self._wakeup = _signals.follow(self, self._wakeup)
        return self._poll(seconds)

    def _follow_signals_anew(self):
        """Set the wake-up descriptor again, after somebody has unset it."""
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is not None:
            wakeup.close(self)
            self._wakeup = _signals.follow(self, None)

    @property
    def in_flight(self):
        """How many operations of green threads and listeners the driver has; the hub's own watch is none."""
        return super().in_flight - (self._wakeup is not None)

    # asyncio ----------------------------------------------------------------------------------------------

    @property
    def loop(self):
        """The asyncio loop of this thread, on this hub's turn and driver; running from its first use on."""
        if self._loop is None:
            self._post_initialize()
        self._loop.enter()
        return self._loop

    # Descriptors ------------------------------------------------------------------------------------------

    def add(self, evtype, fileno, cb, tb, mark_as_closed):
        """Call ``cb(fileno)`` whenever the descriptor is ready, until :meth:`remove`; level-triggered.

        :raises ValueError: the number is negative.
        :raises OSError: the number is not open (``EBADF``).
        :raises RuntimeError: another green thread waits on the same side of it already.
        """
        _native.fileno(fileno)
        if _base.g_prevent_multiple_readers:
            for number, waiter in self._waiting(evtype == WRITE):
                if number == fileno:
                    self.listeners[evtype].setdefault(fileno, waiter)
        try:
            listener = _base.BaseHub.add(self, evtype, fileno, cb, tb, mark_as_closed)
        finally:
            if not isinstance(self.listeners[evtype].get(fileno), _base.FdListener):
                self.listeners[evtype].pop(fileno, None)
        listener.uringhub_watch = None
        self._rewatch(evtype, fileno)
        return listener

    def remove(self, listener):
        """End a listener; the next one that queues behind it, if any, takes its place."""
        self._unwatch_listener(listener)
        _base.BaseHub.remove(self, listener)
        self._rewatch(listener.evtype, listener.fileno)

    def remove_descriptor(self, fileno):
        """End all listeners of a descriptor, after calling each once more."""
        for bucket in self.listeners.values():
            if fileno in bucket:
                self._unwatch_listener(bucket[fileno])
        _base.BaseHub.remove_descriptor(self, fileno)

    def mark_as_reopened(self, fileno):
        """The number names another file now: whoever still waits on it gets ``IOClosed``."""
        if self._reopened(fileno):
            self._obsolete(fileno)

    def _rewatch(self, evtype, fileno):
        """Watches the descriptor for its first listener."""
        listener = self.listeners[evtype].get(fileno)
        if listener is not None and listener.uringhub_watch is None:
            listener.uringhub_watch = self._watch(fileno, evtype == WRITE, listener)

    def _unwatch_listener(self, listener):
        watch, listener.uringhub_watch = getattr(listener, "uringhub_watch", None), None
        if watch is not None:
            self._unwatch(watch)

    # Timers -----------------------------------------------------------------------------------------------

    def add_timer(self, timer):
        """Schedule an ``eventlet.hubs.timer.Timer``; returns the clock reading at which it is due."""
        native = self.schedule_call_global(timer.seconds, timer)
        timer.uringhub_timer = native
        return self.clock() + timer.seconds

    def timer_canceled(self, timer):
        """An ``eventlet.hubs.timer.Timer`` was cancelled: forget its entry."""
        native = getattr(timer, "uringhub_timer", None)
        if native is not None:
            native.cancel()

    @property
    def timers(self):
        """The calls scheduled for later, as ``(scheduled_time, timer)`` pairs by time; a copy."""
        return sorted(self._timers(False), key=lambda entry: entry[0] or 0.0)

    @property
    def next_timers(self):
        """The calls that are due now, as ``(scheduled_time, timer)`` pairs; a copy."""
        return self._timers(True)

    # Debugging --------------------------------------------------------------------------------------------

    def get_readers(self):
        """Listeners and native waits for reading, in no particular order."""
        return [*self.listeners[READ].values(), *self._native_listeners(READ)]

    def get_writers(self):
        """Listeners and native waits for writing, in no particular order."""
        return [*self.listeners[WRITE].values(), *self._native_listeners(WRITE)]

    def _native_listeners(self, evtype):
        for fileno, waiter in self._waiting(evtype == WRITE):
            yield _base.FdListener(evtype, fileno, waiter.switch, waiter.throw, None)

    def squelch_exception(self, fileno, exc_info):
        """Print the exception of a listener's callback and remove the descriptor, as eventlet's hubs do."""
        if not self.debug_exceptions:
            self.remove_descriptor(fileno)
            return
        traceback.print_exception(*exc_info)
        _base.sys.stderr.write(f"Removing descriptor: {fileno!r}\n")
        _base.sys.stderr.flush()
        try:
            self.remove_descriptor(fileno)
        except Exception as error:
            _base.sys.stderr.write(f"Exception while removing descriptor! {error!r}\n")
            _base.sys.stderr.flush()
