"""Forks children that end at once, and blocks after each."""

import asyncio
import json
import os
import time


async def main():
    print(json.dumps({"ready": os.getpid()}), flush=True)
    await asyncio.sleep(1)
    for _ in range(3):
        if os.fork() == 0:
            os._exit(0)
        os.wait()
        await asyncio.sleep(0.05)
        time.sleep(0.06)
        await asyncio.sleep(0.05)
    print(json.dumps({"forked": True}), flush=True)
    await asyncio.sleep(3600)


asyncio.run(main())
