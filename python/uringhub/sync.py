"""Locks, semaphores, events and queues that green threads, tasks and OS threads can wait on at once.

Each blocking method has a twin that is awaited: ``get`` and ``get_async``, ``with`` and ``async with``.

- The blocking one suspends the calling green thread alone; in a coroutine on the hub's loop, its task alone; in a
  thread without a hub of ours it blocks that thread.
- The awaited one works on any asyncio loop, also where neither Eventlet nor greenlet is installed.

Waiters are served in the order in which they came, whichever world or thread they are in, and what a release gives
belongs to the first of them at once. One that is cancelled, killed or out of time passes on what it was given.

``timeout`` is in seconds; None waits without end. Every method may be called from any thread, and those that do not
wait also from signal handlers, finalisers and callbacks of the hub: there is no lock inside.
"""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Generic, TypeVar

from uringhub import _waiters
from uringhub._native import Tally

__all__ = ["Event", "Lock", "Queue", "QueueEmpty", "QueueFull", "Semaphore"]

Item = TypeVar("Item")


class Semaphore:
    """A counter that ``acquire`` takes one from, waiting while it is zero, and ``release`` gives one to.

    :param value: what it counts from.
    :raises ValueError: ``value`` is negative.
    """

    # Without a lock: who gives adds a token and then looks for waiters, who waits appends itself and then
    # looks for tokens. So one of the two sees both, and whoever does brings them together.

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        self._tokens = Tally(value)
        self._waiters: deque[_waiters.Waiter] = deque()

    def locked(self) -> bool:
        """Whether ``acquire`` would wait."""
        return not self._tokens

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take one; False if there is none, with ``blocking=False`` or after ``timeout``."""
        if self._take():
            return True
        if not blocking:
            return False
        waiter = self._queue(_waiters.here())
        try:
            waiter.wait(timeout)
        except BaseException:
            if _waiters.leave(self._waiters, waiter):
                self._give()
            raise
        return _waiters.leave(self._waiters, waiter)

    async def acquire_async(self) -> bool:
        """As ``acquire``, in a coroutine of any loop; use ``asyncio.timeout`` to limit it."""
        if self._take():
            return True
        waiter = self._queue(_waiters.Task())
        try:
            await waiter.future
        except BaseException:
            if _waiters.leave(self._waiters, waiter):
                self._give()
            raise
        return True

    def release(self, n: int = 1) -> None:
        """Give ``n``: to those who wait, first come, first served, or to the counter."""
        for _ in range(n):
            self._give()

    def _take(self) -> bool:
        if self._waiters:
            return False
        return self._tokens.take()

    def _give(self) -> None:
        self._tokens.add()
        self._match()

    def _queue(self, waiter: _waiters.AnyWaiter) -> _waiters.AnyWaiter:
        self._waiters.append(waiter)
        self._match()
        return waiter

    def _match(self) -> None:
        while self._tokens and self._waiters:
            if not self._tokens.take():
                return
            try:
                waiter = self._waiters.popleft()
            except IndexError:
                waiter = None
            # A waiter that has left, or whose loop is closed, takes nothing.
            if waiter is None or not waiter.claim() or not waiter.wake():
                self._tokens.add()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def __aenter__(self) -> None:
        await self.acquire_async()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        kind = type(self)
        counts = f"value={self._tokens.value} waiters={len(self._waiters)}"
        return f"<{kind.__module__}.{kind.__name__} {counts}>"


class Lock(Semaphore):
    """A lock that belongs to nobody in particular: whoever has it may have another world release it."""

    def __init__(self) -> None:
        super().__init__(1)

    def release(self, n: int = 1) -> None:
        """Unlock, or pass the lock to the first who waits.

        :raises RuntimeError: it is not locked.
        """
        if self._tokens:
            raise RuntimeError("release unlocked lock")
        self._give()


class _Crowd:
    """Who waits for one thing to become true for all of them."""

    def __init__(self) -> None:
        self._waiters: deque[_waiters.Waiter] = deque()

    def is_over(self) -> bool:
        raise NotImplementedError

    def tell(self) -> None:
        """It has become true."""
        while self._waiters:
            try:
                waiter = self._waiters.popleft()
            except IndexError:
                return
            if waiter.claim():
                waiter.wake()

    def wait(self, timeout: float | None) -> bool:
        if self.is_over():
            return True
        waiter = self._join(_waiters.here())
        try:
            waiter.wait(timeout)
        except BaseException:
            _waiters.leave(self._waiters, waiter)
            raise
        return _waiters.leave(self._waiters, waiter)

    async def wait_async(self) -> None:
        if self.is_over():
            return
        waiter = self._join(_waiters.Task())
        try:
            await waiter.future
        finally:
            _waiters.leave(self._waiters, waiter)

    def _join(self, waiter: _waiters.AnyWaiter) -> _waiters.AnyWaiter:
        self._waiters.append(waiter)
        if self.is_over():
            self.tell()
        return waiter


class Event(_Crowd):
    """A flag that any number of waiters wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._set = False

    def is_set(self) -> bool:
        """Whether the flag is set."""
        return self._set

    is_over = is_set

    def set(self) -> None:
        """Set the flag and wake all who wait."""
        self._set = True
        self.tell()

    def clear(self) -> None:
        """Unset the flag: who waits from now on waits for the next ``set``."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set; False if it was not within ``timeout``."""
        return super().wait(timeout)

    async def wait_async(self) -> bool:  # type: ignore[override]
        """As ``wait``, in a coroutine of any loop."""
        await super().wait_async()
        return True


