"""The few calls the micro workloads need, in Eventlet's and in gevent's words.

Methods are bound to the libraries' own functions wherever the signatures allow, so that no wrapper
is measured with them.
"""

from __future__ import annotations

import operator
import types


def load(library: str) -> types.SimpleNamespace:
    """Import `library` and return its API."""
    return {"eventlet": _eventlet, "gevent": _gevent}[library]()


def _eventlet() -> types.SimpleNamespace:
    import eventlet
    import eventlet.event
    import eventlet.queue
    import eventlet.semaphore
    from eventlet.green import socket

    # Before names are bound, as `monkey_patch()` does.
    hub = eventlet.hubs.get_hub()
    return types.SimpleNamespace(
        **_worlds(hub),
        sleep=eventlet.sleep,
        spawn=eventlet.spawn,
        wait=operator.methodcaller("wait"),
        pool=eventlet.GreenPool,
        pool_spawn_n=eventlet.GreenPool.spawn_n,
        pool_wait=eventlet.GreenPool.waitall,
        Timeout=eventlet.Timeout,
        Queue=eventlet.queue.Queue,
        Semaphore=eventlet.semaphore.Semaphore,
        Event=eventlet.event.Event,
        event_send=eventlet.event.Event.send,
        event_wait=eventlet.event.Event.wait,
        socket=socket,
    )


def _worlds(hub) -> dict:
    """What a green thread has for tasks, on a hub that runs an asyncio loop."""
    if not hasattr(hub, "loop"):
        return {}
    import asyncio

    from eventlet.asyncio import spawn_for_awaitable

    if type(hub).__module__.startswith("uringhub"):
        from uringhub import await_
    else:

        def await_(awaitable):
            return spawn_for_awaitable(awaitable).wait()

    return {
        "create_task": hub.loop.create_task,
        "task_queue": asyncio.Queue,
        "task_sleep": asyncio.sleep,
        "wait_for_task": await_,
    }


def _gevent() -> types.SimpleNamespace:
    import gevent
    import gevent.event
    import gevent.lock
    import gevent.pool
    import gevent.queue
    from gevent import socket

    return types.SimpleNamespace(
        sleep=gevent.sleep,
        spawn=gevent.spawn,
        wait=operator.methodcaller("get"),
        pool=gevent.pool.Pool,
        # gevent's pool has one way to spawn.
        pool_spawn_n=gevent.pool.Pool.spawn,
        pool_wait=gevent.pool.Pool.join,
        Timeout=gevent.Timeout,
        Queue=gevent.queue.Queue,
        Semaphore=gevent.lock.Semaphore,
        Event=gevent.event.AsyncResult,
        event_send=gevent.event.AsyncResult.set,
        event_wait=gevent.event.AsyncResult.get,
        socket=socket,
    )
