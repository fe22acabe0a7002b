"""Keeps what the long runs measured in `benches/results/evtop.json`, and the table of it beside that file.

A row is replaced when it is measured again; the others stay, each with its own commit, time and machine.
"""

import datetime
import json
import os
import pathlib
import platform
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "benches" / "results"


def commit():
    """Short hash of the working tree, marked when it has changes outside the results."""

    def git(*arguments):
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", ".", ":!benches/results")
    return git("rev-parse", "--short", "HEAD") + ("+changes" if changed else "")


# The state that was measured, not that of the end of a long run.
COMMIT = commit()


def conditions():
    return {
        "commit": COMMIT,
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, Linux {platform.release()}",
        "load_average": [round(load, 1) for load in os.getloadavg()],
    }


def record(name, bar, figure, command, **detail):
    """Notes one row if `EVTOP_RESULTS` is set, as `make evtop-long` does; prints it in any case."""
    print(f"{name}: {figure} (bar: {bar})")
    if not os.environ.get("EVTOP_RESULTS"):
        return
    path = DIRECTORY / "evtop.json"
    rows = json.loads(path.read_text()) if path.exists() else {}
    rows[name] = {"bar": bar, "figure": figure, "command": command, **conditions(), **detail}
    path.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    (DIRECTORY / "evtop.md").write_text(table(rows))


def table(rows):
    lines = [
        "# evtop: what the long runs gave",
        "",
        "Written by `make evtop-long`. Load: the machine's load average over the last minute when the row was written; beyond",
        "what the row itself asks for, others used the processors meanwhile, and processor times are longer than alone.",
        "",
        "| what | bar | figure | command | commit | load |",
        "|---|---|---|---|---|---:|",
    ]
    for name, row in sorted(rows.items()):
        load = row["load_average"][0]
        lines.append(
            f"| {name} | {row['bar']} | {row['figure']} | `{row['command']}` | {row['commit']} | {load} |"
        )
    machines = sorted({row["machine"] for row in rows.values()})
    return "\n".join([*lines, "", "Machine: " + "; ".join(machines) + ".", ""])
