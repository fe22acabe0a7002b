"""`chains.py COUNT`: green threads that each start a successor and end, as fast as they can: there are always COUNT of them,
or one more between a start and an end. Twice a second a line with the rate and the longest time without any.
"""

import json
import os
import sys
import time
import warnings

warnings.simplefilter("ignore")
import eventlet  # noqa: E402

COUNT = int(sys.argv[1])
started = 0
longest_gap_s, last = 0.0, time.perf_counter()


def link():
    global started, longest_gap_s, last
    eventlet.sleep(0)
    started += 1
    now = time.perf_counter()
    longest_gap_s, last = max(longest_gap_s, now - last), now
    eventlet.spawn_n(link)


for _ in range(COUNT):
    eventlet.spawn_n(link)
eventlet.sleep(0)
print(json.dumps({"ready": os.getpid()}), flush=True)
while True:
    before, since, longest_gap_s = started, time.perf_counter(), 0.0
    eventlet.sleep(0.5)
    rate = (started - before) / (time.perf_counter() - since)
    print(json.dumps({"spawns_per_s": rate, "longest_gap_ms": longest_gap_s * 1000}), flush=True)
