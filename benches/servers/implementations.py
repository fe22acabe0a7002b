"""What is compared: hubs, asyncio loops, and native servers as the ceiling.

An implementation is chosen by its environment before Python starts, because `EVENTLET_HUB` and the
import hook behind it are read that early.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Implementation:
    """One column of the comparison."""

    name: str
    #: Which server module serves it: `eventlet`, `gevent`, `asyncio` or `native`.
    library: str
    title: str
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    #: Module whose `EventLoopPolicy` is installed before the hub is made.
    policy: str | None = None
    #: `module:callable` that makes an asyncio loop.
    loop: str | None = None
    #: Name of the program of a native server.
    program: str | None = None
    #: What the server must announce, so that a fallback is never measured under another's name.
    driver: str | None = None
    #: Whether it is a column of `make bench`; the others serve `make demo`.
    is_compared: bool = True


def _stock(name: str, title: str, hub: str, policy: str | None = None) -> Implementation:
    return Implementation(name, "eventlet", title, {"EVENTLET_HUB": hub}, policy)


def _uring(name: str, title: str, choice: str, driver: str | None) -> Implementation:
    environment = {"EVENTLET_HUB": "uring", "URINGHUB_DRIVER": choice}
    return Implementation(name, "eventlet", title, environment, driver=driver, is_compared=driver is not None)


def _loop(name: str, title: str, factory: str, driver: str | None = None) -> Implementation:
    environment = {} if driver is None else {"URINGHUB_DRIVER": name.removeprefix("loop-")}
    return Implementation(name, "asyncio", title, environment, loop=factory, driver=driver)


_ALL = [
    _stock("epolls", "eventlet, epolls hub", "epolls"),
    _stock("poll", "eventlet, poll hub", "poll"),
    _stock("asyncio", "eventlet, asyncio hub", "asyncio"),
    _stock("asyncio-uvloop", "eventlet, asyncio hub on uvloop", "asyncio", policy="uvloop"),
    Implementation("gevent", "gevent", "gevent"),
    _uring("uring", "eventlet, uring hub, io_uring driver", "uring", "uring(io_uring)"),
    _uring("uring-epoll", "eventlet, uring hub, epoll driver", "epoll", "uring(epoll)"),
    _uring("uring-auto", "eventlet, uring hub, the driver it chooses", "auto", None),
    Implementation("tokio-uring", "native", "tokio-uring (native)", program="tokio-uring-echo"),
    Implementation("ring", "native", "io-uring crate (native)", program="ring-echo"),
    _loop("loop-asyncio", "asyncio, stock loop", "asyncio:SelectorEventLoop"),
    _loop("loop-uvloop", "asyncio, uvloop", "uvloop:new_event_loop"),
    _loop("loop-rloop", "asyncio, rloop", "rloop:new_event_loop"),
    _loop(
        "loop-uring", "asyncio, uringhub, io_uring driver", "uringhub:new_event_loop", "uringhub(io_uring)"
    ),
    _loop("loop-epoll", "asyncio, uringhub, epoll driver", "uringhub:new_event_loop", "uringhub(epoll)"),
]

IMPLEMENTATIONS = {implementation.name: implementation for implementation in _ALL}
#: The columns of `make bench`.
COMPARED = [implementation.name for implementation in _ALL if implementation.is_compared]
#: Every ratio is this implementation's cost over the other's, by the world of the row.
BASELINES = {"eventlet": "epolls", "asyncio": "loop-uvloop"}
BASELINE = BASELINES["eventlet"]
