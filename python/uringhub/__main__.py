"""`python -m uringhub`: says what runs here and why, and what to do about it."""

from __future__ import annotations

import argparse
import os
import sys

from uringhub import doctor

EPILOG = """\
examples:
  python -m uringhub                         what a program started here would run on
  URINGHUB_DRIVER=uring python -m uringhub   why io_uring cannot be had, if it cannot
  python -m uringhub --json | jq .driver     for a machine to read

exit codes:
  0  runs as asked
  1  runs, but could run better, e.g. on io_uring instead of epoll
  2  wrong command line
  3  would not start
"""
COLORS = {doctor.OK: "32", doctor.NOTE: "33", doctor.PROBLEM: "31"}


def render(report: doctor.Report, colored: bool) -> str:
    """The findings as text: one line each, with the remedy below."""
    width = max(len(finding.subject) for finding in report.findings)
    lines = []
    for finding in report.findings:
        level = f"{finding.level:7}"
        if colored:
            level = f"\x1b[{COLORS[finding.level]}m{level}\x1b[0m"
        lines.append(f"{level} {finding.subject:{width}}  {finding.detail}")
        if finding.remedy:
            lines.append(f"{'':8}{'':{width}}  -> {finding.remedy}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m uringhub",
        description="Says what uringhub runs on here and why, and the remedy for what is not in order.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print facts and findings as JSON")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    options = parser.parse_args(arguments)
    if options.version:
        print(f"uringhub {doctor._version('uringhub')}")
        return 0
    report = doctor.examine()
    if options.json:
        print(report.as_json())
    else:
        # https://no-color.org: any value but the empty one turns colour off.
        print(render(report, colored=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
