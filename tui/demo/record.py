"""Records tui/demo/evtop.svg: drives evtop on a running program in tmux and writes what the terminal showed.

    python tui/demo/record.py target/release/evtop

Needs tmux, and Eventlet in the interpreter that runs this.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE.parents[1] / "tests/evtop/targets/shop.py"
OUTPUT = HERE / "evtop.svg"
WIDTH, HEIGHT = 104, 27
CELL_WIDTH, LINE_HEIGHT, MARGIN = 7.85, 17, 12
FOREGROUND, BACKGROUND = "#c9d1d9", "#0d1117"
PALETTE = "#484f58 #ff7b72 #3fb950 #d29922 #58a6ff #bc8cff #39c5cf #b1bac4".split()

# Keys to press, and for how many seconds what follows is shown.
SCENES = [
    ((), 4.0),
    (("2",), 3.0),
    (("Enter",), 4.0),
    (("Escape", "3"), 3.0),
    (("/", "customer", "Enter"), 2.5),
    (("Escape", "4"), 3.0),
    (("5",), 3.0),
    (("8",), 3.5),
]


def tmux(*arguments: str) -> str:
    return subprocess.run(
        ["tmux", "-L", "evtop-demo", *arguments], check=True, capture_output=True, text=True
    ).stdout


def wait_for(text: str) -> None:
    for _ in range(200):
        if text in tmux("capture-pane", "-t", "d", "-p"):
            return
        time.sleep(0.05)
    raise SystemExit(f"{text!r} did not appear")


def record(evtop: str) -> list[tuple[str, float]]:
    """What the terminal showed, with its escape sequences, and for how long to show it."""
    # Paths of this machine say nothing to a reader.
    directory = Path(tempfile.gettempdir()) / "shop"
    directory.mkdir(exist_ok=True)
    shutil.copy(TARGET, directory)
    target = subprocess.Popen(
        ["python", "-W", "ignore", "shop.py"],
        cwd=directory, env={**os.environ, "PATH": str(Path(sys.executable).parent)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert target.stdout.readline() == "ready\n"
    shell = f"env TERM=tmux-256color COLORTERM=truecolor {evtop} {target.pid}"
    try:
        tmux("-f", "/dev/null", "new-session", "-d", "-s", "d", "-x", str(WIDTH), "-y", str(HEIGHT), shell)
        tmux("set-option", "-ga", "terminal-overrides", ",*:Tc")
        wait_for("Process=")
        # Enough for the sparkline to have a shape.
        time.sleep(30)
        frames = []
        for keys, seconds in SCENES:
            for key in keys:
                tmux("send-keys", "-t", "d", key)
            time.sleep(1)
            frames.append((tmux("capture-pane", "-t", "d", "-e", "-p"), seconds))
        return frames
    finally:
        subprocess.run(["tmux", "-L", "evtop-demo", "kill-server"], check=False, capture_output=True)
        target.kill()
        target.wait()


def without_prefix(path: re.Match[str]) -> str:
    """The path of a library without where it is installed, as long as before: what follows must not move."""
    short = f"…/site-packages/{path[2]}"
    return short.ljust(len(path[0]))


class Style:
    """The state of a terminal's colours."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.foreground, self.background, self.is_bold, self.is_reversed = FOREGROUND, None, False, False

    def apply(self, codes: list[int]) -> None:
        codes = codes or [0]
        while codes:
            code = codes.pop(0)
            if code == 0:
                self.reset()
            elif code in (1, 7):
                self.is_bold, self.is_reversed = self.is_bold or code == 1, self.is_reversed or code == 7
            elif code in (38, 48):
                colour = "#{:02x}{:02x}{:02x}".format(*codes[1:4]) if codes[0] == 2 else PALETTE[codes[1] % 8]
                del codes[: 4 if codes[0] == 2 else 2]
                if code == 38:
                    self.foreground = colour
                else:
                    self.background = colour
            elif 30 <= code <= 37:
                self.foreground = PALETTE[code - 30]
            elif code == 39:
                self.foreground = FOREGROUND
            elif code == 49:
                self.background = None

    def colours(self) -> tuple[str, str | None]:
        if self.is_reversed:
            return self.background or BACKGROUND, self.foreground
        return self.foreground, self.background


def line_svg(line: str, row: int, style: Style) -> str:
    """One line as rectangles and text; every run says its own place, so that fonts cannot shift it."""
    column, shapes = 0, []
    baseline = MARGIN + row * LINE_HEIGHT + 13
    for part in re.split(r"(\x1b\[[\d;]*m)", line):
        if part.startswith("\x1b["):
            style.apply([int(code or 0) for code in part[2:-1].split(";")])
            continue
        foreground, background = style.colours()
        x, width = MARGIN + column * CELL_WIDTH, len(part) * CELL_WIDTH
        if background and part:
            shapes.append(
                f'<rect x="{x:.1f}" y="{baseline - 13}" width="{width:.1f}" height="{LINE_HEIGHT}" fill="{background}"/>'
            )
        if part.strip():
            lead = len(part) - len(part.lstrip())
            text = part.strip()
            weight = ' font-weight="bold"' if style.is_bold else ""
            shapes.append(
                f'<text x="{x + lead * CELL_WIDTH:.1f}" y="{baseline}" fill="{foreground}"{weight}'
                f' textLength="{len(text) * CELL_WIDTH:.1f}">{html.escape(text)}</text>'
            )
        column += len(part)
    return "".join(shapes)


def svg(frames: list[tuple[str, float]]) -> str:
    total = sum(seconds for _, seconds in frames)
    width, height = WIDTH * CELL_WIDTH + 2 * MARGIN, HEIGHT * LINE_HEIGHT + 2 * MARGIN
    rules, groups, start = [], [], 0.0
    for index, (painted, seconds) in enumerate(frames):
        begin, end = start / total * 100, (start + seconds) / total * 100
        rules.append(
            f"@keyframes f{index}{{0%{{opacity:{int(index == 0)}}}{begin:.2f}%{{opacity:1}}"
            f"{end:.2f}%{{opacity:0}}100%{{opacity:0}}}}"
            f"#f{index}{{animation:f{index} {total}s step-end infinite}}"
        )
        # tmux lets colours run on from one line to the next.
        style = Style()
        lines = "\n".join(line_svg(line, row, style) for row, line in enumerate(painted.split("\n")[:HEIGHT]))
        groups.append(f'<g id="f{index}" opacity="{int(index == 0)}">{lines}</g>')
        start += seconds
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-size="13"'
        f' font-family="DejaVu Sans Mono,Menlo,Consolas,monospace" xml:space="preserve">'
        f"<style>{''.join(rules)}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>{"".join(groups)}</svg>\n'
    )


if __name__ == "__main__":
    recorded = [
        (re.sub(r"(/[^\s\x1b]*)/site-packages/([^\s\x1b]*)", without_prefix, painted), seconds)
        for painted, seconds in record(str(Path(sys.argv[1]).resolve()))
    ]
    OUTPUT.write_text(svg(recorded))