class _Unfinished(_Crowd):
    """The items of a queue that have not been dealt with."""

    def __init__(self) -> None:
        super().__init__()
        self.tally = Tally(0)

    def is_over(self) -> bool:
        return not self.tally


class QueueEmpty(Exception):
    """There was nothing to get, at once or within the timeout."""


class QueueFull(Exception):
    """There was no place to put it, at once or within the timeout."""


class Queue(Generic[Item]):
    """A first-in, first-out queue.

    :param maxsize: ``put`` waits while so many items are in it; 0 for no limit.
    """

    def __init__(self, maxsize: int = 0) -> None:
        self.maxsize = maxsize
        self._items: deque[Item] = deque()
        self._filled = Semaphore(0)
        self._free = Semaphore(maxsize) if maxsize > 0 else None
        self._unfinished = _Unfinished()

    def qsize(self) -> int:
        """How many items are in it."""
        return len(self._items)

    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not self._items

    def full(self) -> bool:
        """Whether ``put`` would wait."""
        return self._free is not None and self._free.locked()

    def put(self, item: Item, block: bool = True, timeout: float | None = None) -> None:
        """Append an item.

        :raises QueueFull: there was no place, with ``block=False`` or after ``timeout``.
        """
        if self._free is not None and not self._free.acquire(block, timeout):
            raise QueueFull
        self._append(item)

    async def put_async(self, item: Item) -> None:
        """As ``put``, in a coroutine of any loop."""
        if self._free is not None:
            await self._free.acquire_async()
        self._append(item)

    def put_nowait(self, item: Item) -> None:
        """``put`` without waiting."""
        self.put(item, block=False)

    def get(self, block: bool = True, timeout: float | None = None) -> Item:
        """Take the first item out.

        :raises QueueEmpty: there was none, with ``block=False`` or after ``timeout``.
        """
        if not self._filled.acquire(block, timeout):
            raise QueueEmpty
        return self._take()

    async def get_async(self) -> Item:
        """As ``get``, in a coroutine of any loop."""
        await self._filled.acquire_async()
        return self._take()

    def get_nowait(self) -> Item:
        """``get`` without waiting."""
        return self.get(block=False)

    def task_done(self) -> None:
        """An item that was taken out has been dealt with.

        :raises ValueError: there were fewer items than that.
        """
        if not self._unfinished.tally.take():
            raise ValueError("task_done() called too many times")
        if self._unfinished.is_over():
            self._unfinished.tell()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until each item has been dealt with; False if that took longer than ``timeout``."""
        return self._unfinished.wait(timeout)

    async def join_async(self) -> None:
        """As ``join``, in a coroutine of any loop."""
        await self._unfinished.wait_async()

    def _append(self, item: Item) -> None:
        self._unfinished.tally.add()
        self._items.append(item)
        self._filled.release()

    def _take(self) -> Item:
        item = self._items.popleft()
        if self._free is not None:
            self._free.release()
        return item
