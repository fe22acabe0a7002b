"""``eventlet.Timeout`` in a coroutine: its exception comes out of the ``await`` that the task waits at.

A task that blocks in the green world gets it thrown into its greenlet. One that waits for a future is woken with
a future that holds the exception, and the one it waited for is cancelled. One that is about to run is not
interrupted: its result is not discarded, and the timeout tries again a turn later.

asyncio cleans up (in ``Lock.acquire``, ``wait_for``, ``TaskGroup``) for ``CancelledError`` only. So on its way the
exception is one as well: the same object, of a class made of its own and ``CancelledError``. When it leaves the
``with`` block it is itself again (``src/eventlet/timeout.rs``).
"""

import asyncio
import functools

from eventlet import hubs


@functools.cache
def _cancelling_class(cls):
    if issubclass(cls, asyncio.CancelledError):
        return cls
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "_uringhub_undisguised": cls}
    return type(cls.__name__, (cls, asyncio.CancelledError), names)


def _disguise(exception):
    try:
        exception.__class__ = _cancelling_class(type(exception))
    except TypeError:
        pass  # A builtin class has a layout of its own: it is thrown as it is.
    return exception


def expire(timeout, task, exception):
    """The time is up: have ``exception`` (an instance or a class) raised in ``task``."""
    if task.done():
        return
    from uringhub import _worlds

    where = _worlds.blocked(task)
    waits_for = getattr(task, "_fut_waiter", None)
    wakeups = _wakeups(task, waits_for)
    if where is None and not wakeups:
        timeout.timer = hubs.get_hub().schedule_call_global(0, expire, timeout, task, exception)
        return
    exception = _disguise(exception() if isinstance(exception, type) else exception)
    if where is not None:
        where.greenlet.throw(exception)
        return
    loop = task.get_loop()
    holder = loop.create_future()
    holder.set_exception(exception)
    for callback, context in wakeups:
        waits_for.remove_done_callback(callback)
        loop.call_soon(callback, holder, context=context)
    # Nobody is left who would look at how it ends, and a gather tells of those whom nobody looks at.
    waits_for.add_done_callback(_look)
    waits_for.cancel()


def _look(future):
    if not future.cancelled():
        future.exception()


def _wakeups(task, future):
    """The callbacks of ``future`` that resume ``task``, with their contexts; none if it is about to run."""
    if future is None or future.done():
        return []
    callbacks = getattr(future, "_callbacks", None) or ()
    return [entry for entry in callbacks if getattr(entry[0], "__self__", None) is task]
