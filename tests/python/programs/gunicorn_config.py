"""Mends the one race of gunicorn 25.3's eventlet worker that loses requests at a reload on any hub.

A connection accepted just before the worker stops is handled just after its listener was closed, and the
first thing the handler asks is the listener's name: EBADF, and the client is reset. The name is kept here,
so that a lost request can only be the hub's doing.
"""


class NamedListener:
    """What a handler needs of a listener, also after it was closed."""

    def __init__(self, name):
        self.getsockname = lambda: name


def post_worker_init(worker):
    """gunicorn's hook: runs in the worker before it starts to accept."""
    names = {sock.fileno(): sock.getsockname() for sock in worker.sockets}
    (name,) = names.values()
    handle, listener = worker.handle, NamedListener(name)
    worker.handle = lambda _, client, address: handle(listener, client, address)
