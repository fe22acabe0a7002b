"""`waits_eventlet.py [COUNT] [HUB]`: green threads that wait for one thing each; the function's name says for what."""

import json
import os
import sys
import warnings

import hubs

warnings.simplefilter("ignore")
COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 1
hubs.prepare(sys.argv[2] if len(sys.argv) > 2 else "eventlet-epolls")
import eventlet  # noqa: E402

eventlet.monkey_patch()
import queue  # noqa: E402
import socket  # noqa: E402
import threading  # noqa: E402

from eventlet import event, semaphore  # noqa: E402

server = socket.create_server(("127.0.0.1", 0), backlog=4096)


def waits_to_accept():
    kept = []
    while True:
        kept.append(server.accept())


def waits_to_recv():
    socket.create_connection(server.getsockname()).recv(10)


def waits_to_sleep():
    eventlet.sleep(1000)


def waits_for_event():
    event.Event().wait()


def waits_for_semaphore():
    semaphore.Semaphore(0).acquire()


def fills_the_pool():
    eventlet.sleep(1000)


def waits_for_room_in_a_pool():
    pool = eventlet.GreenPool(1)
    pool.spawn(fills_the_pool)
    pool.spawn(fills_the_pool)


def waits_for_lock():
    lock = threading.Lock()
    lock.acquire()
    with lock:
        pass


rlock = threading.RLock()


def holds_rlock():
    with rlock:
        eventlet.sleep(1000)


def waits_for_rlock():
    with rlock:
        pass


held_lock = threading.Lock()


def holds_lock_in_with():
    for _ in range(1):
        with held_lock:
            try:
                eventlet.sleep(1000)
            finally:
                pass


def held_lock_once():
    # Its frame keeps the lock's exit method on the part of its value stack that is no longer in use.
    with held_lock:
        pass
    eventlet.sleep(1000)


def waits_for_held_lock():
    with held_lock:
        pass


def waits_for_queue():
    queue.Queue().get()


def waits_for_threading_event():
    threading.Event().wait()


def waits_for_green_thread(other):
    other.wait()


eventlet.spawn(waits_to_accept)
for _ in range(COUNT):
    eventlet.spawn(waits_to_recv)
    sleeper = eventlet.spawn(waits_to_sleep)
for function in (
    waits_for_event,
    waits_for_semaphore,
    waits_for_room_in_a_pool,
    waits_for_lock,
    holds_rlock,
    waits_for_rlock,
    held_lock_once,
    holds_lock_in_with,
    waits_for_held_lock,
    waits_for_queue,
    waits_for_threading_event,
):
    eventlet.spawn(function)
eventlet.spawn(waits_for_green_thread, sleeper)
eventlet.sleep(0)
print(json.dumps({"ready": os.getpid()}), flush=True)
eventlet.sleep(10000)
