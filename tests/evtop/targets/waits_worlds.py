"""`waits_worlds.py HUB`: green threads and tasks that wait for each other."""

import json
import os
import sys
import warnings

import hubs

warnings.simplefilter("ignore")
HUB = sys.argv[1]
hubs.prepare(HUB)
import asyncio  # noqa: E402

import eventlet  # noqa: E402
import eventlet.hubs  # noqa: E402

eventlet.hubs.get_hub()
import eventlet.asyncio  # noqa: E402


async def sleeps():
    await asyncio.sleep(1000)


async def blocks_in_the_green_world():
    eventlet.sleep(1000)


kept = [eventlet.asyncio.spawn_for_awaitable(sleeps())]
if HUB.startswith("hub-"):
    kept.append(eventlet.asyncio.spawn_for_awaitable(blocks_in_the_green_world()))
eventlet.sleep(0.5)
print(json.dumps({"ready": os.getpid()}), flush=True)
eventlet.sleep(10000)
