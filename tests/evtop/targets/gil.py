"""A loop whose thread is kept from running by another thread that holds the GIL inside one long C call."""

import asyncio
import json
import os
import re
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
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for _ in range(60):
        await asyncio.sleep(0.01)
    for _ in range(3):
        thread = threading.Thread(target=hold)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.005)
    print(json.dumps({"held": True}), flush=True)
    await asyncio.sleep(3600)


sys.setswitchinterval(0.005)
asyncio.run(main())
