"""A loop whose thread, from SIGUSR1 on, is kept from running by another one that holds the GIL inside one long C call."""

import asyncio
import json
import os
import re
import signal
import sys
import threading
import time


def hold():
    # The regular expression engine does not release the GIL.
    pattern, text = re.compile("(a+)+b"), "a" * 18
    while True:
        started = time.perf_counter()
        pattern.match(text)
        took = time.perf_counter() - started
        if took > 0.1:
            return
        text += "a"


async def main():
    go = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, go.set)
    print(json.dumps({"ready": os.getpid()}), flush=True)
    await go.wait()
    for _ in range(3):
        thread = threading.Thread(target=hold)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.005)
    print(json.dumps({"held": True}), flush=True)
    await asyncio.sleep(3600)


sys.setswitchinterval(0.005)
asyncio.run(main())
