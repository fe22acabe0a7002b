"""A program that ends while tasks still wait ends as on the stock loop: their `finally` blocks run at the interpreter's end."""

from __future__ import annotations

import sys

import isolated
import pytest

PROGRAM = """
import asyncio, socket, sys
import uringhub

name, kind = sys.argv[1:]
loop = asyncio.SelectorEventLoop() if name == "stock" else uringhub.new_event_loop()
ours, theirs = socket.socketpair()
ours.setblocking(False)

async def read():
    reader, _ = await asyncio.open_connection(sock=ours)
    await reader.read(10)

async def timeout():
    async with asyncio.timeout(100):
        await asyncio.Event().wait()

async def cleanup():
    try:
        await asyncio.Event().wait()
    finally:
        loop.call_later(100, print)

waits = {
    "sleep": lambda: asyncio.sleep(100),
    "recv": lambda: loop.sock_recv(ours, 1),
    "read": read,
    "wait_for": lambda: asyncio.wait_for(asyncio.Event().wait(), 100),
    "timeout": timeout,
    "cleanup": cleanup,
}

async def wait():
    await waits[kind]()

task = loop.create_task(wait())
loop.run_until_complete(asyncio.sleep(0.01))
print("done")
"""
KINDS = ["sleep", "recv", "read", "wait_for", "cleanup"] + (
    ["timeout"] if sys.version_info >= (3, 11) else []
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["stock", "uring", "epoll"])
def test_program_that_leaves_a_task_waiting_ends_well(name, kind):
    env = {} if name == "stock" else {"URINGHUB_DRIVER": name}
    assert isolated.run(PROGRAM, name, kind, env=env).stdout == "done\n"
