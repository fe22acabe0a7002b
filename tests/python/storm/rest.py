"""What a process still has when a storm is over."""

import os

import eventlet
from eventlet import hubs


def open_fds():
    """How many fds this process has."""
    return len(os.listdir("/proc/self/fd"))


def operations_in_flight(hub):
    """Kernel operations the hub still owns; 0 on hubs that have none."""
    in_flight = getattr(hub, "in_flight", 0)
    return in_flight() if callable(in_flight) else in_flight


def check_rest(before):
    """After the storm.

    No fd more than before, nothing in flight. Leftovers get a bounded number of turns to end.
    """
    hub = hubs.get_hub()
    for _ in range(200):
        left = open_fds() - before, operations_in_flight(hub)
        if left[0] <= 0 and left[1] == 0:
            return []
        eventlet.sleep(0.005)
    return [f"{left[0]} fds leaked, {left[1]} operations in flight at rest"]
