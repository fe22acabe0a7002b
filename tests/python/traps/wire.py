"""Connected sockets and the few moves that the trap tests share. Imported by test bodies, in the child."""

import eventlet
from eventlet import hubs, patcher
from eventlet.green import socket

real_select = patcher.original("select")
real_socket = patcher.original("socket")


def tcp_pair():
    """Two connected green TCP sockets on loopback."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        client = socket.socket()
        connecting = eventlet.spawn(client.connect, listener.getsockname())
        server, _ = listener.accept()
        connecting.wait()
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, server


def listening(backlog=16):
    """A green listener on loopback."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(backlog)
    return listener


def kernel_connection(address):
    """A connection made by the kernel alone: no green thread runs meanwhile."""
    sock = real_socket.socket()
    sock.connect(address)
    return sock


def let_block(turns=4):
    """Gives every other green thread the turns it needs to reach its wait."""
    for _ in range(turns):
        eventlet.sleep(0)


def readable_by_kernel(sock, timeout_ms=1000):
    """Whether the kernel itself has something to read for `sock` (data or end of file).

    Blocks the process.
    """
    poll = real_select.poll()
    poll.register(sock.fileno(), real_select.POLLIN)
    return bool(poll.poll(timeout_ms))


def operations_in_flight():
    """Kernel operations the hub still owns; 0 on hubs that have none."""
    in_flight = getattr(hubs.get_hub(), "in_flight", 0)
    return in_flight() if callable(in_flight) else in_flight
