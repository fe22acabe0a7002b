"""Both worlds go on in a forked child, whether or not the loop ran before.

The old limitation: on eventlet's asyncio hub forking before the loop has run fails.
"""

from __future__ import annotations

import pytest

BEFORE_THE_LOOP_RAN = """
hubs.get_hub()
pid = os.fork()
signal.alarm(10)
async def main():
    await asyncio.sleep(0.01)
    assert asyncio.get_running_loop() is hubs.get_hub().loop
    return await eventlet.spawn(lambda: 7)
if pid == 0:
    os._exit(run(main()) != 7)
assert run(main()) == 7
assert os.waitpid(pid, 0)[1] == 0
"""


def test_fork_before_the_loop_ran(lifted):
    lifted(BEFORE_THE_LOOP_RAN)


def test_stock_hub_fails_in_the_child(limited):
    limited(BEFORE_THE_LOOP_RAN)


@pytest.mark.parametrize("where", ["a green thread", "a coroutine"])
def test_fork_after_the_loop_ran(where, lifted):
    lifted(f"""
    where = {where!r}
    def fork():
        pid = os.fork()
        return pid
    async def main():
        async def nap():
            await asyncio.sleep(0.05)
            return os.getpid()
        task = asyncio.create_task(nap())
        await asyncio.sleep(0)
        pid = fork() if where == "a coroutine" else await eventlet.spawn(fork)
        assert asyncio.get_running_loop() is hubs.get_hub().loop
        assert asyncio.current_task() is not None
        assert await task == os.getpid()
        await asyncio.sleep(0.01)
        eventlet.sleep(0.01)
        return pid
    pid = run(main())
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    """)
