"""`many.py COUNT MIB [ticking]`: that many green threads, asleep four frames deep, beside as much other memory; with
`ticking`, the main one wakes a hundred times a second, so that something has run between any two looks."""

import json
import os
import sys
import warnings

warnings.simplefilter("ignore")
import eventlet  # noqa: E402

COUNT, MIB = int(sys.argv[1]), int(sys.argv[2])
ballast = [[str(n)] * 8 for n in range(MIB * 5000)]


def level(depth):
    if depth:
        level(depth - 1)
    else:
        eventlet.sleep(10000)


for _ in range(COUNT):
    eventlet.spawn(level, 1)
# All of them are before this one in the hub's queue.
eventlet.sleep(0)
print(json.dumps({"ready": os.getpid()}), flush=True)
while "ticking" in sys.argv:
    eventlet.sleep(0.01)
eventlet.sleep(10000)
