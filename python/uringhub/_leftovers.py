"""Bytes that a killed receive had taken from a socket, for the ways to read it that are not the native ones.

Source: eventlet 0.41, ``eventlet/green/os.py``; Python 3.13, ``socket.recvmsg``.
"""

from uringhub import _native


def recvmsg(self, bufsize, ancbufsize=0, flags=0):
    """Receive what is there; see :meth:`socket.socket.recvmsg`. It does not wait."""
    data = _native.leftover(self.fileno(), bufsize, flags) if bufsize > 0 else None
    return self.fd.recvmsg(bufsize, ancbufsize, flags) if data is None else (data, [], 0, None)


def recvmsg_into(self, buffers, ancbufsize=0, flags=0):
    """Receive what is there; see :meth:`socket.socket.recvmsg_into`. It does not wait."""
    buffers = list(buffers)
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    data = _native.leftover(self.fileno(), sum(map(len, views)), flags)
    if data is None:
        return self.fd.recvmsg_into(buffers, ancbufsize, flags)
    rest = data
    for view in views:
        view[: len(rest)] = rest[: len(view)]
        rest = rest[len(view) :]
    return len(data), [], 0, None


def add_to(socket_class):
    """Give eventlet's socket class the two methods; it has none, and passes them on to Python's socket."""
    for method in (recvmsg, recvmsg_into):
        if method.__name__ not in vars(socket_class):
            setattr(socket_class, method.__name__, method)


# The body runs in the globals of eventlet.green.os.
def os_read(fd, n):
    data = _uringhub.leftover(fd, n, 0) if n > 0 else None  # noqa: F821
    return _uringhub_read(fd, n) if data is None else data  # noqa: F821
