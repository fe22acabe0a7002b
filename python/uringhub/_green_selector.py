"""Lets a stock asyncio loop run in a green thread without holding up the others.

Programs start loops where they please: ``asyncio.run`` in a ``threading.Thread`` that monkey-patching made
a green thread, as gunicorn's master does. Asyncio keeps the original modules on this hub, so such a loop would
wait in the kernel, and every green thread with it. Its selector waits through the hub instead.

Source: CPython, ``selectors.py``; eventlet 0.41, ``eventlet/patcher.py`` (``_unmonkey_patch_asyncio_all``).
"""

from eventlet import greenthread, hubs, patcher
from eventlet.support import greenlets as greenlet

_selectors = patcher.original("selectors")


class _TimeIsUp(Exception):
    pass


class GreenEpollSelector(_selectors.EpollSelector):
    """An epoll selector whose ``select`` suspends the calling green thread alone.

    In a thread without a hub, and in the hub's own greenlet, it is a plain ``EpollSelector``.
    """

    def select(self, timeout=None):
        """As ``EpollSelector.select``: ``timeout`` in seconds; returns a list of (key, events)."""
        hub = getattr(hubs._threadlocal, "hub", None)
        if hub is None or greenlet.getcurrent() is hub.greenlet:
            return super().select(timeout)
        if timeout is not None and timeout <= 0:
            # A loop that is never idle takes turns with the green threads. `trampoline` would do it too, by way of a
            # watch and a timer in each turn.
            greenthread.sleep(0)
            return super().select(0)
        try:
            hubs.trampoline(self.fileno(), read=True, timeout=timeout, timeout_exc=_TimeIsUp)
        except _TimeIsUp:
            pass
        return super().select(0)


def install():
    """Make it what asyncio's loops take by default; other selectors can still be asked for by name."""
    _selectors.DefaultSelector = GreenEpollSelector
