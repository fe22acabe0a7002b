"""Subprocesses: the child's end is an event of its pidfd; no watcher, no thread, no polling.

Source: CPython, ``asyncio/unix_events.py``; ``pidfd_open(2)``, Linux 5.3.
"""

import os
import threading
from asyncio import unix_events

_Stock = unix_events._UnixSubprocessTransport


class SubprocessTransport(_Stock):
    """A child process and its pipes, usable once the future ``_connected`` is done."""

    def __init__(self, loop, *args, extra=None, **kwargs):
        self._pidfd = None
        self._connected = loop.create_future()
        super().__init__(loop, *args, waiter=self._connected, extra=extra, **kwargs)
        self._watch()

    def _watch(self):
        try:
            self._pidfd = self._loop._watch_child(self._pid, self._on_exit)
        except ProcessLookupError:
            # Somebody has reaped it already (SIGCHLD is ignored): its status is lost.
            self._loop.call_soon(self._ended, None)
        except OSError:
            # An old kernel, a filter, or no descriptor left: a thread waits instead.
            threading.Thread(target=self._wait_in_thread, args=(self._pid,), daemon=True).start()

    def _on_exit(self):
        pidfd, self._pidfd = self._pidfd, None
        self._ended(self._loop._reap_child(pidfd, self._pid))

    def _wait_in_thread(self, pid):
        status = _reap(pid)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended, status)

    def _ended(self, returncode):
        if returncode is None:
            # Signalling through a Popen looks for the child's end first, and takes its status.
            returncode = self._proc.returncode
        if returncode is None:
            returncode = 255
            unix_events.logger.warning(
                "child process pid %d exit status already read: will report returncode 255", self.get_pid()
            )
        self._process_exited(returncode)


def _reap(pid):
    """The child's return code as :mod:`subprocess` has it; None if it is not ours to know any more."""
    try:
        _pid, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status)
