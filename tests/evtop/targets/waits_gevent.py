"""Greenlets of gevent that wait for one thing each."""

import json
import os

import gevent.monkey

gevent.monkey.patch_all()
import socket  # noqa: E402

import gevent  # noqa: E402

server = socket.create_server(("127.0.0.1", 0))


def waits_to_recv():
    socket.create_connection(server.getsockname()).recv(10)


def waits_to_sleep():
    gevent.sleep(1000)


gevent.spawn(waits_to_recv)
gevent.spawn(waits_to_sleep)
gevent.sleep(0)
print(json.dumps({"ready": os.getpid()}), flush=True)
gevent.sleep(10000)
