"""Whatever cannot be observed is refused by one sentence and a documented exit code."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import DEADLINE_S, EVTOP, evtop


def only_sentence(done):
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("evtop: "), done.stderr
    return lines[0]


@pytest.fixture
def sleeper():
    child = subprocess.Popen(["sleep", "60"])
    yield child.pid
    child.kill()
    child.wait()


def test_a_dead_pid_is_named():
    child = subprocess.Popen(["true"])
    child.wait()
    done = evtop("dump", child.pid)
    assert done.returncode == 3
    assert f"no process has the id {child.pid}" in only_sentence(done)


def test_a_program_that_is_no_python_is_named(sleeper):
    done = evtop("--once", sleeper)
    assert done.returncode == 5
    assert "(sleep) is not a CPython process" in only_sentence(done)


def test_a_kernel_thread_is_no_python():
    if pathlib.Path("/proc/2/comm").exists():
        assert evtop("dump", 2).returncode in (3, 5)


def test_a_refusal_names_the_capability_and_the_container_flag(start, python):
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root, to become somebody else")
    pid = start(python, "waits_asyncio.py").read("ready")
    copy = pathlib.Path("/tmp") / f"evtop-{os.getpid()}"
    shutil.copy(EVTOP, copy)
    try:
        command = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            str(copy),
        ]
        done = subprocess.run(
            [*command, "dump", str(pid)], capture_output=True, text=True, timeout=DEADLINE_S
        )
    finally:
        copy.unlink()
    assert done.returncode == 4, done.stderr
    sentence = only_sentence(done)
    assert "CAP_SYS_PTRACE" in sentence and "--cap-add=SYS_PTRACE" in sentence


def test_an_unsupported_version_is_named():
    old = sorted(pathlib.Path.home().glob(".pyenv/versions/[23].[6789].*/bin/python"))
    if not old:
        pytest.skip("no older Python here")
    for python in old:
        program = "import sys; print('%d.%d.%d' % sys.version_info[:3]); sys.stdout.flush(); sys.stdin.read()"
        child = subprocess.Popen(
            [python, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        version = child.stdout.readline().strip()
        done = evtop("dump", child.pid)
        child.kill()
        child.communicate()
        assert done.returncode == 7, done.stderr
        sentence = only_sentence(done)
        assert f"runs CPython {version};" in sentence and "understands 3.10, 3.11, 3.12 and 3.13" in sentence


def elf_program(path, bits, machine, code):
    """A static program of one segment, enough for the kernel."""
    is_32 = bits == 32
    head, entry_size = (52, 32) if is_32 else (64, 56)
    base = 0x08048000
    total = head + entry_size + len(code)
    word = 4 if is_32 else 8

    def number(value, size):
        return value.to_bytes(size, "little")

    ident = b"\x7fELF" + bytes([1 if is_32 else 2, 1, 1]) + bytes(9)
    header = ident + number(2, 2) + number(machine, 2) + number(1, 4) + number(base + head + entry_size, word)
    header += number(head, word) + number(0, word) + number(0, 4) + number(head, 2) + number(entry_size, 2)
    header += number(1, 2) + number(40 if is_32 else 64, 2) + number(0, 2) + number(0, 2)
    if is_32:
        fields = [1, 0, base, base, total, total, 5, 0x1000]
        segment = b"".join(number(field, 4) for field in fields)
    else:
        segment = (
            number(1, 4)
            + number(5, 4)
            + b"".join(number(f, 8) for f in [0, base, base, total, total, 0x1000])
        )
    path.write_bytes(header + segment + code)
    path.chmod(0o755)


def test_a_32_bit_process_is_named(tmp_path):
    program = tmp_path / "small"
    # mov eax, 29 (pause); int 0x80; jmp back
    elf_program(program, 32, 3, b"\xb8\x1d\x00\x00\x00\xcd\x80\xeb\xf7")
    try:
        child = subprocess.Popen([program])
    except OSError:
        pytest.skip("this kernel runs no 32-bit programs")
    if child.poll() is not None:
        pytest.skip("this kernel runs no 32-bit programs")
    done = evtop("dump", child.pid)
    child.kill()
    child.wait()
    assert done.returncode == 6, done.stderr
    assert "32-bit" in only_sentence(done)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("notanumber",), "evtop 4242"),
        (("--once",), "evtop watch 4242"),
        (("watch",), "evtop watch 4242"),
        (("dump", "-5"), "evtop 4242"),
        (("watch", "1", "--for", "soon"), "write 20ms or 10s"),
        (("watch", "1", "--threshold", "20"), "write 20ms or 20s"),
        (("watch", "1", "--all"), "evtop --help"),
    ],
)
def test_wrong_arguments_are_told_what_to_write_instead(arguments, remedy):
    done = evtop(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert remedy in done.stderr


def test_a_zombie_has_ended():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    done = evtop("dump", child.pid)
    child.wait()
    assert done.returncode == 3
    assert "has ended" in only_sentence(done) and "zombie" in done.stderr


def test_a_stopped_process_is_said_to_be_stopped(start, python):
    target = start(python, "waits_asyncio.py")
    pid = target.read("ready")
    assert "is stopped" not in evtop("--once", pid).stdout
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    sentence = f"process {pid} is stopped (SIGSTOP or Ctrl-Z), and nothing in it runs: kill -CONT {pid}"
    assert f"Note: {sentence}\n" in evtop("--once", pid).stdout
    assert json.loads(evtop("dump", pid, "--json").stdout)["process"]["is_stopped"] is True
    assert sentence in evtop("watch", pid, "--for", "1s").stderr


def test_without_a_hub_there_is_no_verdict():
    program = "print(1, flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child.stdout.readline()
    done = evtop("watch", child.pid, "--fail", "--for", "1s")
    child.communicate()
    assert done.returncode == 9
    assert "no hub or event loop that evtop recognises" in done.stderr


def test_a_reader_that_leaves_does_not_change_the_verdict(python):
    script = '{ "$EVTOP" watch $0 --for 30s --fail; echo $? >&2; } | head -1'
    blocks = "import eventlet, time\nprint(1, flush=True)\nwhile True: time.sleep(0.1); eventlet.sleep(0.01)"
    child = subprocess.Popen([python, "-W", "ignore", "-c", blocks], stdout=subprocess.PIPE)
    child.stdout.readline()
    done = subprocess.run(
        ["bash", "-c", script, str(child.pid)],
        env={**os.environ, "EVTOP": EVTOP},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    child.kill()
    child.communicate()
    assert done.stderr.splitlines()[-1] == "8", done.stderr


def test_a_watched_process_that_ends_is_said_to_have_ended(start, watch, python):
    target = start(python, "waits_asyncio.py")
    watcher = watch(target.read("ready"))
    target.child.kill()
    target.child.wait()
    _, errors = watcher.child.communicate(timeout=DEADLINE_S)
    assert f"process {target.pid} has ended" in errors
    assert watcher.child.returncode == 3


def test_a_watched_process_that_execs_is_said_to_have_been_replaced(start, watch, python):
    target = start(python, "replaced.py")
    watcher = watch(target.read("ready"))
    os.kill(target.pid, signal.SIGUSR1)
    _, errors = watcher.child.communicate(timeout=DEADLINE_S)
    assert f"process {target.pid} has started another program" in errors
    assert watcher.child.returncode == 3


def test_a_watched_process_that_forks_is_still_watched(start, watch, python):
    target = start(python, "forks.py")
    watcher = watch(target.read("ready"))
    os.kill(target.pid, signal.SIGUSR1)
    target.read("forked")
    stalls = watcher.stop()
    # Waiting for the child may block too, on a loaded machine.
    assert [stall["class"] for stall in stalls].count("sleep") == 3, stalls
    assert watcher.child.returncode == 0


def test_a_closed_pipe_is_no_failure(start, python):
    pid = start(python, "waits_eventlet.py", 200).read("ready")
    done = subprocess.run(f"{EVTOP} dump {pid} | head -1", shell=True, capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.startswith("Process ")


def test_the_target_is_left_untouched(start, watch, python):
    target = start(python, "waits_eventlet.py")
    pid = target.read("ready")

    def traces():
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            lines = status.read().splitlines()
        return [line for line in lines if line.startswith(("TracerPid", "SigPnd", "VmSwap", "Threads"))]

    before = traces()
    watcher = watch(pid)
    for _ in range(3):
        evtop("dump", pid)
    assert traces() == before
    watcher.stop()
    assert traces() == before and target.child.poll() is None


def test_without_a_pid_the_candidates_are_listed(start, python):
    pid = start(python, "waits_eventlet.py").read("ready")
    done = evtop("list")
    line = next(line for line in done.stdout.splitlines() if line.split()[:1] == [str(pid)])
    assert "greenlet" in line


def test_help_has_examples_and_exit_codes():
    done = evtop("--help")
    assert "Examples:" in done.stdout and "Exit codes:" in done.stdout
    assert evtop("--version").stdout.startswith("evtop ")
    assert sys.version_info
