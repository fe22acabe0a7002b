"""Puts native code behind what green threads use among themselves: spawn, Timeout, Event, Queue, Semaphore.

Called once in a process, by :func:`uringhub._eventlet.install`.

Source: eventlet 0.41.
"""

from eventlet import event, greenthread, queue, semaphore, timeout

from uringhub import _native


def install(recode):
    """Patch eventlet; ``recode`` gives a function new code and returns it as it was."""
    _native.keep_data_stacks()
    _native.bind_event(event.Event, event.NOT_USED)
    recode(event.Event.__init__, _event_init)
    _native.bind_queue(queue)
    _native.bind_semaphore(semaphore.Semaphore, semaphore.BoundedSemaphore)
    _native.bind_timeout(timeout.Timeout)
    _spawns(recode)


def _spawns(recode):
    green_thread = greenthread.GreenThread
    green_thread._exit_event = _native.LazyExitEvent()
    green_thread._resolving_links = False
    green_thread._exit_funcs = None
    recode(green_thread.__init__, _green_thread_init)
    _native.bind_spawn(green_thread, recode(greenthread.spawn, _spawn), recode(greenthread.spawn_n, _spawn_n))


# The bodies below run in the globals of the module whose function they replace; see `_eventlet`.


def _event_init(self):
    self._waiters = set()
    if type(self) is Event:  # noqa: F821
        self._result = NOT_USED  # noqa: F821
    else:
        self.reset()


def _green_thread_init(self, parent):
    greenlet.greenlet.__init__(self, self.main, parent)  # noqa: F821
    _uringhub.inherit_context(self)  # noqa: F821


def _spawn(func, *args, **kwargs):
    return _uringhub.spawn(func, *args, **kwargs)  # noqa: F821


def _spawn_n(func, *args, **kwargs):
    return _uringhub.spawn_n(func, *args, **kwargs)  # noqa: F821
