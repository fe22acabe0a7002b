"""The bars the project sets itself, evaluated on a result."""

from __future__ import annotations

import dataclasses

from runner.figures import Figure, ratio

DRIVERS = ("uring", "uring-epoll")
STOCK = ("epolls", "poll")


@dataclasses.dataclass(frozen=True)
class Bar:
    """`numerator` over `denominator`, each `(row, implementation)`, against a limit."""

    title: str
    numerator: tuple[str, str]
    denominator: tuple[str, str]
    limit: float
    is_upper: bool = False
    quantity: str = "cpu_us"
    #: "ahead of" means more than the limit, not equal to it.
    is_strict: bool = False


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A bar with its figure; `value` is `None` when a side was not measured."""

    bar: Bar
    value: float | None
    low: float | None
    high: float | None

    @property
    def is_met(self) -> bool | None:
        """`None` when it was not measured."""
        if self.value is None:
            return None
        if self.bar.is_upper:
            return self.value <= self.bar.limit
        return self.value > self.bar.limit if self.bar.is_strict else self.value >= self.bar.limit

    @property
    def word(self) -> str:
        """For the table."""
        return {None: "not measured", True: "met", False: "NOT met"}[self.is_met]

    def as_json(self) -> dict:
        """Plain data."""
        sign = "<=" if self.bar.is_upper else ">" if self.bar.is_strict else ">="
        return {
            "title": self.bar.title,
            "bar": f"{sign} {self.bar.limit:g}",
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "verdict": self.word,
        }


def _over(row: str, numerator: str, ours: str, limit: float, title: str, **options) -> Bar:
    return Bar(f"{title}: {numerator} ÷ {ours}", (row, numerator), (row, ours), limit, **options)


#: Row, bar against epolls.
_MICRO_LIMITS = {
    "sleep0-switch": 5.0,
    "spawn-wait": 5.0,
    "pool-spawn_n": 4.0,
    "timeout": 3.0,
    "sleepers-20k": 3.0,
    "sleepers-20k-python": 3.0,
    "queue-1": 2.0,
}


#: Row of both worlds, bar against Eventlet's asyncio hub.
_WORLDS_LIMITS = {"worlds-ping-pong": 4.0}

#: Row, bar of the io_uring driver against uvloop.
_LOOP_LIMITS = {
    "loop-echo-64x512": 1.0,
    "loop-echo-1000x64": 1.1,
    "loop-echo-64x100k": 1.0,
    "loop-streams-64x512": 1.2,
    "loop-sockets-64x512": 2.2,
    "loop-aiohttp-64": 1.0,
    "loop-uvicorn-64": 1.0,
}
#: Rows that are to be at least as good as the best other loop.
_LOOP_BEST = (
    *(f"loop-{name}" for name in ("udp-64x512", "unix-64x512", "tls-64x512", "subprocess", "call-soon")),
    *(f"loop-{name}" for name in ("call-later-cancel", "sleep0", "create-task", "wait-for", "sleepers-20k")),
)


def loop_bars(rows: dict[str, str]) -> list[Bar]:
    """The bars of the asyncio loop."""
    found = []
    for row, title in rows.items():
        if row in _LOOP_LIMITS:
            found.append(_over(row, "loop-uvloop", "loop-uring", _LOOP_LIMITS[row], title))
        for peer in ("loop-uvloop", "loop-rloop") if row in _LOOP_BEST else ():
            found.append(_over(row, peer, "loop-uring", 1.0, title))
        # At most 15 % behind.
        found.append(_over(row, "loop-uvloop", "loop-epoll", 1 / 1.15, title))
    row = "loop-idle-10000+64"
    for ours in ("loop-uring", "loop-epoll"):
        title, pair = f"RSS per idle connection: {ours} ÷ loop-uvloop", ((row, ours), (row, "loop-uvloop"))
        found.append(Bar(title, *pair, 1.0, is_upper=True, quantity="rss_per_connection_bytes"))
    return found


def hub_bars(rows: dict[str, str]) -> list[Bar]:
    """The bars of the hub; `rows` maps the names of the server and in-process rows to their titles."""
    found = []
    for row, limit, on_epoll in (("echo-64x512", 4.0, 3.0), ("echo-1000x64", 5.0, 3.0)):
        title = rows.get(row, row)
        found.append(_over(row, "epolls", "uring", limit, title))
        found.append(_over(row, "epolls", "uring-epoll", on_epoll, title))
    title = rows.get("echo-64x512", "echo-64x512")
    found.append(_over("echo-64x512", "ring", "uring", 0.65, title))
    found.append(_over("echo-64x512", "gevent", "uring", 2.3, title))
    for ours in DRIVERS:
        pair = (("echo-64x512-timeout", ours), ("echo-64x512", ours))
        found.append(Bar(f"echo, settimeout ÷ none: {ours}", *pair, 1.10, is_upper=True))
        pair = (("recv-settimeout", ours), ("recv", ours))
        found.append(Bar(f"socket pair, settimeout ÷ none: {ours}", *pair, 1.10, is_upper=True))
        for row, limit in _MICRO_LIMITS.items():
            title = rows.get(row, row)
            found.append(_over(row, "epolls", ours, limit, title))
            found.append(_over(row, "gevent", ours, 1.0, title, is_strict=True))
        for row in ("wsgi-hello-8", "wsgi-hello-64", "wsgi-hello-256"):
            found.append(_over(row, "epolls", ours, 1.2, rows.get(row, row)))
        for row, limit in _WORLDS_LIMITS.items():
            found.append(_over(row, "asyncio", ours, limit, rows.get(row, row)))
        pair = (("idle-8000+64", ours), ("idle-8000+64", "epolls"))
        idle = f"RSS per connection: {ours} ÷ epolls"
        found.append(Bar(idle, *pair, 1.0, is_upper=True, quantity="rss_per_connection_bytes"))
    for row, title in rows.items():
        stocks = ("asyncio", "asyncio-uvloop") if row.startswith("worlds-") else STOCK
        for ours in DRIVERS:
            found.extend(_over(row, stock, ours, 1.0, f"never slower, {title}") for stock in stocks)
    return found


def _figure(result: dict, row: str, implementation: str, quantity: str) -> Figure | None:
    data = result["rows"].get(row, {}).get("implementations", {}).get(implementation, {}).get(quantity)
    return None if data is None else Figure.from_json(data)


def evaluate(result: dict) -> list[Verdict]:
    """All bars that touch a measured row."""
    measured = result["rows"]
    titles = {"eventlet": {}, "asyncio": {}}
    for name, row in measured.items():
        if row["kind"] != "idle":
            titles[row.get("world", "eventlet")][name] = row["title"]
    verdicts = []
    for bar in hub_bars(titles["eventlet"]) + loop_bars(titles["asyncio"]):
        if bar.numerator[0] not in measured or bar.denominator[0] not in measured:
            continue
        above = _figure(result, *bar.numerator, bar.quantity)
        below = _figure(result, *bar.denominator, bar.quantity)
        quotient = ratio(above, below) if above and below else None
        if quotient is None:
            verdicts.append(Verdict(bar, None, None, None))
        else:
            verdicts.append(Verdict(bar, quotient.value, quotient.low, quotient.high))
    for ours in DRIVERS:
        wakeups = _figure(result, "idle-process", ours, "wakeups_per_s")
        if "idle-process" in measured:
            name = ("idle-process", ours)
            bar = Bar(f"wake-ups per second, idle process: {ours}", name, name, 0.0, is_upper=True)
            value = wakeups.median if wakeups else None
            verdicts.append(Verdict(bar, value, value, value))
    return verdicts
