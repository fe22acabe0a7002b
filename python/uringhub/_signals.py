"""Wakes the hub's wait when a signal arrives that does not interrupt it.

Python runs signal handlers between bytecodes of the main thread. A signal that comes just before the hub enters
the kernel, or that another thread takes, leaves a wait without end as it is: its handler would run at the next
event. CPython writes a byte to ``signal.set_wakeup_fd`` for each signal; the hub watches the other end.
"""

from eventlet import patcher

_os = patcher.original("os")
_signal = patcher.original("signal")
_threading = patcher.original("threading")

# The descriptor that this module has set, to tell it from one that somebody else has.
_set_fd = -1


class Wakeup:
    """The reading end, as a listener of the hub. A wake-up descriptor that is set already is left alone."""

    def __init__(self, hub):
        global _set_fd
        self.pid = _os.getpid()
        self._read_fd, self._write_fd = _os.pipe2(_os.O_NONBLOCK | _os.O_CLOEXEC)
        self._file = _file_of(self._read_fd)
        old_fd = _signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        if old_fd not in (-1, _set_fd):
            _signal.set_wakeup_fd(old_fd)
        else:
            _set_fd = self._write_fd
        self._watch = hub._watch(self._read_fd, False, self)

    def cb(self, _fileno):
        """Empty the pipe; the handlers have run by then."""
        try:
            while len(_os.read(self._read_fd, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def close(self, hub):
        """Stop watching, and unset the descriptor if it is still ours."""
        global _set_fd
        if self.pid == _os.getpid() and _set_fd == self._write_fd and _in_main_thread():
            old_fd = _signal.set_wakeup_fd(-1)
            if old_fd != self._write_fd:
                _signal.set_wakeup_fd(old_fd)
            _set_fd = -1
        hub._unwatch(self._watch)
        for fd in (self._read_fd, self._write_fd):
            # A daemon has closed what it inherited, and has other files under these numbers.
            if _file_of(fd) == self._file:
                _os.close(fd)


def _file_of(fd):
    """What tells one open pipe from another and from any file; both ends have the same."""
    try:
        found = _os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _in_main_thread():
    return _threading.get_ident() == _threading.main_thread().ident


def follow(hub, wakeup):
    """The wake-up for the hub of this thread and process; a forked child gets one of its own."""
    if wakeup is not None and wakeup.pid == _os.getpid():
        return wakeup
    if wakeup is not None:
        wakeup.close(hub)
    return Wakeup(hub) if _in_main_thread() else None
