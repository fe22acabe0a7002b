"""Green threads and asyncio tasks in one thread: what each world has to know of the other.

Handles run in runner greenlets (``src/eventlet/runner.rs``), so that a task may block in the green world. This
module holds what follows from it: cancelling a task that does, eventlet's timeouts around an ``await``, and
waiting for an awaitable from a green thread.
"""

import asyncio
import sys
from asyncio import tasks

from eventlet import event, greenthread, hubs
from eventlet.support import greenlets

from uringhub import _native, _timeouts, handles

_HAS_CANCELLING = sys.version_info >= (3, 11)
report = handles._report


class Runner(greenlets.greenlet):
    """A greenlet that asyncio handles run in."""

    #: A weak reference to the task whose steps all run here, if there is one.
    task = None


class BlockedTask:
    """A task that blocks in the green world; stands in for ``task.cancel`` meanwhile.

    The C task would only note the cancellation for its next step: too late for one that blocks, and a stray
    ``CancelledError`` after it. The exception belongs at the place where the task blocks.
    """

    __slots__ = ("_requested", "_task", "greenlet")

    def __init__(self, task, green):
        self._task = task
        self.greenlet = green
        self._requested = False

    def __call__(self, msg=None):
        """``task.cancel(msg)``."""
        _count_cancel(self._task)
        if not self._requested:
            self._requested = True
            hubs.get_hub().schedule_call_global(0, self._deliver, msg)
        return True

    def _deliver(self, msg):
        task = self._task
        if blocked(task) is self:
            self.greenlet.throw(asyncio.CancelledError(*([] if msg is None else [msg])))
        elif not task.done():
            # It went on before the exception reached it: a cancellation like any other, already counted.
            _uncount_cancel(task)
            task.cancel(msg)


def blocked(task):
    """The :class:`BlockedTask` of a task that blocks in the green world, or None."""
    found = task.cancel
    return found if type(found) is BlockedTask else None


def _left(task, green):
    task.cancel = BlockedTask(task, green)


def _entered(task):
    if blocked(task) is not None:
        del task.cancel


def _count_cancel(task):
    """``task.cancelling()`` is one more; only the C task can count its own."""
    if not _HAS_CANCELLING:
        return
    if not hasattr(task, "_uringhub_cancels"):
        task._uringhub_cancels = 0
        task.cancelling = lambda: type(task).cancelling(task) + task._uringhub_cancels
        task.uncancel = lambda: _uncancel(task)
    task._uringhub_cancels += 1


def _uncount_cancel(task):
    if getattr(task, "_uringhub_cancels", 0):
        task._uringhub_cancels -= 1


def _uncancel(task):
    if task._uringhub_cancels:
        task._uringhub_cancels -= 1
    else:
        type(task).uncancel(task)
    return task.cancelling()


def await_(awaitable):
    """Wait for an awaitable from a green thread and return its result.

    It takes whatever ``await`` takes: a coroutine, a task, a future, what asyncio's locks, queues and events
    return. The green thread waits alone; in a plain function that a coroutine called, the coroutine's task does.
    A green thread that is killed here, or gets an ``eventlet.Timeout``, cancels what it waits for.

    :raises RuntimeError: this thread's hub is not ours, or the caller is the hub itself.
    """
    hub = hubs.get_hub()
    if not isinstance(hub, _native.Core):
        raise RuntimeError("await_() needs the uring hub: set EVENTLET_HUB=uring")
    if greenlets.getcurrent() is hub.greenlet:
        raise RuntimeError("do not call blocking functions from the mainloop")
    future = asyncio.ensure_future(awaitable, loop=hub.loop)
    if not future.done():
        arrival = event.Event()
        future.add_done_callback(arrival.send)
        try:
            while not future.done():
                arrival.wait()
        except BaseException:
            future.cancel()
            raise
    return future.result()


def spawn_for_awaitable(awaitable):
    """``eventlet.asyncio.spawn_for_awaitable``: a green thread that waits for an awaitable.

    A coroutine runs in a copy of the caller's context, as one that a task is made of. Killing the green thread
    cancels what it waits for, also if it has not started yet.
    """
    future = asyncio.ensure_future(awaitable, loop=hubs.get_hub().loop)
    green = greenthread.spawn(await_, future)

    def cancel_if_killed(green):
        if not future.done():
            try:
                green.wait()
            except greenlets.GreenletExit:
                future.cancel()
            except BaseException:
                pass

    green.link(cancel_if_killed)
    return green


_native.set_bridge(Runner, tasks._current_tasks, _left, _entered, _timeouts.expire)
