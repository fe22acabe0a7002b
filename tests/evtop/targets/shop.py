"""A program with something on every screen of evtop: both worlds, waits of each kind, and lines that block the hub."""

# ruff: noqa: E402

import os

os.environ.setdefault("EVENTLET_HUB", "asyncio")

import eventlet

eventlet.monkey_patch()

import asyncio
import socket
import sys

import eventlet.asyncio
from eventlet import event, patcher, semaphore, tpool

real_sleep = patcher.original("time").sleep
stock = semaphore.Semaphore(1)


def serve(listener):
    while True:
        connection, _ = listener.accept()
        eventlet.spawn(answer, connection)


def answer(connection):
    while request := connection.recv(4096):
        connection.sendall(request)


def customer(port, pause_s):
    connection = socket.create_connection(("127.0.0.1", port))
    while True:
        connection.sendall(b"order")
        connection.recv(4096)
        eventlet.sleep(pause_s)


def count_stock():
    with stock:
        eventlet.sleep(3600)


def ask_legacy_system():
    real_sleep(0.12)


def poll_legacy_system():
    while True:
        eventlet.sleep(0.8)
        ask_legacy_system()


def price(depth):
    return depth if depth < 2 else price(depth - 1) + price(depth - 2)


def reprice():
    while True:
        eventlet.sleep(2)
        price(27)


async def fetch(number):
    await asyncio.sleep(1000 + number)


async def nightly():
    await asyncio.gather(*(asyncio.create_task(fetch(number), name=f"fetch-{number}") for number in range(3)))


def main():
    listener = eventlet.listen(("127.0.0.1", 0))
    eventlet.spawn(serve, listener)
    for number in range(4):
        eventlet.spawn(customer, listener.getsockname()[1], 0.3 + number / 20)
    for _ in range(7):
        eventlet.spawn(count_stock)
    eventlet.spawn(poll_legacy_system)
    eventlet.spawn(reprice)
    never = eventlet.spawn(event.Event().wait)
    eventlet.spawn(never.wait)
    eventlet.asyncio.spawn_for_awaitable(nightly())
    print("ready", flush=True)
    # The test that started it holds the other end; it must not outlive the test.
    tpool.execute(sys.stdin.buffer.read)
    os._exit(0)


if __name__ == "__main__":
    main()
