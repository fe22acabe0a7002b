"""The arithmetic, the parsers and the verdicts behind `make bench`."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "benches"))

from runner import bars, plot, processes, report, syscalls
from runner.figures import Figure, ratio
from runner.rows import ROWS, select
from servers.implementations import COMPARED, IMPLEMENTATIONS

MACHINE = {
    "time": "2026-01-01T00:00:00+00:00",
    "commit": "abc1234",
    "machine": "a machine",
    "kernel": "6.1",
    "python": "3.11.7",
    "rustc": "rustc 1.90",
    "load_average": [0.1, 0.2, 0.3],
    "packages": {"eventlet": "0.41.3", "rloop": "absent"},
}


def server_row(title, cpu_us, commit="abc1234", **unavailable):
    """A row of a result in which each implementation has the given samples."""
    implementations = {
        name: {
            "cpu_us": Figure(tuple(samples)).as_json(),
            "requests_per_s": Figure((1000.0,)).as_json(),
            "driver": name,
        }
        for name, samples in cpu_us.items()
    }
    return {
        "title": title,
        "kind": "server",
        "commit": commit,
        "rounds": 3,
        "unavailable": unavailable,
        "implementations": implementations,
    }


def evaluated(**rows):
    result = {"machine": MACHINE, "rows": rows}
    result["bars"] = [verdict.as_json() for verdict in bars.evaluate(result)]
    return result


def test_a_figure_knows_median_range_and_noise():
    figure = Figure((3.0, 1.0, 2.0))
    assert (figure.n, figure.median, figure.low, figure.high) == (3, 2.0, 1.0, 3.0)
    assert figure.is_noisy
    assert not Figure((10.0, 11.0, 10.5)).is_noisy
    assert Figure.from_json(figure.as_json()) == figure


def test_a_ratio_is_of_medians_and_its_range_of_single_rounds():
    quotient = ratio(Figure((20.0, 30.0, 22.0)), Figure((10.0, 10.0, 5.5)))
    assert quotient.value == pytest.approx(2.2)
    assert (quotient.low, quotient.high) == pytest.approx((2.0, 4.0))
    assert ratio(Figure((1.0,)), Figure((0.0,))) is None


def test_row_names_are_unique_and_patterns_keep_the_table_order():
    assert [row.name for row in select(["wsgi-*", "echo-1x64"])] == [
        "echo-1x64",
        "wsgi-hello-8",
        "wsgi-hello-64",
        "wsgi-hello-256",
        "wsgi-10k-64",
    ]
    assert len(select([])) == len(ROWS)
    with pytest.raises(ValueError, match="no row matches 'nothing'"):
        select(["nothing"])


def test_all_connection_counts_and_sizes_of_the_echo_are_rows():
    names = {f"echo-{n}x{size}" for n in (1, 64, 1000) for size in ("64", "512", "16k", "100k", "1m")}
    assert names <= set(ROWS)


def test_strace_total_is_read_with_and_without_an_errors_column():
    summary = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.020000           3      6000      1200 recvfrom
 40.00    0.010000           2      4000           sendto
------ ----------- ----------- --------- --------- ----------------
100.00    0.030000           2     10000{} total
"""
    assert syscalls.parse_strace(summary.format("      1200")) == 10000
    assert syscalls.parse_strace(summary.format("          ")) == 10000
    with pytest.raises(ValueError, match="no total"):
        syscalls.parse_strace("")


def test_perf_count_is_read_and_a_refused_event_is_an_error():
    line = "# started\n\n31337,,raw_syscalls:sys_enter,1000,100.00,,\n"
    assert syscalls.parse_perf(line) == 31337
    with pytest.raises(ValueError):
        syscalls.parse_perf("<not counted>,,raw_syscalls:sys_enter,0,100.00,,\n")


def verdicts(result):
    return {bar["title"]: bar["verdict"] for bar in result["bars"]}


