"""evtop's screens in a real terminal: every key on a running program, and what is left behind however evtop ends."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import EVTOP
from screens import Screens

TARGET = Path(__file__).parent / "targets" / "shop.py"
DEADLINE_S = 60
# Prints which of the two are on; `stty` writes a minus before those that are off.
MODES = r"stty -a | tr ' ;' '\n\n' | grep -x -e icanon -e echo"

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


@pytest.fixture(scope="session")
def evtop() -> str:
    return EVTOP


@pytest.fixture
def target():
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", TARGET], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


class Terminal:
    """A shell in a tmux server of its own."""

    def __init__(self, name: str, width: int, height: int, environment: dict[str, str] | None = None):
        self.name = name
        # The shell must not read anybody's settings, and its prompt must be recognisable.
        variables = {"PS1": "PROMPT> ", "TERM": "tmux-256color", "RUST_BACKTRACE": "0", **(environment or {})}
        assignments = [f"{key}={value}" for key, value in variables.items()]
        shell = shlex.join(["env", *assignments, "bash", "--noprofile", "--norc"])
        self.tmux(
            "-f", "/dev/null", "new-session", "-d", "-s", "t", "-x", str(width), "-y", str(height), shell
        )
        try:
            self.wait_for(r"PROMPT>$")
        except AssertionError:
            self.close()
            raise

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self.name, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def screen(self, *options: str) -> str:
        return self.tmux("capture-pane", "-t", "t", "-p", *options).rstrip("\n")

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "t", *keys)

    def run(self, command: str) -> None:
        self.keys(command, "Enter")

    def value(self, name: str) -> str:
        return self.tmux("display-message", "-t", "t", "-p", f"#{{{name}}}").strip()

    def wait_for(self, pattern: str) -> str:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            seen = self.screen()
            if re.search(pattern, seen, re.M):
                return seen
            time.sleep(0.05)
        raise AssertionError(f"{pattern!r} did not appear:\n{seen}")

    def resize(self, width: int, height: int) -> None:
        self.tmux("resize-window", "-t", "t", "-x", str(width), "-y", str(height))

    def is_as_before(self) -> bool:
        """No alternate screen, no mouse reports, a visible cursor, and a line discipline that echoes."""
        flags = ("alternate_on", "mouse_any_flag", "mouse_sgr_flag")
        return all(self.value(flag) == "0" for flag in flags) and self.value("cursor_flag") == "1"

    def assert_restored(self, code: int) -> None:
        self.wait_for(r"PROMPT>$")
        assert self.is_as_before()
        # Typed at the prompt: the shell sees whole lines and the terminal echoes them.
        self.run(f"echo flags: $({MODES})")
        self.wait_for(r"^flags: icanon echo$")
        assert f"code={code};" in self.screen()

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self.name, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def open_terminal(request):
    opened = []

    def open_one(width=100, height=30, **environment):
        name = f"evtop-{os.getpid()}-{len(opened)}-{request.node.name[:20]}"
        opened.append(Terminal(re.sub(r"\W", "-", name), width, height, environment))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.close()


@pytest.fixture
def shown(evtop, target, open_terminal):
    """Starts evtop on the target; the shell prints its exit code."""

    def show(width=100, height=30, **environment):
        terminal = open_terminal(width, height, **environment)
        terminal.run(f'{evtop} {target.pid}; echo "code=$?;"')
        terminal.wait_for(r"^Process=")
        return terminal

    return show


def pid_of_evtop(terminal: Terminal) -> int:
    listed = subprocess.run(
        ["ps", "-o", "pid=,comm=", "--ppid", terminal.value("pane_pid")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert listed[1] == "evtop"
    return int(listed[0])


def test_every_screen_shows_the_running_program(shown, target):
    terminal = shown()
    assert f"evtop {target.pid}" in terminal.screen()
    for key, pattern in [
        ("2", r"=sleep .*shop\.py:\d+ ask_legacy_system"),
        ("3", r"customer .*=sleep 0\.\d+ s .*shop\.py:\d+"),
        ("4", r"─ fetch-2 +waiting .*=sleep 1002\.?0? s"),
        ("5", r"^count_stock +6 "),
        ("6", r"=read +1 tcp 127\.0\.0\.1:\d+ → 127\.0\.0\.1:\d+ +answer"),
        ("7", r"sleep +fetch-0 .*shop\.py:\d+"),
        ("8", r"warning +lock-convoy +=6 wait for the lock"),
        ("?", r"^  q  Ctrl-C +quit"),
        ("1", r"^Hub +.*asyncio"),
    ]:
        terminal.keys(key)
        terminal.wait_for(pattern)
    terminal.keys("q")
    terminal.assert_restored(0)


def test_keys_filter_sort_pause_and_open_details(shown):
    terminal = shown()
    terminal.keys("3", "/")
    terminal.keys("-l", "customer")
    terminal.wait_for(r"^filter: customer")
    terminal.keys("Enter")
    seen = terminal.wait_for(r"Esc drops it")
    assert len(re.findall(r"shop\.py:\d+", seen)) == 4
    terminal.keys("Enter")
    terminal.wait_for(r"┌ green thread customer")
    terminal.keys("Down", "Down")
    terminal.wait_for(r">\s+\d+ +eventlet\.sleep\(pause_s\)")
    terminal.keys("Escape")
    terminal.wait_for(r"^State=")
    terminal.keys("Escape")
    terminal.wait_for(r"\? help")
    terminal.keys("s", "i")
    terminal.wait_for(r"Function=[▲▼]")
    terminal.keys("p")
    terminal.wait_for(r"PAUSED, [1-9]\d* held back")
    terminal.keys("p")
    terminal.wait_for(r"live$")
    terminal.keys("4")
    terminal.wait_for(r"─ fetch-0")
    terminal.keys("t")
    terminal.wait_for(r"^fetch-0")
    # Keys with no meaning here, and all movements, leave evtop alive.
    terminal.keys(*"Home End PageUp PageDown Up Down Left Right Tab BTab F1 F9 Z C-l".split())
    terminal.wait_for(r"^Keys$")
    terminal.keys("C-c")
    terminal.assert_restored(0)


def test_the_editor_gets_the_terminal_and_gives_it_back(shown, tmp_path):
    editor = tmp_path / "editor"
    editor.write_text(f'#!/bin/sh\necho "editing $1 $2"; {MODES}; read -r line\n')
    editor.chmod(0o755)
    terminal = shown(EDITOR=str(editor))
    terminal.keys("3", "/")
    terminal.keys("-l", "reprice")
    terminal.keys("Enter")
    terminal.wait_for(r"Esc drops it")
    terminal.keys("o")
    terminal.wait_for(rf"editing \+\d+ {re.escape(str(TARGET))}")
    terminal.wait_for(r"^icanon\necho")
    terminal.keys("Enter")
    terminal.wait_for(r"^State=")
    terminal.keys("q")
    terminal.assert_restored(0)


def test_control_z_stops_evtop_and_fg_brings_the_screen_back(shown):
    terminal = shown()
    terminal.keys("C-z")
    terminal.wait_for(r"Stopped")
    assert terminal.is_as_before()
    terminal.run("fg")
    terminal.wait_for(r"^Process=")
    assert terminal.value("alternate_on") == "1"
    os.kill(pid_of_evtop(terminal), signal.SIGTSTP)
    terminal.wait_for(r"Stopped")
    assert terminal.is_as_before()
    terminal.run("fg")
    terminal.wait_for(r"^Process=")
    terminal.keys("q")
    terminal.wait_for(r"PROMPT>$")
    assert terminal.is_as_before()


def test_after_a_stop_that_nobody_announced_the_whole_screen_is_painted_again(shown):
    terminal = shown()
    os.kill(pid_of_evtop(terminal), signal.SIGSTOP)
    terminal.wait_for(r"Stopped")
    terminal.run("clear; printf GARBAGE")
    terminal.wait_for(r"GARBAGE")
    terminal.run("fg")
    terminal.wait_for(r"^Process=")
    assert "GARBAGE" not in terminal.screen() and "PROMPT" not in terminal.screen()
    terminal.keys("q")
    terminal.wait_for(r"PROMPT>$")
    assert terminal.value("alternate_on") == "0"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_evtop_with_the_terminal_restored(shown, number):
    terminal = shown()
    os.kill(pid_of_evtop(terminal), number)
    terminal.assert_restored(128 + number)


@pytest.mark.parametrize("place", ["look", "draw"])
def test_a_panic_leaves_a_usable_terminal_and_says_that_it_is_a_bug(evtop, target, open_terminal, place):
    terminal = open_terminal(EVTOP_TEST_PANIC=place)
    terminal.run(f'{evtop} {target.pid}; echo "code=$?;"')
    terminal.wait_for(r"this is a bug in evtop")
    terminal.assert_restored(101)


@pytest.mark.parametrize("is_hangup_ignored", [False, True])
def test_a_closed_terminal_ends_evtop(shown, target, is_hangup_ignored):
    terminal = shown()
    pid = pid_of_evtop(terminal)
    if is_hangup_ignored:
        # Without its shell nobody sends SIGHUP: the terminal itself has to tell.
        target.kill()
        terminal.wait_for("ENDED")
        os.kill(int(terminal.value("pane_pid")), signal.SIGKILL)
    terminal.close()
    deadline = time.monotonic() + DEADLINE_S
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}")


def test_the_end_of_the_program_is_said_and_its_last_data_stay(shown, target):
    terminal = shown()
    terminal.keys("3")
    terminal.wait_for(r"customer")
    target.kill()
    target.wait()
    seen = terminal.wait_for(rf"process {target.pid} has ended; this is the last that was seen")
    assert "ENDED" in seen and "customer" in seen
    terminal.keys("q")
    terminal.wait_for(rf"evtop: process {target.pid} has ended")
    terminal.assert_restored(3)


def test_a_terminal_that_answers_no_question_is_no_obstacle(evtop, target):
    shown = Screens([evtop, str(target.pid)])
    try:
        shown.read_until(rb"Process=", DEADLINE_S)
        os.write(shown.master, b"\x0c3")
        shown.read_until(rb"customer", DEADLINE_S)
    finally:
        shown.close()


def test_the_screen_follows_the_size_of_the_terminal(shown):
    terminal = shown()
    terminal.resize(50, 10)
    terminal.wait_for(r"evtop needs 60 x 15 characters")
    terminal.resize(60, 15)
    terminal.wait_for(r"^1Over 2Block")
    terminal.resize(200, 60)
    terminal.wait_for(r"^Watcher=")
    terminal.keys("q")
    terminal.assert_restored(0)


def colours(painted: str) -> set[str]:
    """Which palettes a screen was painted from."""
    kinds = set()
    for sequence in re.findall(r"\x1b\[([\d;]*)m", painted):
        if "8;2;" in sequence:
            kinds.add("true")
        elif index := re.search(r"8;5;(\d+)", sequence):
            kinds.add("16" if int(index[1]) < 16 else "256")
        elif re.search(r"\b[349][0-7]\b", sequence):
            kinds.add("16")
    return kinds


@pytest.mark.parametrize(
    ("environment", "palettes"),
    [
        ({"NO_COLOR": "1", "COLORTERM": "truecolor"}, set()),
        ({"TERM": "screen"}, {"16"}),
        ({"TERM": "tmux-256color"}, {"256"}),
        ({"COLORTERM": "truecolor"}, {"true"}),
    ],
)
def test_colours_follow_the_environment(shown, environment, palettes):
    terminal = shown(**environment)
    terminal.keys("3")
    terminal.wait_for(r"customer")
    assert colours(terminal.screen("-e")) == palettes


def test_without_a_process_a_list_is_shown_to_pick_from(evtop, target, open_terminal):
    terminal = open_terminal()
    terminal.run(f'{evtop}; echo "code=$?;"')
    terminal.wait_for(r"evtop: which process\?")
    terminal.keys("/")
    terminal.keys("-l", "targets/shop.py")
    terminal.keys("Enter")
    terminal.wait_for(rf"^ +{target.pid} .*greenlet")
    # Another run of these tests may have its own shop: go to ours.
    while not re.search(rf"^ evtop {target.pid}", terminal.screen(), re.M):
        terminal.keys("/")
        terminal.keys("-l", f" {target.pid}")
        terminal.keys("Enter", "Enter")
        terminal.wait_for(r"^ evtop \d+")
    terminal.wait_for(r"^Process=")
    terminal.keys("q")
    terminal.assert_restored(0)


def test_a_refused_process_is_a_sentence_and_no_screen(evtop, open_terminal):
    terminal = open_terminal()
    shell = int(terminal.value("pane_pid"))
    for pid, sentence, code in [
        (shell, "is not a CPython process", 5),
        (999_999_999, "no process has the id", 3),
    ]:
        terminal.run(f'clear; {evtop} {pid}; echo "code=$?;"')
        terminal.wait_for(sentence)
        terminal.wait_for(f"^code={code};")
        assert terminal.is_as_before()


def test_without_a_terminal_the_other_commands_are_named(evtop, target):
    ended = subprocess.run([evtop, str(target.pid)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert ended.returncode == 2
    assert "the screens need a terminal: use evtop --once PID" in ended.stderr
