"""Who waits on a primitive of :mod:`uringhub.sync`, and how each is woken from any thread."""

from __future__ import annotations

import asyncio
import sys
import time
from _queue import Empty, SimpleQueue
from collections import deque
from typing import Any, TypeVar


class Waiter:
    """One wait, which either gets what it is for or leaves; who claims it first decides which."""

    def __init__(self) -> None:
        self._claims = [None]

    @property
    def is_claimed(self) -> bool:
        """Whether it was given something, or has left."""
        return not self._claims

    def claim(self) -> bool:
        """True for the first caller only; ``list.pop`` is atomic."""
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True

    def wait(self, timeout: float | None) -> None:
        """Return when woken, or after ``timeout`` seconds."""
        raise NotImplementedError

    def wake(self) -> bool:
        """End the wait, from any thread; False if it cannot be told."""
        raise NotImplementedError


AnyWaiter = TypeVar("AnyWaiter", bound=Waiter)


class Thread(Waiter):
    """An OS thread."""

    def __init__(self) -> None:
        super().__init__()
        # The C class: eventlet replaces the name in `queue` by one that green threads wait on.
        self._signal: SimpleQueue[None] = SimpleQueue()

    def wait(self, timeout: float | None) -> None:
        """Block the thread."""
        try:
            self._signal.get(timeout=None if timeout is None else max(timeout, 0))
        except Empty:
            pass

    def wake(self) -> bool:
        """Unblock it."""
        self._signal.put(None)
        return True


class Green(Waiter):
    """A green thread on a hub of ours, or a task that blocks on its loop."""

    def __init__(self, hub: Any) -> None:
        from eventlet import event

        super().__init__()
        self._hub = hub
        self._arrival = event.Event()

    def wait(self, timeout: float | None) -> None:
        """Suspend the green thread."""
        deadline = None if timeout is None else time.monotonic() + timeout
        # A stray switch ends a wait on an event early.
        while not self.is_claimed:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self._arrival.wait(left)

    def wake(self) -> bool:
        """Make it ready; another thread leaves that to the hub's. False if that thread has ended."""
        if self._hub.has_ended:
            return False
        if _hub_here() is self._hub:
            self._arrival.send(None)
        else:
            self._hub.schedule_call_global(0, self._arrival.send, None)
        return True


class Task(Waiter):
    """A coroutine of any asyncio loop; it awaits ``future``."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> bool:
        """Resolve the future on its loop; False if that loop is closed."""
        if asyncio._get_running_loop() is self._loop:
            self._arrive()
            return True
        try:
            self._loop.call_soon_threadsafe(self._arrive)
        except RuntimeError:
            return False
        return True

    def _arrive(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


def leave(queue: deque[Waiter], waiter: Waiter) -> bool:
    """Take ``waiter`` out of ``queue``; True if it was given what it is for."""
    if not waiter.claim():
        return True
    try:
        queue.remove(waiter)
    except ValueError:
        pass  # Taken out by who is about to find that it has left.
    return False


def _hub_here() -> Any:
    """This thread's hub if it is one of ours; no hub is made for the asking."""
    hubs = sys.modules.get("eventlet.hubs")
    hub = getattr(hubs._threadlocal, "hub", None) if hubs else None
    return hub if hub is not None and hasattr(hub, "_run_handles") else None


def here() -> Waiter:
    """A waiter for a blocking call in the calling thread.

    :raises RuntimeError: the caller is the hub itself.
    """
    hub = _hub_here()
    if hub is None:
        return Thread()
    from eventlet.support import greenlets

    if greenlets.greenlet.getcurrent() is hub.greenlet:
        raise RuntimeError("do not call blocking functions from the mainloop")
    return Green(hub)
