"""Becomes another program at SIGUSR1."""

import asyncio
import json
import os
import signal


async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, os.execvp, "sleep", ["sleep", "60"])
    print(json.dumps({"ready": os.getpid()}), flush=True)
    await asyncio.sleep(3600)


asyncio.run(main())
