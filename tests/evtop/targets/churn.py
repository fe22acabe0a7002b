"""Spawns green threads as fast as it can; each lives for one switch."""

import json
import os
import time
import warnings

warnings.simplefilter("ignore")
import eventlet  # noqa: E402


def short(n):
    local = [n] * 4
    eventlet.sleep(0)
    return local


def deep(n, depth=6):
    return deep(n, depth - 1) if depth else short(n)


print(json.dumps({"ready": os.getpid()}), flush=True)
count, started = 0, time.perf_counter()
while True:
    for n in range(500):
        eventlet.spawn_n(deep, n)
    eventlet.sleep(0)
    eventlet.sleep(0)
    count += 500
    if count % 50000 == 0:
        print(json.dumps({"spawns_per_s": 50000 / (time.perf_counter() - started)}), flush=True)
        started = time.perf_counter()
