"""Tasks that wait for one thing each; the coroutine's name says for what. `waits_asyncio.py [LOOP]`."""

import asyncio
import json
import os
import socket
import sys
import time

import hubs


async def waits_for_stream():
    kept = []
    server = await asyncio.start_server(lambda reader, writer: kept.append(writer), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    kept.append((server, writer))
    await inner_read(reader)


async def inner_read(reader):
    await reader.read(10)


async def waits_for_line():
    kept = []
    server = await asyncio.start_server(lambda reader, writer: kept.append(writer), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    kept.append((server, writer))
    await reader.readline()


async def waits_for_socket():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    await asyncio.get_running_loop().sock_recv(ours, 10)
    theirs.close()


async def waits_to_sleep():
    await asyncio.sleep(1000)


async def waits_for_lock():
    lock = asyncio.Lock()
    await lock.acquire()
    async with lock:
        pass


async def holds_lock_in_with(lock):
    async with lock:
        await asyncio.sleep(1000)


async def waits_for_held_lock(lock):
    async with lock:
        pass


async def waits_for_gather():
    await asyncio.gather(waits_to_sleep(), waits_to_sleep())


async def waits_for_queue():
    await asyncio.Queue().get()


async def waits_for_event():
    await asyncio.Event().wait()


async def waits_for_thread():
    await asyncio.to_thread(time.sleep, 1000)


async def waits_for_task(other):
    await other


async def numbers():
    await asyncio.sleep(999)
    yield 1


async def waits_in_generator():
    async for _ in numbers():
        pass


async def main():
    sleeper = asyncio.create_task(waits_to_sleep(), name="the sleeper")
    lock = asyncio.Lock()
    tasks = [
        sleeper,
        asyncio.create_task(holds_lock_in_with(lock)),
        asyncio.create_task(waits_for_held_lock(lock)),
        asyncio.create_task(waits_for_task(sleeper)),
        *map(
            asyncio.create_task,
            [
                waits_for_stream(),
                waits_for_line(),
                waits_for_socket(),
                waits_for_lock(),
                waits_for_gather(),
                waits_for_queue(),
                waits_for_event(),
                waits_for_thread(),
                waits_in_generator(),
            ],
        ),
    ]
    await asyncio.sleep(0)
    print(json.dumps({"ready": os.getpid()}), flush=True)
    await asyncio.gather(*tasks)


LOOP = sys.argv[1] if len(sys.argv) > 1 else "asyncio"
hubs.prepare(LOOP)
hubs.run(LOOP, main())