def test_a_bar_is_met_at_its_limit_and_not_met_below_it():
    title = "echo, 64 x 512 B"
    samples = {"epolls": [20.0], "uring": [5.0], "uring-epoll": [7.0], "gevent": [12.0], "ring": [3.0]}
    found = verdicts(evaluated(**{"echo-64x512": server_row(title, samples)}))
    assert found[f"{title}: epolls ÷ uring"] == "met"
    assert found[f"{title}: epolls ÷ uring-epoll"] == "NOT met"
    assert found[f"{title}: gevent ÷ uring"] == "met"
    assert found[f"{title}: ring ÷ uring"] == "NOT met"
    assert found[f"never slower, {title}: poll ÷ uring"] == "not measured"


def test_ahead_of_gevent_needs_more_than_a_draw():
    row = server_row("spawn", {"epolls": [20.0], "uring": [4.0], "gevent": [4.0]})
    found = verdicts(evaluated(**{"spawn-wait": row}))
    assert found["spawn: epolls ÷ uring"] == "met"
    assert found["spawn: gevent ÷ uring"] == "NOT met"


def test_an_upper_bar_compares_rows_of_one_implementation():
    rows = {
        "echo-64x512": server_row("plain", {"uring": [5.0], "uring-epoll": [5.0]}),
        "echo-64x512-timeout": server_row("timeout", {"uring": [5.4], "uring-epoll": [5.6]}),
    }
    found = verdicts(evaluated(**rows))
    assert found["echo, settimeout ÷ none: uring"] == "met"
    assert found["echo, settimeout ÷ none: uring-epoll"] == "NOT met"


def test_the_report_marks_losses_noise_missing_columns_and_other_commits():
    row = server_row(
        "a row",
        {"epolls": [10.0, 10.0, 10.0], "uring": [20.0, 20.0, 20.0], "poll": [5.0, 9.0, 10.0]},
        commit="0ther00",
        gevent="No module named 'gevent'",
    )
    text = report.markdown(evaluated(**{"echo-64x512": row}))
    assert "20.00 (0.50x **slower**)" in text
    assert "9.00~ (1.11x)" in text
    assert "gevent not measured: No module named 'gevent' (1 rows)" in text
    assert "Rows were measured at commits 0ther00." in text
    assert "**NOT met**" in text
    assert "rloop" not in text


def test_the_plot_leaves_out_rows_without_the_baseline():
    rows = {
        "echo-1x64": server_row("with", {"epolls": [10.0], "uring": [5.0]}),
        "echo-1x512": server_row("without", {"uring": [5.0]}),
    }
    assert plot.factors(evaluated(**rows)) == {"uring": [(0, 2.0)]}


def test_a_fallback_is_not_measured_under_another_name():
    announced = {"port": 1, "driver": "uring(epoll)"}
    with pytest.raises(processes.Unavailable, match="runs uring"):
        processes._running(IMPLEMENTATIONS["uring"], 1, announced)
    assert processes._running(IMPLEMENTATIONS["uring-epoll"], 1, announced).driver == "uring(epoll)"


def test_a_server_that_cannot_start_gives_its_last_words():
    broken = IMPLEMENTATIONS["epolls"]
    row = ROWS["tls-64x512"]
    with pytest.raises(processes.Unavailable, match="No such file"):
        with processes.server(broken, row, certificate="/nonexistent.pem"):
            pass


def test_the_demo_driver_choice_is_not_a_column_of_the_comparison():
    assert "uring-auto" not in COMPARED
    assert {"uring", "uring-epoll", "epolls", "poll", "gevent"} <= set(COMPARED)


def test_loops_are_compared_among_themselves_and_against_the_best_of_them():
    row = server_row(
        "UDP", {"loop-uvloop": [5.0], "loop-rloop": [3.0], "loop-uring": [4.0], "loop-epoll": [6.0]}
    )
    result = evaluated(**{"loop-udp-64x512": {**row, "world": "asyncio"}})
    assert verdicts(result) == {
        "UDP: loop-uvloop ÷ loop-uring": "met",
        "UDP: loop-rloop ÷ loop-uring": "NOT met",
        "UDP: loop-uvloop ÷ loop-epoll": "NOT met",
    }
    assert "| UDP | 5.00 | 3.00 (1.67x) | 4.00 (1.25x) | 6.00 (0.83x **slower**) |" in report.markdown(result)
