"""Markdown for people: overview, bars, and every figure with its spread."""

from __future__ import annotations

from servers.implementations import BASELINES, IMPLEMENTATIONS

from runner.figures import Figure, ratio

#: Rows shown in README.
HEADLINES = (
    "echo-64x512",
    "echo-1000x64",
    "wsgi-hello-64",
    "tls-64x512",
    "sleep0-switch",
    "spawn-wait",
    "timeout",
    "queue-1",
)
#: Factors above this are within what the machine cannot tell apart; below it they are marked.
_LOSS = 0.97


def number(value: float | None, digits: int = 1) -> str:
    """A figure for a table; `n/a` for a missing one."""
    if value is None:
        return "n/a"
    return f"{value:,.{digits}f}" if abs(value) < 1000 else f"{value:,.0f}"


def _table(head: list[str], lines: list[list[str]]) -> list[str]:
    align = "|---|" + "---:|" * (len(head) - 1)
    return ["| " + " | ".join(head) + " |", align, *("| " + " | ".join(line) + " |" for line in lines), ""]


def _cpu(row: dict, name: str) -> Figure | None:
    data = row["implementations"].get(name, {}).get("cpu_us")
    return None if data is None else Figure.from_json(data)


def _world(row: dict) -> str:
    return row.get("world", "eventlet")


def _baseline(row: dict) -> str:
    return BASELINES[_world(row)]


def _columns(rows: dict) -> list[str]:
    used = {name for row in rows.values() for name in row["implementations"]}
    return [name for name in IMPLEMENTATIONS if name in used]


def _cell(row: dict, name: str) -> str:
    cpu = _cpu(row, name)
    if cpu is None:
        return "–"
    text = number(cpu.median, 2) + ("~" if cpu.is_noisy else "")
    baseline = _baseline(row)
    base = _cpu(row, baseline)
    quotient = ratio(base, cpu) if base is not None and name != baseline else None
    if quotient is None:
        return text
    factor = f"{quotient.value:.2f}x"
    return f"{text} ({factor} **slower**)" if quotient.value < _LOSS else f"{text} ({factor})"


def overview(rows: dict) -> list[str]:
    """CPU per operation and factor against the baseline, all rows, a table for each world."""
    text = [
        "CPU time, user and system, in microseconds per request or operation: median of the rounds. In "
        "parentheses: the first column that has none over this one, so more than 1 is less CPU than there. "
        "`~`: the rounds spread by more than a quarter of the median. `–`: not offered or not available.",
        "",
    ]
    for world, baseline in BASELINES.items():
        timed = {name: row for name, row in rows.items() if row["kind"] != "idle" and _world(row) == world}
        if timed:
            columns = sorted(_columns(timed), key=lambda name: name != baseline)
            lines = [[row["title"], *(_cell(row, name) for name in columns)] for row in timed.values()]
            text += _table(["row", *columns], lines)
    return text


def bars_table(bars: list[dict], with_missing: bool = True) -> list[str]:
    """Every bar with its verdict; the failed ones first."""
    order = {"NOT met": 0, "not measured": 1, "met": 2}
    counts = {word: sum(bar["verdict"] == word for bar in bars) for word in order}
    lines = []
    for bar in sorted(bars, key=lambda bar: order[bar["verdict"]]):
        if bar["value"] is None and not with_missing:
            continue
        span = "" if bar["value"] is None else f"{number(bar['low'], 2)}–{number(bar['high'], 2)}"
        verdict = f"**{bar['verdict']}**" if bar["verdict"] == "NOT met" else bar["verdict"]
        lines.append([bar["title"], bar["bar"], number(bar["value"], 2), span, verdict])
    summary = ", ".join(f"{count} {word}" for word, count in counts.items())
    head = ["bar", "limit", "figure", "range of single rounds", "verdict"]
    return [f"{summary}.", "", *_table(head, lines)]


def _range(data: dict | None, digits: int = 1) -> str:
    if data is None:
        return "n/a"
    return f"{number(data['median'], digits)} ({number(data['min'], digits)}–{number(data['max'], digits)})"


