"""A process with nothing to do sleeps: no wake-ups and no CPU time."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import isolated

WINDOW_S = 3.0

# Every kind of wait at once: accept, idle connections, a semaphore, a native thread's wake-up, a far timer.
IDLE = """
import eventlet
from eventlet import event, hubs, tpool

listener = eventlet.listen(("127.0.0.1", 0))

def serve():
    while True:
        connection, _ = listener.accept()
        eventlet.spawn(connection.recv, 1)

eventlet.spawn(serve)
clients = [eventlet.connect(listener.getsockname()) for _ in range(20)]
tpool.execute(int)
eventlet.spawn_after(3600, print)
eventlet.sleep(0.1)
"""
# A timeout around every request is the common timer of a server, and nearly all are cancelled.
CANCEL_TIMERS = """
for delay_ms in range(500, 1000):
    with eventlet.Timeout(delay_ms / 1000):
        pass
"""
GO_IDLE = """
print("idle", flush=True)
event.Event().wait()
"""


def wake_ups(pid: int) -> int:
    """How often the main thread has gone to sleep, each time after having been woken."""
    status = Path(f"/proc/{pid}/task/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))
    return int(line.split()[1])


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def assert_never_woken(hub: isolated.HubChoice, program: str, path: Path) -> None:
    path.write_text(program)
    child = subprocess.Popen(
        [sys.executable, str(path)], env=isolated.environment(hub), stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "idle\n"
        # The print came before the last wait, so the process may still be on its way into it.
        while "S" != Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]:
            assert child.poll() is None
        before, ticks = wake_ups(child.pid), cpu_ticks(child.pid)
        time.sleep(WINDOW_S)
        assert (wake_ups(child.pid) - before, cpu_ticks(child.pid) - ticks) == (0, 0)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()


def test_idle_process_is_never_woken(hub, tmp_path):
    assert_never_woken(hub, IDLE + GO_IDLE, tmp_path / "idle.py")


def test_cancelled_timers_wake_nobody(our_hub, tmp_path):
    """Eventlet's own hubs do wake for the first of them: it stays in their heap until it is due."""
    assert_never_woken(our_hub, IDLE + CANCEL_TIMERS + GO_IDLE, tmp_path / "idle.py")
