"""At SIGUSR1 forks children that end at once, and blocks after each."""

import asyncio
import json
import os
import signal
import time


async def main():
    go = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, go.set)
    print(json.dumps({"ready": os.getpid()}), flush=True)
    await go.wait()
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