def _detail_line(row: dict, name: str) -> list[str]:
    data = row["implementations"][name]
    cpu, base = _cpu(row, name), _cpu(row, _baseline(row))
    quotient = ratio(base, cpu) if base and cpu else None
    calls = data.get("syscalls_per_request")
    latency = [number(data[key]["median"], 0) if key in data else "n/a" for key in ("p50_us", "p99_us")]
    rss = data.get("rss_per_connection_bytes")
    return [
        data.get("driver") or name,
        _range(data.get("cpu_us"), 2),
        number(quotient.value if quotient else None, 2),
        number(data["requests_per_s"]["median"], 0) if "requests_per_s" in data else "n/a",
        *latency,
        number(calls, 2) + (" s" if data.get("syscalls_tool") == "strace" else ""),
        number(rss["median"] / 1024) if rss else "n/a",
        str(data["cpu_us"]["n"]),
    ]


def details(rows: dict) -> list[str]:
    """One table per server row."""
    head = [
        "server",
        "CPU us (min–max)",
        "baseline ÷",
        "req/s",
        "p50 us",
        "p99 us",
        "syscalls",
        "KiB/conn",
        "n",
    ]
    lines = []
    for name, row in rows.items():
        if row["kind"] == "server" and row["implementations"]:
            lines += [f"### {row['title']} (`{name}`)", ""]
            lines += _table(head, [_detail_line(row, one) for one in row["implementations"]])
    lines += _reasons(rows)
    return lines


def _reasons(rows: dict) -> list[str]:
    reasons: dict[str, set[str]] = {}
    for row in rows.values():
        for name, reason in row["unavailable"].items():
            reasons.setdefault(f"{name} not measured: {reason}", set()).add(row["title"])
        for name, data in row["implementations"].items():
            if "syscalls_missing" in data:
                reasons.setdefault(f"no syscalls for {name}: {data['syscalls_missing']}", set()).add(
                    row["title"]
                )
    return [f"- {reason} ({len(titles)} rows)" for reason, titles in sorted(reasons.items())] + [""]


def _idle(rows: dict) -> list[str]:
    row = rows.get("idle-process")
    if row is None or not row["implementations"]:
        return []
    lines = [
        [name, number(data["wakeups_per_s"]["median"], 1)] for name, data in row["implementations"].items()
    ]
    return ["## Idle process", "", *_table(["server", "wake-ups per second"], lines)]


def machine_lines(machine: dict) -> list[str]:
    """Where and when."""
    packages = ", ".join(
        f"{name} {version}" for name, version in machine["packages"].items() if version != "absent"
    )
    load_average = ", ".join(f"{value:.2f}" for value in machine["load_average"])
    return [
        f"- {machine['machine']}; Linux {machine['kernel']}; load average at the start {load_average}",
        f"- Python {machine['python']}, {packages}; {machine['rustc']}",
        f"- commit {machine['commit']}, {machine['time']}",
        "- server and load client on a core each; closed loop, one request in flight per connection, every "
        "answer verified; server CPU from its process clock at both ends of the window",
        "- syscalls per request from a run apart, counted by perf or by strace (marked s: too low for hubs "
        "that poll, as tracing gives the client time to answer), with connection set-up",
        "",
    ]


def markdown(result: dict) -> str:
    """The whole report."""
    rows = result["rows"]
    lines = ["# Benchmark results", "", *machine_lines(result["machine"])]
    commits = {row["commit"] for row in rows.values()}
    if commits - {result["machine"]["commit"]}:
        lines += [f"Rows were measured at commits {', '.join(sorted(commits))}.", ""]
    lines += ["![CPU against the epolls hub](bench.svg)", "", "## Overview", "", *overview(rows)]
    lines += ["## Bars", "", *bars_table(result["bars"]), *_idle(rows), "## Server rows", "", *details(rows)]
    return "\n".join(lines).rstrip() + "\n"


def readme_snippet(result: dict) -> str:
    """The rows that README shows."""
    rows = {name: result["rows"][name] for name in HEADLINES if name in result["rows"]}
    machine = result["machine"]
    where = f"{machine['machine']}, Linux {machine['kernel']}, Python {machine['python']}."
    return "\n".join([*overview(rows), f"{where} `make bench` repeats it.", ""])
