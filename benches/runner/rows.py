"""The rows of the comparison: which server workload under which load, and the in-process ones."""

from __future__ import annotations

import dataclasses
import fnmatch

KIB = 1024


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the comparison."""

    name: str
    title: str
    #: `server`: a server process under load; `micro`: one workload of `micro.py` or `micro_asyncio.py`;
    #: `idle`: a server left alone.
    kind: str = "server"
    #: Whose implementations serve it: `eventlet` (with gevent and the native ones) or `asyncio`.
    world: str = "eventlet"
    #: Workload of `servers/serve.py`.
    workload: str = "echo"
    #: Mode of the load client.
    mode: str = "echo"
    connections: int = 64
    idle: int = 0
    size: int = 512
    path: str = "/"
    recv_bytes: int = 4096
    #: Least length of the measured window: rows of few, large requests need more time.
    seconds: float = 0.0
    #: Whether the native servers implement it.
    has_ceiling: bool = False
    #: Implementations that offer it; all of its world if empty.
    offered_by: tuple[str, ...] = ()


def _echo(connections: int, size: int) -> Row:
    text = f"{size} B" if size < KIB else f"{size // KIB} KiB" if size < KIB * KIB else "1 MiB"
    label = text.replace(" ", "").replace("KiB", "k").replace("MiB", "m").replace("B", "")
    in_flight = connections * size
    return Row(
        f"echo-{connections}x{label}",
        f"echo, {connections:,} x {text}",
        connections=connections,
        size=size,
        recv_bytes=4096 if size <= 4096 else 64 * KIB,
        seconds=2.0 if in_flight > 50 * KIB * KIB else 0.0,
        has_ceiling=True,
    )


def _wsgi(connections: int, path: str = "/", size: int = 14) -> Row:
    what = "hello" if path == "/" else "10 KiB"
    return Row(
        f"wsgi-{what.split()[0]}-{connections}" if path == "/" else f"wsgi-10k-{connections}",
        f"WSGI {what}, keep-alive, {connections} connections",
        workload="wsgi",
        mode="http",
        connections=connections,
        size=size,
        path=path,
    )


_MICRO_TITLES = {
    "sleep0-alone": "sleep(0), nothing else ready",
    "sleep0-switch": "sleep(0) with a real switch",
    "sleep0-100": "sleep(0) in 100 green threads",
    "spawn-wait": "spawn(Python function).wait()",
    "pool-spawn_n": "GreenPool.spawn_n",
    "pool-spawn": "GreenPool.spawn",
    "timeout": "Timeout enter and exit",
    "sleepers-20k": "20,000 sleepers, each",
    "sleepers-20k-python": "20,000 sleepers in a Python function, each",
    "queue-1": "Queue(1) hand-over",
    "event": "Event send, wait and sleep(0)",
    "semaphore": "Semaphore(1) contended, with sleep(0)",
    "recv": "socket pair round trip, 64 B",
    "recv-settimeout": "the same after settimeout(30)",
}

#: Rows in which green threads and tasks meet, on the hubs that run both.
_WORLDS_TITLES = {
    "worlds-ping-pong": "green thread and task, ball to and fro",
    "worlds-await": "green thread waits for a coroutine",
}
_WORLDS_HUBS = ("asyncio", "asyncio-uvloop", "uring", "uring-epoll")

_ALL = [
    *(
        _echo(connections, size)
        for connections in (1, 64, 1000)
        for size in (64, 512, 16 * KIB, 100 * KIB, KIB * KIB)
    ),
    Row("echo-64x512-timeout", "echo, 64 x 512 B, settimeout(30)", workload="echo-timeout"),
    Row(
        "idle-8000+64",
        "echo, 8,000 idle and 64 active x 512 B",
        idle=8000,
        has_ceiling=True,
    ),
    Row("churn-64", "connect, echo 64 B, close; 64 at once", workload="churn", mode="churn", size=64),
    _wsgi(8),
    _wsgi(64),
    _wsgi(256),
    _wsgi(64, "/10k", 10 * KIB),
    Row("tls-64x512", "TLS echo, 64 x 512 B", workload="echo-tls"),
    Row("idle-process", "wake-ups per second of a server left alone", kind="idle"),
    *(Row(name, title, kind="micro") for name, title in _MICRO_TITLES.items()),
    *(Row(name, title, kind="micro", offered_by=_WORLDS_HUBS) for name, title in _WORLDS_TITLES.items()),
]


def _loop(name: str, title: str, **options) -> Row:
    return Row(f"loop-{name}", f"asyncio {title}", world="asyncio", **options)


_LOOP_MICRO_TITLES = {
    "call-soon": "call_soon",
    "call-later-cancel": "call_later and cancel",
    "sleep0": "sleep(0)",
    "create-task": "create_task and await",
    "wait-for": "wait_for",
    "sleepers-20k": "20,000 sleepers, each",
    "subprocess": "create_subprocess_exec and wait",
}

_ALL += [
    _loop("echo-64x512", "Protocol echo, 64 x 512 B"),
    _loop("echo-1000x64", "Protocol echo, 1,000 x 64 B", connections=1000, size=64),
    _loop("echo-64x100k", "Protocol echo, 64 x 100 KiB", size=100 * KIB, recv_bytes=64 * KIB),
    _loop("streams-64x512", "streams echo, 64 x 512 B", workload="echo-streams"),
    _loop("sockets-64x512", "sock_recv and sock_sendall echo, 64 x 512 B", workload="echo-sockets"),
    _loop("udp-64x512", "UDP echo, 64 x 512 B", workload="echo-udp"),
    _loop("unix-64x512", "Unix echo, 64 x 512 B", workload="echo-unix"),
    _loop("tls-64x512", "TLS echo, 64 x 512 B", workload="echo-tls"),
    _loop("aiohttp-64", "aiohttp hello, 64 connections", workload="aiohttp", mode="http", size=14),
    _loop("uvicorn-64", "uvicorn hello, 64 connections", workload="uvicorn", mode="http", size=14),
    _loop("idle-10000+64", "Protocol echo, 10,000 idle and 64 active x 512 B", idle=10_000),
    *(_loop(name, title, kind="micro") for name, title in _LOOP_MICRO_TITLES.items()),
]

ROWS = {row.name: row for row in _ALL}


def select(patterns: list[str]) -> list[Row]:
    """Rows whose name matches one of the shell patterns, in table order; all for no pattern."""
    if not patterns:
        return list(ROWS.values())
    for pattern in patterns:
        if not fnmatch.filter(ROWS, pattern):
            raise ValueError(f"no row matches {pattern!r}; rows: {', '.join(ROWS)}")
    return [row for row in ROWS.values() if any(fnmatch.fnmatchcase(row.name, p) for p in patterns)]
