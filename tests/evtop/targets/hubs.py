"""The hubs and loops that a target program can run on, by name.

`eventlet-*` are Eventlet's own, `hub-*` and `loop-*` are uringhub's two faces on either driver.
"""

import asyncio
import os
import pathlib
import sys

SOURCES = pathlib.Path(__file__).resolve().parents[3] / "python"
GREEN = [
    "eventlet-epolls",
    "eventlet-poll",
    "eventlet-selects",
    "eventlet-asyncio",
    "hub-uring",
    "hub-epoll",
]
LOOPS = ["asyncio", "uvloop", "loop-uring", "loop-epoll"]
NAMES = [*GREEN, "gevent", *LOOPS]


def prepare(name):
    """Chooses the hub before anything of it is imported; returns `eventlet`, `gevent` or `asyncio`."""
    family, _, kind = name.partition("-")
    if family in ("hub", "loop"):
        os.environ["URINGHUB_DRIVER"] = kind
        sys.path.insert(0, str(SOURCES))
    if name in GREEN:
        os.environ["EVENTLET_HUB"] = "uringhub.hub" if family == "hub" else kind
        return "eventlet"
    return "asyncio" if name in LOOPS else name


def run(name, main):
    """`asyncio.run` on the loop of that name."""
    if name == "uvloop":
        import uvloop

        uvloop.install()
    if name.startswith("loop-"):
        import uringhub

        return uringhub.run(main)
    return asyncio.run(main)
