"""SVG: the factor against the baseline, row by row."""

from __future__ import annotations

import pathlib

from servers.implementations import BASELINE

from runner.figures import Figure, ratio

#: Drawn columns with their colours (Okabe and Ito's palette, told apart without colour vision).
SERIES = {
    "gevent": "#999999",
    "asyncio-uvloop": "#56b4e9",
    "uring-epoll": "#e69f00",
    "uring": "#009e73",
    "ring": "#000000",
}


def factors(result: dict) -> dict[str, list[tuple[int, float]]]:
    """By series: `(row index, factor)`, rows without a baseline left out."""
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in SERIES}
    for index, row in enumerate(_drawn(result)):
        measured = row["implementations"]
        base = Figure.from_json(measured[BASELINE]["cpu_us"])
        for name in SERIES:
            if name in measured:
                quotient = ratio(base, Figure.from_json(measured[name]["cpu_us"]))
                if quotient is not None:
                    found[name].append((index, quotient.value))
    return {name: points for name, points in found.items() if points}


def _drawn(result: dict) -> list[dict]:
    return [
        row for row in result["rows"].values() if row["kind"] != "idle" and BASELINE in row["implementations"]
    ]


def write_svg(result: dict, path: pathlib.Path) -> bool:
    """Draw into `path`; `False` when matplotlib is absent or there is nothing to draw."""
    series = factors(result)
    try:
        import matplotlib
    except ImportError:
        return False
    if not series:
        return False
    matplotlib.use("svg")
    # Text stays text, and the same figures give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "uringhub"})
    from matplotlib import pyplot

    titles = [row["title"] for row in _drawn(result)]
    height = 0.8 / len(series)
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.45 * len(titles)), layout="constrained")
    for place, (name, points) in enumerate(series.items()):
        middle = (place - (len(series) - 1) / 2) * height
        positions = [index + middle for index, _ in points]
        # Bars start at 1: to the right is less CPU than the baseline, to the left is more.
        widths = [factor - 1 for _, factor in points]
        axes.barh(positions, widths, height, left=1, color=SERIES[name], label=name)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 4, 8, 16, 32]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.set_yticks(range(len(titles)), titles)
    axes.set_ylim(len(titles) - 0.4, -0.6)
    axes.grid(axis="x", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"CPU per operation, {BASELINE} over each: longer to the right is less CPU")
    axes.legend(loc="lower right")
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return True
