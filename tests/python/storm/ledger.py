"""What a storm must account for: every thrown exception, every byte of a stream, every queued item."""

import collections
import errno
import itertools

from eventlet import hubs
from eventlet.green import socket
from greenlet import GreenletExit

PATTERN_LENGTH = (
    65521  # a prime, so that a shifted or repeated stretch of a stream never looks like the right one
)


class Violation(Exception):
    """The hub resumed somebody wrongly, or lost or invented something."""


class Thrown(BaseException):
    """Thrown at an actor, which must go on. Not an Exception, so that no op can swallow it by accident."""

    def __init__(self, token):
        super().__init__(token)
        self.token = token


class Killed(Thrown, GreenletExit):
    """Thrown at an actor, which must end.

    A GreenletExit, so that the hub does not print how the green thread ended.
    """


class Ledger:
    """Tokens of exceptions under way and counts of everything that happened."""

    def __init__(self):
        self._tokens = itertools.count(1)
        self.counts = collections.Counter()
        self.violations = []
        self.under_way = {}

    def token(self):
        """A number never given out before."""
        return next(self._tokens)

    def issue(self, kind, actor):
        """An exception for `actor` alone, on record until `actor` has received it."""
        exception = kind(self.token())
        self.under_way[exception.token] = actor
        self.counts["issued"] += 1
        return exception

    def receive(self, actor, exception):
        """`actor` caught `exception`."""
        owner = self.under_way.pop(exception.token, None)
        if owner is not actor:
            self.violate(f"{actor} caught {exception!r}, which was thrown at {owner}")
        self.counts["received"] += 1

    def withdraw(self, exception):
        """`exception` was not thrown after all: its target had ended."""
        del self.under_way[exception.token]
        self.counts["withdrawn"] += 1

    def violate(self, what):
        """Puts a violation on record.

        The storm goes on, since the first one is not always the telling one.
        """
        self.violations.append(what)

    def expect(self, holds, what):
        """Raises Violation unless `holds`."""
        if not holds:
            raise Violation(what)


def opened(sock):
    """Tells the hub that the fd of `sock` is new.

    `socketpair` does not, and the number may be a reused one.
    """
    hubs.notify_opened(sock.fileno())
    return sock


class Stream:
    """One direction of a connected pair.

    Bytes known by their position, written and read by whoever holds the end.
    """

    def __init__(self, ledger, number, pattern):
        self.ledger, self.number, self._pattern = ledger, number, pattern
        self.left, self.right = map(opened, socket.socketpair())
        for end in (self.left, self.right):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        self.sent = self.received = 0
        self.writer = self.reader = None
        self.finished = self.closed_under_reader = False

    def _expected(self, position, length):
        start = (position + self.number * 7919) % PATTERN_LENGTH
        return self._pattern[start : start + length]

    def send(self, length):
        """Sends the next bytes. A send that raises must have sent nothing, as with a readiness hub."""
        self.sent += self.left.send(self._expected(self.sent, length))

    def took(self, data):
        """Checks that `data` continues what was received before."""
        expected = self._expected(self.received, len(data))
        if data != expected:
            at = next(i for i, (a, b) in enumerate(zip(data, expected, strict=False)) if a != b)
            found = self._pattern.find(data[at : at + 24])
            whence = (found - self.number * 7919) % PATTERN_LENGTH if found >= 0 else "no position"
            raise Violation(
                f"stream {self.number}: wrong byte at {self.received + at} of {self.sent} sent; "
                f"recv gave {len(data)} bytes, from the wrong one on those of {whence}"
            )
        self.received += len(data)
        self.ledger.expect(self.received <= self.sent, f"stream {self.number}: more received than sent")

    def ended(self):
        """The reader saw end of file."""
        self.ledger.expect(self.finished, f"stream {self.number}: end of file on a live stream")
        self.ledger.expect(
            self.received == self.sent or self.closed_under_reader,
            f"stream {self.number}: end of file after {self.received} of {self.sent} bytes",
        )

    def settle(self):
        """Reads what is still under way without blocking, checks the total and closes both ends."""
        if not self.closed_under_reader:
            self.right.setblocking(False)
            try:
                while data := self.right.recv(65536):
                    self.took(data)
            except OSError as e:
                if e.errno not in (errno.EAGAIN, errno.EBADF):
                    raise
            if self.received != self.sent:
                self.ledger.violate(f"stream {self.number}: {self.sent} bytes sent, {self.received} received")
        self.left.close()
        self.right.close()


class Items:
    """Queue items by token: an item put for certain is got once or is still in the queue at the end."""

    def __init__(self, ledger, queue):
        self.ledger, self.queue = ledger, queue
        self.put, self.uncertain, self.got = set(), set(), set()

    def note_get(self, token):
        """`token` came out of the queue."""
        self.ledger.expect(isinstance(token, int), f"queue gave {token!r}")
        self.ledger.expect(token not in self.got, f"item {token} came out twice")
        self.got.add(token)

    def settle(self):
        """Checks the totals once nobody uses the queue any more."""
        while self.queue.qsize():
            self.note_get(self.queue.get_nowait())
        # A put that raised may have been carried out: the item can have been taken before its putter was
        # resumed.
        if lost := self.put - self.got:
            self.ledger.violate(f"queue lost items {sorted(lost)[:5]}")
        if invented := self.got - self.put - self.uncertain:
            self.ledger.violate(f"queue gave items nobody put {sorted(invented)[:5]}")
