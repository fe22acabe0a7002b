"""What observing costs, and that it reports nothing where nothing blocks. Long: `make evtop-long`."""

import json
import os
import statistics
import subprocess
import time

import hubs
import pytest
import quiet
from conftest import DEADLINE_S, EVTOP, ROOT, has_own_hub, name_of
from results import record
from screens import Screens

pytestmark = [pytest.mark.long, pytest.mark.timeout(0)]
QUIET_S = float(os.environ.get("EVTOP_QUIET_S", "600"))
# So many kinds are watched at once, each busy and idle: ten minutes for each kind alone would be hours.
TOGETHER = int(os.environ.get("EVTOP_TOGETHER", "6"))
QUIET_BATCHES = [hubs.NAMES[at : at + TOGETHER] for at in range(0, len(hubs.NAMES), TOGETHER)]


def processor_s(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid, field):
    """Resident memory of a process, now (`VmRSS`) or at its most (`VmHWM`)."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(next(line for line in status if line.startswith(field)).split()[1]) >> 10


#: Measurements with and without a watcher, one after the other.
PAIRS = 21


def test_the_target_keeps_its_throughput(start, watch, python):
    target = start(python, "echo.py", "eventlet-epolls", 64)
    pid = target.read("ready")
    target.read("rate")
    alone, watched, cost = [], [], []
    for _ in range(PAIRS):
        target.read("rate")
        alone.append(target.read("rate"))
        watcher = watch(pid, "--threshold", "1s")
        target.read("rate")
        before = processor_s(watcher.child.pid), time.perf_counter()
        watched.append(target.read("rate"))
        cost.append((processor_s(watcher.child.pid) - before[0]) / (time.perf_counter() - before[1]))
        watcher.stop()
    target.read("rate")
    alone.append(target.read("rate"))
    # Each against its neighbours: a shared machine is a third slower for seconds at a time.
    shares = [2 * watched[i] / (alone[i] + alone[i + 1]) for i in range(PAIRS)]
    low, share, high = statistics.quantiles(shares, n=4)
    record(
        "the target's throughput while it is watched",
        ">= 97 %",
        f"{share:.1%} of {statistics.median(alone):.0f}/s (quartiles {low:.1%} and {high:.1%}); the watcher takes {statistics.median(cost):.1%} of a processor",
        "make evtop-long ONLY=throughput",
    )
    assert share >= 0.97
    assert statistics.median(cost) <= 0.05


@pytest.mark.parametrize("kinds", QUIET_BATCHES, ids="+".join)
def test_nothing_is_reported_where_nothing_blocks(python, kinds, tmp_path):
    kinds = [kind for kind in kinds if has_own_hub(python) or not kind.startswith(("hub-", "loop-"))]
    results = quiet.watch_together(python, kinds, QUIET_S, tmp_path)
    for result in results:
        print(quiet.line_of(result))
        entries = [
            {
                key: entry[key]
                for key in ("class", "file", "line", "duration_ms", "error_ms", "delay", "syscall")
            }
            for entry in result.pop("entries")
        ]
        record(
            f"false entries: {result['kind']}, {result['load']}, Python {name_of(python)}",
            "0 in 10 minutes at 20 ms",
            f"{result['false_entries']} in {QUIET_S:.0f} s, processors {result['processors_busy']:.0%} busy, "
            f"{len(results)} servers watched at once",
            f"tests/evtop/quiet.py --seconds {QUIET_S:.0f} {' '.join(kinds)}",
            entries=entries,
            **result,
        )
    assert [(each["kind"], each["load"]) for each in results if each["false_entries"]] == []
    assert [(each["kind"], each["load"]) for each in results if not each["control_found"]] == []


@pytest.fixture
def screens():
    """evtop's screens on a process, on a terminal of their own: `screens(pid)`."""
    opened = []

    def show(pid):
        opened.append(Screens([EVTOP, str(pid)]))
        return opened[-1]

    yield show
    for each in opened:
        each.close()


# The overview counts green threads only once they were found.
FIRST_DATA = "(Green|Tasks)≈ *[0-9]+:".encode()


def test_attaching_to_a_large_process_takes_less_than_a_second(start, screens, python):
    target = start(python, "many.py", 100, 500)
    pid = target.read("ready")
    took = []
    for _ in range(5):
        shown = screens(pid)
        took.append(shown.read_until(FIRST_DATA, deadline_s=DEADLINE_S))
        shown.close()
    record(
        "from the command to the first screen with data",
        "<= 1 s on a 500 MiB process",
        f"{min(took) * 1000:.0f} ms, at most {max(took) * 1000:.0f}, on {memory_mib(pid, 'VmRSS')} MiB",
        "make evtop-long ONLY=attaching",
    )
    assert min(took) <= 1.0


