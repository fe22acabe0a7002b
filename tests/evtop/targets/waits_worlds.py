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


def holds_lock_in_with(lock):
    with lock:
        eventlet.sleep(1000)


async def task_waits_for_lock(lock):
    async with lock:
        pass


def green_waits_for_lock(lock):
    with lock:
        pass


if HUB.startswith("hub-"):
    from uringhub import sync

    both = sync.Lock()
    eventlet.spawn(holds_lock_in_with, both)
    eventlet.sleep(0)
    eventlet.spawn(green_waits_for_lock, both)
    eventlet.spawn(sync.Queue().get)
    kept.append(eventlet.asyncio.spawn_for_awaitable(task_waits_for_lock(both)))
    kept.append(eventlet.asyncio.spawn_for_awaitable(blocks_in_the_green_world()))
eventlet.sleep(0)
print(json.dumps({"ready": os.getpid()}), flush=True)
eventlet.sleep(10000)
