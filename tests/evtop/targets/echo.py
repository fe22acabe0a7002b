"""`echo.py HUB CONNECTIONS [PAUSE_S]`: an echo server at full load from a child of its own; a JSON line a second with the
rate. It never blocks, unless SIGUSR1 asks it to block once.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
import warnings

import hubs

warnings.simplefilter("ignore")
HUB, CONNECTIONS, PAUSE_S = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
BLOCK_S = 0.1
listener = socket.create_server(("127.0.0.1", 0), backlog=512)
ADDRESS = listener.getsockname()


def load():
    def one():
        # The server may end first.
        with contextlib.suppress(ConnectionError), socket.create_connection(ADDRESS) as client:
            while True:
                client.sendall(b"x" * 64)
                if not client.recv(64):
                    return
                if PAUSE_S:
                    time.sleep(PAUSE_S)

    for _ in range(CONNECTIONS):
        threading.Thread(target=one, daemon=True).start()
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(0)


if os.fork() == 0:
    listener.close()
    load()

served = 0
asked_to_block = False


def ask(number, frame):
    global asked_to_block
    asked_to_block = True


signal.signal(signal.SIGUSR1, ask)


def report():
    global served, asked_to_block
    print(json.dumps({"rate": served}), flush=True)
    served = 0
    if asked_to_block:
        asked_to_block = False
        time.sleep(BLOCK_S)  # BLOCK control
        print(json.dumps({"blocked": True}), flush=True)


world = hubs.prepare(HUB)
if world == "asyncio":
    import asyncio

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            global served
            served += 1
            self.transport.write(data)

    async def main():
        await asyncio.get_running_loop().create_server(Echo, sock=listener)
        print(json.dumps({"ready": os.getpid()}), flush=True)
        while True:
            await asyncio.sleep(1)
            report()

    hubs.run(HUB, main())
elif world == "gevent":
    import gevent
    import gevent.socket

    def serve(conn):
        global served
        while data := conn.recv(64):
            served += 1
            conn.sendall(data)

    def accept():
        server = gevent.socket.socket(fileno=listener.detach())
        while True:
            gevent.spawn(serve, server.accept()[0])

    gevent.spawn(accept)
    print(json.dumps({"ready": os.getpid()}), flush=True)
    while True:
        gevent.sleep(1)
        report()
else:
    import eventlet
    from eventlet.green import socket as green

    def serve(conn):
        global served
        while data := conn.recv(64):
            served += 1
            conn.sendall(data)

    def accept():
        server = green.socket(fileno=listener.detach())
        while True:
            eventlet.spawn_n(serve, server.accept()[0])

    eventlet.spawn(accept)
    print(json.dumps({"ready": os.getpid()}), flush=True)
    while True:
        eventlet.sleep(1)
        report()
