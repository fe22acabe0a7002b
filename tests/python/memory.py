"""What a process has allocated: for tests that nothing is left behind by what is done again and again."""

from __future__ import annotations

import ctypes
import gc
import sys


class Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def in_use() -> tuple[int, int, int]:
    """Blocks of Python's allocator, and bytes of malloc's that are in use; of a debug build all references too."""
    gc.collect()
    references = getattr(sys, "gettotalrefcount", lambda: 0)()
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return sys.getallocatedblocks(), 0, references
    mallinfo.restype = Mallinfo
    return sys.getallocatedblocks(), mallinfo().uordblks, references


class Growth:
    """The least that was left behind between two looks of several: caches fill once, and are no leak."""

    def __init__(self, times: int):
        self.times, self.least = times, None

    def __enter__(self) -> None:
        self.before = in_use()

    def __exit__(self, *_) -> None:
        grown = [after - before for after, before in zip(in_use(), self.before, strict=True)]
        self.least = (
            grown if self.least is None else [min(pair) for pair in zip(self.least, grown, strict=True)]
        )

    def is_a_leak(self) -> bool:
        """Whether every repetition could have left a block or reference of Python's, or 24 bytes of malloc's."""
        blocks, octets, references = self.least
        return max(blocks, references) >= self.times * 3 / 4 or octets >= self.times * 24

    def __repr__(self) -> str:
        return "{} blocks, {} bytes and {} references more after {} times".format(*self.least, self.times)
