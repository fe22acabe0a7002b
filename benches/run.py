"""Compare Eventlet hubs, gevent and native servers: `make bench`, or `python benches/run.py echo-64x512`.

A run of everything is written to `benches/results/`; a part of it to `benches/results/local/`, unless
`--merge` puts the measured rows into the full result, each marked with the commit it was measured at.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent)

from runner import bars, campaign, machine, plot, processes, report
from runner.rows import ROWS, select
from servers.implementations import COMPARED, IMPLEMENTATIONS

RESULTS = processes.BENCHES / "results"


def arguments() -> argparse.Namespace:
    """The command line; row patterns may also come from the variable ROWS, as `make` passes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", help="names or shell patterns of rows; see --list")
    parser.add_argument("--list", action="store_true", help="print the rows and implementations, then end")
    parser.add_argument("--only", nargs="+", choices=COMPARED, help="implementations to compare")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=0.8, help="least window of one run (default 0.8)")
    parser.add_argument("--quick", action="store_true", help="three rounds of 0.3 s, no traced run")
    parser.add_argument("--no-syscalls", action="store_true", help="leave out the runs under strace")
    parser.add_argument("--merge", action="store_true", help="update the measured rows of the full result")
    args = parser.parse_args()
    args.rows = args.rows or os.environ.get("ROWS", "").replace(",", " ").split()
    if args.quick:
        args.rounds, args.seconds, args.no_syscalls = 3, 0.3, True
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    return args


def output_directory(args: argparse.Namespace) -> pathlib.Path:
    """Where the result goes; partial and quick runs do not overwrite the full one."""
    is_full = not args.rows and not args.quick and not args.only
    directory = RESULTS if is_full or args.merge else RESULTS / "local"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def write(result: dict, directory: pathlib.Path) -> None:
    """JSON, Markdown, README snippet and plot; called after every row, so that an abort loses little."""
    order = {name: place for place, name in enumerate(ROWS)}
    result["rows"] = dict(sorted(result["rows"].items(), key=lambda item: order.get(item[0], len(order))))
    result["bars"] = [verdict.as_json() for verdict in bars.evaluate(result)]
    (directory / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    (directory / "bench.md").write_text(report.markdown(result))
    (directory / "readme.md").write_text(report.readme_snippet(result))


def previous_rows(args: argparse.Namespace, directory: pathlib.Path) -> dict:
    """Rows that stay when new ones are merged in."""
    path = directory / "bench.json"
    return json.loads(path.read_text())["rows"] if args.merge and path.exists() else {}


def merged(before: dict | None, row: dict, args: argparse.Namespace) -> dict:
    """A new row, with the implementations kept that `--only` left out this time."""
    if before is None or not args.only:
        return row
    kept = {name: data for name, data in before["implementations"].items() if name not in args.only}
    row["implementations"] = kept | row["implementations"]
    return row


def main() -> int:
    """Measure, write, print the overview."""
    args = arguments()
    try:
        rows = select(args.rows)
    except ValueError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    if args.list:
        for row in ROWS.values():
            print(f"{row.name:22} {row.title}")
        for one in map(IMPLEMENTATIONS.__getitem__, COMPARED):
            print(f"{one.name:22} {one.title}")
        return 0
    directory = output_directory(args)
    result = {"machine": machine.describe(), "rows": previous_rows(args, directory), "bars": []}
    campaign.say("building the load client and the native servers")
    processes.build()
    plan = campaign.Plan(
        rounds=args.rounds,
        seconds=args.seconds,
        warmup_s=0.2,
        with_syscalls=not args.no_syscalls,
        implementations=args.only or COMPARED,
    )
    for name, row in campaign.run(rows, plan):
        result["rows"][name] = merged(result["rows"].get(name), row, args)
        write(result, directory)
    if not plot.write_svg(result, directory / "bench.svg"):
        campaign.say("no plot: matplotlib is not installed (requirements/bench.txt)")
    print(
        "\n".join([*report.overview(result["rows"]), *report.bars_table(result["bars"], with_missing=False)])
    )
    print(f"written to {directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