@pytest.mark.parametrize(("name", "extra"), [("asleep", ()), ("one of them ticking", ("ticking",))])
def test_five_thousand_green_threads_are_read_cheaply(start, python, name, extra):
    target = start(python, "many.py", 5000, 0, *extra)
    command = [str(ROOT / "target" / "release" / "examples" / "refresh"), str(target.read("ready")), "20"]
    lines = subprocess.check_output(command, text=True).splitlines()
    cost = {
        name: [float(line.split()[1]) for line in lines if line.startswith(name)] for name in ("find", "look")
    }
    record(
        f"5,000 green threads, {name}: processor time",
        "<= 15 ms a refresh, <= 150 ms to find",
        f"{statistics.median(cost['look']):.1f} ms a refresh, {cost['find'][0]:.0f} ms to find",
        "make evtop-long ONLY=five_thousand",
    )
    assert "5002 green threads" in "".join(lines)
    assert statistics.median(cost["look"]) <= 15
    assert cost["find"][0] <= 150


@pytest.mark.parametrize("extra", [(), ("ticking",)], ids=["asleep", "one of them ticking"])
def test_five_thousand_tasks_are_read_cheaply(start, python, extra):
    target = start(python, "many_tasks.py", 5000, *extra)
    command = [str(ROOT / "target" / "release" / "examples" / "refresh"), str(target.read("ready")), "20"]
    lines = subprocess.check_output(command, text=True).splitlines()
    cost = statistics.median(float(line.split()[1]) for line in lines if line.startswith("look"))
    record(
        f"5,000 tasks{', and one that ticks' if extra else ''}: processor time",
        "told",
        f"{cost:.1f} ms a refresh",
        "make evtop-long ONLY=five_thousand",
    )
    assert cost <= 100


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a busy server", ("echo.py", "eventlet-epolls", 64)),
        ("a busy server on uringhub", ("echo.py", "hub-uring", 64)),
        ("5,000 sleeping green threads", ("many.py", 5000, 0)),
        ("5,000 green threads, one of them ticking", ("many.py", 5000, 0, "ticking")),
        ("5,000 tasks, and one that ticks", ("many_tasks.py", 5000, "ticking")),
    ],
)
def test_screens_and_watcher_cost_little(start, screens, python, name, arguments):
    if "hub-uring" in arguments and not has_own_hub(python):
        pytest.skip("uringhub is not built for this interpreter: make develop")
    shown = screens(start(python, *arguments).read("ready"))
    shown.read_until(FIRST_DATA, deadline_s=DEADLINE_S)
    shares = []
    for key in "13521352":
        os.write(shown.master, key.encode())
        before = processor_s(shown.child.pid), time.perf_counter()
        shown.read_for(3)
        shares.append((processor_s(shown.child.pid) - before[0]) / (time.perf_counter() - before[1]))
    memory = memory_mib(shown.child.pid, "VmHWM")
    record(
        f"evtop's own cost, screens and watcher, on {name}",
        "<= 5 % of a processor, <= 60 MiB",
        f"{statistics.median(shares):.1%} over four screens, {max(shares):.1%} in the worst 3 s; {memory} MiB at most",
        "make evtop-long ONLY=cost_little",
        shares=shares,
    )
    assert statistics.median(shares) <= 0.05
    assert memory <= 60


@pytest.mark.parametrize(("count", "mib"), [(300, 0), (5000, 0), (300, 500)])
def test_a_pause_is_short(start, python, count, mib):
    pid = start(python, "many.py", count, mib).read("ready")
    done = [
        json.loads(subprocess.check_output([EVTOP, "dump", str(pid), "--json", "--pause"])) for _ in range(5)
    ]
    paused_ms = [snapshot["counters"]["paused_us"] / 1000 for snapshot in done]
    record(
        f"--pause: {count} green threads, {memory_mib(pid, 'VmRSS')} MiB",
        "told",
        f"stopped for {statistics.median(paused_ms):.1f} ms, at most {max(paused_ms):.1f}",
        "make evtop-long ONLY=pause",
    )
    assert [len(snapshot["green_threads"]) for snapshot in done] == [count + 2] * len(done)
    assert min(paused_ms) > 0
