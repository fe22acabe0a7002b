"""Child processes: how they ended is told, whoever has looked first."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal

import pytest


@pytest.mark.parametrize("end", ["kill", "terminate", "send_signal"])
def test_a_signal_to_a_child_that_has_just_ended_does_not_lose_its_exit_status(our_loop, end, caplog):
    # 1. The child ends. 2. Before the loop hears of it, the program sends a signal; on Pythons whose Popen looks
    # for the child's end first, that takes the status. 3. The loop hears of the end and finds no status to take.
    async def main():
        command = ["/bin/sh", "-c", "read line; exit 3"]
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
        process.stdin.write(b"\n")
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        getattr(process, end)(*[signal.SIGUSR1] * (end == "send_signal"))
        assert await process.wait() == 3

    loop = our_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), 10))
    finally:
        loop.close()
    assert not caplog.records


def test_a_loop_closed_while_a_child_runs_keeps_no_pidfd(our_loop):
    loop = our_loop()
    process = loop.run_until_complete(asyncio.create_subprocess_exec("/bin/sleep", "60"))
    assert pidfds() == 1
    loop.close()
    assert pidfds() == 0
    process._transport._proc.kill()
    process._transport._proc.wait()


def pidfds() -> int:
    links = [entry.readlink().name for entry in pathlib.Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum("pidfd" in link for link in links)
