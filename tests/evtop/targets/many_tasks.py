"""`many_tasks.py COUNT [ticking]`: that many asyncio tasks, half of them asleep and half waiting for an event in a coroutine of
a coroutine; with `ticking`, one more wakes a hundred times a second."""

import asyncio
import json
import os
import sys

COUNT = int(sys.argv[1])


async def wait_for(event):
    await event.wait()


async def work(number, event):
    if number % 2:
        await asyncio.sleep(10000)
    else:
        await wait_for(event)


async def main():
    event = asyncio.Event()
    tasks = [asyncio.create_task(work(number, event), name=f"work {number}") for number in range(COUNT)]
    await asyncio.sleep(0)
    print(json.dumps({"ready": os.getpid()}), flush=True)
    while "ticking" in sys.argv:
        await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)


asyncio.run(main())
