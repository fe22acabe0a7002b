"""What an OS thread leaves behind: a hub is given up when its thread ends, as Eventlet's own hubs are."""

import os
from _thread import _local as Local
from _thread import get_native_id


class _Hubs:
    """The hubs that a thread has made; Python drops what is local to a thread at the thread's end, and on it."""

    def __init__(self):
        self.hubs = []

    def __del__(self):
        for hub in self.hubs:
            hub._thread_ended()


_here = Local()


def follow(hub):
    """Have ``hub._thread_ended()`` called when the calling thread ends; the main thread ends with the process."""
    if get_native_id() == os.getpid():
        return
    if not hasattr(_here, "hubs"):
        _here.hubs = _Hubs()
    _here.hubs.hubs.append(hub)
