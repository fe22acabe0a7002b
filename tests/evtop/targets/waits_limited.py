"""Waits inside a time limit; the function's name says which. `waits_limited.py eventlet|asyncio`."""

import json
import os
import sys
import warnings

warnings.simplefilter("ignore")


def green():
    import eventlet
    from eventlet import event

    def waits_in_timeout():
        with eventlet.Timeout(600):
            event.Event().wait()

    def waits_in_with_timeout():
        eventlet.with_timeout(600, event.Event().wait)

    def waits_without():
        event.Event().wait()

    for function in (waits_in_timeout, waits_in_with_timeout, waits_without):
        eventlet.spawn(function)
    eventlet.sleep(0)
    print(json.dumps({"ready": os.getpid()}), flush=True)
    eventlet.sleep(10000)


async def tasks():
    import asyncio

    async def waits_inside():
        await asyncio.Event().wait()

    async def waits_in_wait_for():
        await asyncio.wait_for(waits_inside(), 600)

    async def waits_in_timeout():
        async with asyncio.timeout(600):
            await asyncio.Event().wait()

    async def waits_without():
        await asyncio.Event().wait()

    programs = [waits_in_wait_for, waits_without]
    if sys.version_info >= (3, 11):
        programs.append(waits_in_timeout)
    kept = [asyncio.ensure_future(program()) for program in programs]
    for _ in range(3):
        await asyncio.sleep(0)
    print(json.dumps({"ready": os.getpid()}), flush=True)
    await asyncio.gather(*kept)


if sys.argv[1] == "eventlet":
    green()
else:
    import asyncio

    asyncio.run(tasks())
