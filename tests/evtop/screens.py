"""evtop's screens on a terminal that only a test looks at."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]")


class Screens:
    """A process whose terminal has a size; what it writes is kept without the control sequences."""

    def __init__(self, command, width=100, height=30):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.started = time.perf_counter()
        self.child = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # The screens end with the terminal that controls them.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.written = b""

    def read_until(self, pattern, deadline_s):
        """Seconds from the start until the text was on the terminal."""
        until = self.started + deadline_s
        while not re.search(pattern, ESCAPES.sub(b"", self.written)):
            left = until - time.perf_counter()
            ready, _, _ = select.select([self.master], [], [], max(left, 0))
            if not ready:
                raise AssertionError(f"{pattern!r} did not appear: {ESCAPES.sub(b' ', self.written)!r}")
            try:
                self.written += os.read(self.master, 1 << 16)
            except OSError:
                raise AssertionError(f"ended: {ESCAPES.sub(b' ', self.written)!r}") from None
        return time.perf_counter() - self.started

    def read_for(self, seconds):
        """Takes what is written, as a terminal does."""
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            if select.select([self.master], [], [], left)[0]:
                self.written = os.read(self.master, 1 << 16)

    def close(self):
        self.child.kill()
        self.child.wait()
        with contextlib.suppress(OSError):
            os.close(self.master)
