"""Programs start and pass where io_uring is refused, and where calling it means death."""

import signal
import sys
from pathlib import Path

import isolated
import pytest
from programs.own_process import PYTHON_TESTS, require_hub

FILTER = Path(__file__).with_name("forbid_io_uring.py")
PROGRAM = """
    import logging, sys
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s", stream=sys.stdout)
    import eventlet
    eventlet.monkey_patch()
    import urllib.request
    from eventlet import wsgi
    from traps.wire import listening, operations_in_flight

    def app(environ, start_response):
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    listener = listening(128)
    server = eventlet.spawn(wsgi.server, listener, app, log_output=False)
    url = "http://127.0.0.1:%d/" % listener.getsockname()[1]

    def fetch(number):
        with eventlet.Timeout(15), urllib.request.urlopen(url, data=b"%d" % number) as response:
            return response.read() == b"%d" % number

    pool = eventlet.GreenPool(20)
    assert all(pool.imap(fetch, range(60)))
    server.kill()
    print("PASSED")
    """


def run_filtered(tmp_path, action, hub, driver, check=True):
    """Runs PROGRAM under the filter. `driver` replaces the hub's own choice of driver."""
    import textwrap

    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    env = {"PYTHONPATH": str(PYTHON_TESTS), "PYTHONWARNINGS": "ignore"}
    if hub.is_ours:
        env["URINGHUB_DRIVER"] = driver
    return isolated.run(FILTER, action, sys.executable, str(program), hub=hub, env=env, check=check)


def log_lines(done):
    """The lines of logger `uringhub`."""
    return [line for line in done.stdout.splitlines() if line.startswith("uringhub")]


@pytest.mark.parametrize("action", ["eperm", "enosys", "kill"])
def test_stock_hub_passes_under_the_filter(tmp_path, action):
    """The contract: the filter itself breaks nothing."""
    assert "PASSED" in run_filtered(tmp_path, action, isolated.EPOLLS, None).stdout


@pytest.mark.parametrize(("action", "reason"), [("eperm", "EPERM"), ("enosys", "ENOSYS")])
def test_auto_falls_back_to_epoll_with_one_log_line_that_names_the_reason(tmp_path, action, reason):
    require_hub(isolated.URING)
    done = run_filtered(tmp_path, action, isolated.URING, "auto")
    assert "PASSED" in done.stdout
    lines = log_lines(done)
    assert len(lines) == 1 and "epoll" in lines[0], lines
    known_as = {"EPERM": ("EPERM", "not permitted"), "ENOSYS": ("ENOSYS", "not implemented")}[reason]
    assert any(name in lines[0] for name in known_as), lines


@pytest.mark.parametrize("action", ["eperm", "enosys", "kill"])
def test_opt_out_makes_no_io_uring_call(tmp_path, action):
    """The killing filter ends the process at the first one."""
    require_hub(isolated.EPOLL)
    done = run_filtered(tmp_path, action, isolated.EPOLL, "epoll")
    assert "PASSED" in done.stdout
    lines = log_lines(done)
    assert len(lines) == 1 and "epoll" in lines[0], lines
    assert "URINGHUB_DRIVER" in lines[0], lines


@pytest.mark.parametrize("action", ["eperm", "enosys"])
def test_explicit_uring_is_an_error_that_names_cause_and_remedy(tmp_path, action):
    require_hub(isolated.URING)
    done = run_filtered(tmp_path, action, isolated.URING, "uring", check=False)
    assert done.returncode != 0 and "PASSED" not in done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert "io_uring" in last and ("seccomp" in last or "kernel" in last), done.stderr
    assert "URINGHUB_DRIVER=auto" in last or "URINGHUB_DRIVER=epoll" in last, done.stderr


def test_killing_filter_really_kills_a_program_that_tries(tmp_path):
    """Otherwise the opt-out test would show nothing."""
    require_hub(isolated.URING)
    done = run_filtered(tmp_path, "kill", isolated.URING, "uring", check=False)
    assert done.returncode == -signal.SIGSYS, done


def test_log_line_names_the_driver_without_a_filter(our_hub, tmp_path):
    require_hub(our_hub)
    import textwrap

    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    env = {"PYTHONPATH": str(PYTHON_TESTS), "PYTHONWARNINGS": "ignore"}
    done = isolated.run(program, hub=our_hub, env=env)
    lines = log_lines(done)
    named = {"uring": "io_uring", "epoll": "epoll"}[our_hub.driver]
    assert len(lines) == 1 and named in lines[0], done.stdout
