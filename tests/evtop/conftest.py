"""Starts real processes to observe, and evtop beside them."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
TARGETS = HERE / "targets"
sys.path.insert(0, str(TARGETS))
import hubs  # noqa: E402

ROOT = HERE.parent.parent
EVTOP = os.environ.get("EVTOP", str(ROOT / "target" / "debug" / "evtop"))
# Interpreters with eventlet, gevent and uvloop: this one, or those the matrix names.
PYTHONS = os.environ.get("EVTOP_PYTHONS", sys.executable).split(":")
DEADLINE_S = 60


def name_of(python):
    return subprocess.check_output(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True
    ).strip()


def pytest_generate_tests(metafunc):
    if "python" in metafunc.fixturenames:
        metafunc.parametrize("python", PYTHONS, ids=[name_of(python) for python in PYTHONS], scope="session")


def has_own_hub(python):
    """Whether `make develop` has built uringhub for this interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(hubs.SOURCES)}
    command = [python, "-c", "import uringhub._native"]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


@pytest.fixture(params=hubs.NAMES)
def hub(request, python):
    """Each kind of hub and loop in turn."""
    if request.param.startswith(("hub-", "loop-")) and not has_own_hub(python):
        pytest.skip("uringhub is not built for this interpreter: make develop PYTHON=…")
    return request.param


class Process:
    """A child with line output; `read` waits for a line that is a JSON object with a key."""

    def __init__(self, command, **options):
        self.child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **options
        )
        self.lines = []

    @property
    def pid(self):
        return self.child.pid

    def read(self, key):
        while line := self.child.stdout.readline():
            values = json.loads(line)
            self.lines.append(values)
            if key in values:
                return values[key]
        raise AssertionError(f"ended with {self.child.wait()} before {key!r}: {self.lines}")

    def stop(self):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()


@pytest.fixture
def start():
    """Starts a target program: `start(python, program, *arguments)`."""
    started = []

    def run(python, program, *arguments, prefix=(), **options):
        command = [*prefix, python, str(TARGETS / program), *map(str, arguments)]
        process = Process(command, **options)
        started.append(process)
        return process

    yield run
    for process in started:
        process.stop()


@pytest.fixture(scope="session")
def slow_server():
    """The port of a server that answers when it is told to, from a process of its own."""
    server = subprocess.Popen(
        [sys.executable, str(TARGETS / "slow_server.py")], stdout=subprocess.PIPE, text=True
    )
    yield int(server.stdout.readline())
    server.kill()
    server.wait()


@pytest.fixture(scope="session")
def private_resolver(tmp_path_factory):
    """A command prefix that gives a program a resolv.conf of its own; None where that is not permitted."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return None
    conf = tmp_path_factory.mktemp("resolver") / "resolv.conf"
    conf.write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
    script = f'mount --bind {conf} /etc/resolv.conf && exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", script, "sh"]
    done = subprocess.run([*prefix, "true"], capture_output=True, check=False)
    return prefix if done.returncode == 0 else None


def evtop(*arguments, timeout=DEADLINE_S, **options):
    """Runs evtop to its end."""
    return subprocess.run(
        [EVTOP, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, **options
    )


def dump(pid):
    done = evtop("dump", pid, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def dump_until(pid, holds):
    """Snapshots until a condition holds: the target reaches it by itself."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        snapshot = dump(pid)
        if holds(snapshot) or time.monotonic() > deadline:
            return snapshot


class Watch:
    """`evtop watch --json` beside a target, from its first look to `stop`."""

    def __init__(self, pid, *arguments):
        command = [EVTOP, "watch", str(pid), "--json", *arguments]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.child.stderr.readline()
        assert "watching" in line, line + self.child.stderr.read()

    def stop(self):
        self.child.terminate()
        out, self.errors = self.child.communicate(timeout=DEADLINE_S)
        print(self.errors, end="")
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def watch():
    started = []

    def run(pid, *arguments):
        started.append(Watch(pid, *arguments))
        return started[-1]

    yield run
    for each in started:
        if each.child.poll() is None:
            each.child.kill()
            each.child.communicate()
