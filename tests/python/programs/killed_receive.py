"""A socket whose receiver was killed when the kernel had just delivered to it."""

import eventlet
from eventlet.green import socket


def socket_with_bytes_of_a_killed_receive(data):
    """A connected pair; what was sent to the first of it no receive has returned yet."""
    left, right = socket.socketpair()
    trigger, starter = socket.socketpair()

    def kill():
        trigger.recv(1)
        reader.kill()

    def swallow():
        left.recv(100)

    killer = eventlet.spawn(kill)
    eventlet.sleep(0.01)
    reader = eventlet.spawn(swallow)
    eventlet.sleep(0)
    eventlet.sleep(0.01)
    # Both complete in one turn, the killer's first.
    starter.sendall(b"1")
    right.sendall(data)
    killer.wait()
    return left, right
