"""Servers that never block, several kinds at once, each busy and idle and each watched: no entry may appear.

`quiet.py [--seconds S] [KIND…]` watches them together and prints what each watcher saw. The busy servers and those who
load them want more than the machine has, so that both processors are loaded all the time. At the end each server blocks
once: a watcher that reports nothing because it sees nothing fails.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "targets"))
import hubs  # noqa: E402

ROOT = HERE.parent.parent
EVTOP = os.environ.get("EVTOP", str(ROOT / "target" / "debug" / "evtop"))
CONNECTIONS = 32
PAUSES_S = {"busy": 0.0, "idle": 3600.0}
COUNTERS = re.compile(
    r"(\d+) looks at (\d+) hub threads, (\d+) late, (\d+) closer; not reported: (\d+) stretches .* (\d+) below"
)


def is_control(entry):
    return entry["class"] == "sleep" and entry["file"].endswith("/echo.py") and entry["function"] == "report"


def processor_ticks():
    """All ticks of the machine, and the idle ones."""
    with open("/proc/stat", encoding="ascii") as stat:
        fields = [int(field) for field in stat.readline().split()[1:]]
    return sum(fields[:8]), fields[3] + fields[4]


class Server:
    """One server with its load, and the evtop that watches it."""

    def __init__(self, python, kind, load):
        self.kind, self.load = kind, load
        command = [python, str(HERE / "targets" / "echo.py"), kind, str(CONNECTIONS), str(PAUSES_S[load])]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.watcher = None

    def read(self, key):
        while line := self.child.stdout.readline():
            values = json.loads(line)
            if key in values:
                return values[key]
        raise AssertionError(f"{self.kind}, {self.load}: the server ended with {self.child.wait()}")

    def watch(self, directory):
        # The output goes to a file: nobody has to read it while it runs.
        self.found = open(directory / f"{self.kind}-{self.load}.jsonl", "w+", encoding="utf-8")
        command = [EVTOP, "watch", str(self.child.pid), "--json"]
        self.watcher = subprocess.Popen(command, stdout=self.found, stderr=subprocess.PIPE, text=True)
        line = self.watcher.stderr.readline()
        assert "watching" in line, f"{self.kind}: {line}{self.watcher.stderr.read()}"

    def result(self):
        """What the watcher saw; ends it."""
        assert self.child.poll() is None, f"{self.kind}, {self.load}: the server has ended"
        served = self.read_rates()
        self.watcher.terminate()
        _, errors = self.watcher.communicate(timeout=60)
        looks, threads, late, closer, starved, short = map(int, COUNTERS.search(errors).groups())
        assert threads == 1, f"{self.kind}, {self.load}: {errors}"
        self.found.seek(0)
        entries = [json.loads(line) for line in self.found]
        controls = [entry for entry in entries if is_control(entry)]
        entries = [entry for entry in entries if not is_control(entry)]
        return {
            "kind": self.kind,
            "load": self.load,
            "false_entries": len(entries),
            "control_found": len(controls) == 1,
            "served": served,
            "looks": looks,
            "late_looks": late,
            "closer_looks": closer,
            "without_processor": starved,
            "below_threshold": short,
            "entries": entries,
        }

    def read_rates(self):
        """What was served until the server had blocked once, as it is asked to."""
        self.child.send_signal(signal.SIGUSR1)
        served = 0
        while line := self.child.stdout.readline():
            values = json.loads(line)
            served += values.get("rate", 0)
            if "blocked" in values:
                # The stall is over at the next switch; the next report is behind it.
                return served + self.read("rate")
        raise AssertionError(f"{self.kind}, {self.load}: the server ended with {self.child.wait()}")

    def stop(self):
        for process in filter(None, (self.watcher, self.child)):
            if process.poll() is None:
                process.kill()
            process.wait()
        if self.watcher:
            self.found.close()


def watch_together(python, kinds, seconds, directory):
    """Watches all these kinds, busy and idle, at the same time; a result for each."""
    pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        servers = []
        for kind in kinds:
            for load in PAUSES_S:
                servers.append(Server(python, kind, load))
                stack.callback(servers[-1].stop)
        for server in servers:
            server.read("ready")
            server.read("rate")
        for server in servers:
            server.watch(pathlib.Path(directory))
        before = processor_ticks()
        time.sleep(seconds)
        total, idle = (after - then for after, then in zip(processor_ticks(), before, strict=True))
        results = [server.result() for server in servers]
    for result in results:
        result["seconds"] = seconds
        result["processors_busy"] = round(1 - idle / total, 3)
    return results


def line_of(result):
    counts = ("false_entries", "served", "looks", "late_looks", "without_processor", "below_threshold")
    told = ", ".join(f"{result[name]} {name.replace('_', ' ')}" for name in counts)
    return f"{result['kind']:<16} {result['load']:<5} {told}" + ("" if result["control_found"] else ", BLIND")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kinds", nargs="*", default=hubs.NAMES, metavar="KIND")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--directory", default=ROOT / "target" / "evtop-quiet")
    options = parser.parse_args()
    results = watch_together(options.python, options.kinds, options.seconds, options.directory)
    for result in results:
        print(line_of(result))
        for entry in result["entries"]:
            print(f"    {entry['duration_ms']:.1f} ms {entry['class']} {entry['file']}:{entry['line']}")
    print(f"processors busy {results[0]['processors_busy']:.0%}")
    return not all(result["control_found"] and result["false_entries"] == 0 for result in results)


if __name__ == "__main__":
    sys.exit(main())
