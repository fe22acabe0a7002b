"""What observing costs, and that it reports nothing where nothing blocks. Long: `make evtop-long`."""

import os
import statistics
import subprocess
import time

import hubs
import pytest
import quiet
from conftest import EVTOP, has_own_hub, name_of
from results import record

pytestmark = [pytest.mark.long, pytest.mark.timeout(0)]
QUIET_S = float(os.environ.get("EVTOP_QUIET_S", "600"))
# So many kinds are watched at once, each busy and idle: ten minutes for each kind alone would be hours.
TOGETHER = int(os.environ.get("EVTOP_TOGETHER", "6"))
QUIET_BATCHES = [hubs.NAMES[at : at + TOGETHER] for at in range(0, len(hubs.NAMES), TOGETHER)]


def processor_s(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_target_keeps_its_throughput(start, watch, python):
    target = start(python, "echo.py", "eventlet-epolls", 64)
    pid = target.read("ready")
    target.read("rate")
    alone, watched, cost = [], [], []
    for _ in range(8):
        target.read("rate")
        alone.append(target.read("rate"))
        watcher = watch(pid, "--threshold", "1s")
        target.read("rate")
        before = processor_s(watcher.child.pid), time.perf_counter()
        watched.append(target.read("rate"))
        cost.append((processor_s(watcher.child.pid) - before[0]) / (time.perf_counter() - before[1]))
        watcher.stop()
    share = statistics.median(watched) / statistics.median(alone)
    print(
        f"throughput {share:.3f} of {statistics.median(alone):.0f}/s, evtop {statistics.median(cost):.3f} of a processor"
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


def test_attaching_to_a_large_process_takes_less_than_a_second(start, python):
    target = start(python, "many.py", 100, 500)
    pid = target.read("ready")
    took = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([EVTOP, "--once", str(pid)], stdout=subprocess.DEVNULL, check=True)
        took.append(time.perf_counter() - started)
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        rss = next(line for line in status if line.startswith("VmRSS")).split()[1]
    print(f"attach and show {min(took) * 1000:.0f} ms on {int(rss) // 1024} MiB")
    assert min(took) <= 1.0
