"""Tasks that wait for others through asyncio's own functions; the coroutine's name says which. `waits_children.py [COUNT]`."""

import asyncio
import json
import os
import sys

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 3


async def sleeps():
    await asyncio.sleep(1000)


def sleepers(count=2):
    return [asyncio.ensure_future(sleeps()) for _ in range(count)]


async def waits_in_task_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(sleeps())
        group.create_task(sleeps())


async def waits_in_wait():
    await asyncio.wait(sleepers(), return_when=asyncio.FIRST_COMPLETED)


async def waits_in_wait_for():
    await asyncio.wait_for(sleepers(1)[0], 500)


async def waits_in_shield():
    await asyncio.shield(sleeps())


async def waits_in_shielded_gather():
    await asyncio.shield(asyncio.gather(sleeps(), sleeps()))


async def waits_in_gather():
    await asyncio.gather(*sleepers(COUNT))


async def main():
    programs = [waits_in_wait, waits_in_wait_for, waits_in_shield, waits_in_shielded_gather, waits_in_gather]
    if sys.version_info >= (3, 11):
        programs.append(waits_in_task_group)
    tasks = [asyncio.ensure_future(program()) for program in programs]
    for _ in range(3):
        await asyncio.sleep(0)
    print(json.dumps({"ready": os.getpid()}), flush=True)
    await asyncio.gather(*tasks)


asyncio.run(main())
