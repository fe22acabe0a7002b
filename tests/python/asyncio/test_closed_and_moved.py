"""Sockets that are closed under an operation, loops that stop half-way or move, other threads: no byte is lost, and none goes
to another connection."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time

import pytest


class Pieces(asyncio.Protocol):
    """Keeps what it receives, piece by piece."""

    def __init__(self):
        self.pieces = []
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.pieces.append(bytes(data))

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    client.setblocking(False)
    server.setblocking(False)
    return client, server


async def outcome(task):
    """How a task ends that may also wait for ever."""
    done, _ = await asyncio.wait([task], timeout=0.1)
    if not done:
        task.cancel()
        return "waits"
    return task.exception() or task.result()


def test_receive_of_a_closed_socket_takes_nothing_from_the_next_one_with_its_number(run):
    async def main():
        loop = asyncio.get_running_loop()
        old, old_peer = socket.socketpair()
        old.setblocking(False)
        task = asyncio.create_task(loop.sock_recv(old, 100))
        await asyncio.sleep(0.01)
        number = old.fileno()
        old.close()
        new, new_peer = socket.socketpair()
        assert number in (new.fileno(), new_peer.fileno())
        receiver, sender = (new, new_peer) if new.fileno() == number else (new_peer, new)
        sender.sendall(b"private")
        old_peer.close()
        ended = await outcome(task)
        assert ended == "waits" or isinstance(ended, OSError), ended
        receiver.setblocking(False)
        assert await loop.sock_recv(receiver, 100) == b"private"

    run(main())


def test_send_of_a_closed_socket_goes_on_to_nobody_else(run):
    async def main():
        loop = asyncio.get_running_loop()
        client, server = tcp_pair()
        task = asyncio.create_task(loop.sock_sendall(server, b"A" * 10_000_000))
        await asyncio.sleep(0.02)
        number = server.fileno()
        server.close()
        new, new_peer = socket.socketpair()
        other = new_peer if new.fileno() == number else new
        client.close()
        ended = await outcome(task)
        assert ended == "waits" or isinstance(ended, OSError), ended
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)

    run(main())


@pytest.mark.parametrize("how", ["sock_recv", "add_reader"])
def test_peer_hears_at_once_of_a_close_under_a_pending_receive(how, run):
    async def main():
        loop = asyncio.get_running_loop()
        client, server = tcp_pair()
        if how == "sock_recv":
            task = asyncio.create_task(loop.sock_recv(server, 10))
        else:
            loop.add_reader(server.fileno(), print)
            task = None
        await asyncio.sleep(0.01)
        server.close()
        assert await asyncio.wait_for(loop.sock_recv(client, 10), 1) == b""
        if task is not None:
            await outcome(task)

    run(main())


def test_listener_closed_under_a_pending_accept_refuses(run):
    async def main():
        loop = asyncio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        address = listener.getsockname()
        task = asyncio.create_task(loop.sock_accept(listener))
        await asyncio.sleep(0.01)
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=1)
        await outcome(task)

    run(main())


def test_what_came_when_the_loop_stopped_is_there_on_another_thread(new_loop):
    loop = new_loop()
    pairs = [socket.socketpair() for _ in range(12)]
    protocols = []

    async def connect():
        for ours, _ in pairs:
            ours.setblocking(False)
            protocols.append((await loop.create_connection(Pieces, sock=ours))[1])

    def last_turn():
        for _, theirs in pairs:
            theirs.send(b"1")
        loop.stop()

    loop.run_until_complete(connect())
    loop.run_until_complete(asyncio.sleep(0.02))
    loop.call_later(0.01, last_turn)
    loop.run_forever()
    for _, theirs in pairs:
        theirs.send(b"2")
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.sleep(0.05)))
    thread.start()
    thread.join()
    assert {b"".join(protocol.pieces) for protocol in protocols} == {b"12"}
    for _, theirs in pairs:
        theirs.close()
    loop.run_until_complete(asyncio.sleep(0.02))
    loop.close()


def test_exception_that_ends_the_loop_in_buffer_updated_loses_no_byte(loop):
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self):
            self.room, self.pieces = bytearray(4), []

        def get_buffer(self, sizehint):
            return self.room

        def buffer_updated(self, count):
            self.pieces.append(bytes(self.room[:count]))
            if len(self.pieces) == 2:
                raise KeyboardInterrupt

    ours, theirs = socket.socketpair()
    transport, protocol = loop.run_until_complete(loop.create_connection(Buffered, sock=ours))
    theirs.send(b"aaaabbbbccccdddd")
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(0.05))
    theirs.send(b"eeee")
    loop.run_until_complete(asyncio.sleep(0.05))
    assert b"".join(protocol.pieces) == b"aaaabbbbccccddddeeee"
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))


def test_exception_that_ends_the_loop_in_data_received_leaves_a_transport_that_reads(loop):
    class Interrupted(Pieces):
        def data_received(self, data):
            super().data_received(data)
            if sum(map(len, self.pieces)) == 100_000:
                raise KeyboardInterrupt

    others = [socket.socketpair() for _ in range(6)]
    for ours, _ in others:
        ours.setblocking(False)
        loop.run_until_complete(loop.create_connection(Pieces, sock=ours))
    ours, theirs = socket.socketpair()
    transport, protocol = loop.run_until_complete(loop.create_connection(Interrupted, sock=ours))
    theirs.send(b"x" * 50_000)
    loop.run_until_complete(asyncio.sleep(0.05))
    theirs.send(b"y" * 50_000)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(0.05))
    theirs.send(b"tail")
    loop.run_until_complete(asyncio.sleep(0.05))
    assert b"".join(protocol.pieces)[-4:] == b"tail"
    transport.abort()
    for _, theirs in others:
        theirs.close()
    loop.run_until_complete(asyncio.sleep(0.02))


def test_what_came_before_a_reset_is_received_though_a_write_is_pending(run):
    async def main():
        loop = asyncio.get_running_loop()
        client, server = tcp_pair()
        transport, protocol = await loop.create_connection(Pieces, sock=client)
        transport.write(b"x" * 8_000_000)
        await asyncio.sleep(0.02)
        server.send(b"413")
        server.close()
        time.sleep(0.01)
        assert isinstance(await protocol.lost, ConnectionError)
        assert protocol.pieces == [b"413"]

    run(main())


def test_transport_that_another_thread_closes_and_writes_to_does_both(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        transport, _ = await loop.create_connection(Pieces, sock=ours)
        await loop.run_in_executor(None, repr, transport)
        await loop.run_in_executor(None, transport.close)
        assert await loop.sock_recv(theirs, 10) == b""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        transport, _ = await loop.create_connection(Pieces, sock=ours)
        await loop.run_in_executor(None, transport.write, b"z" * 1_000_000)
        got = 0
        while got < 1_000_000:
            got += len(await loop.sock_recv(theirs, 1 << 20))
        transport.abort()

    run(main())


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_connection_that_is_collected_on_another_thread_is_closed(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.itself = writer
        gc.disable()
        try:
            del reader, writer
            await loop.run_in_executor(None, gc.collect)
        finally:
            gc.enable()
        assert await asyncio.wait_for(loop.sock_recv(theirs, 10), 2) == b""

    run(main())


def test_reader_of_a_number_whose_socket_was_closed_is_not_called_for_the_next_one(loop):
    calls, sockets = [], []

    async def close_and_reuse():
        old, old_peer = socket.socketpair()
        number = old.fileno()
        loop.add_reader(number, calls.append, "old")
        await asyncio.sleep(0.01)
        old.close()
        pair = socket.socketpair()
        assert number in (pair[0].fileno(), pair[1].fileno())
        sockets.extend([old_peer, *pair])
        (pair[1] if pair[0].fileno() == number else pair[0]).send(b"x")

    loop.run_until_complete(close_and_reuse())
    # A loop that starts again looks at everything anew.
    loop.run_until_complete(asyncio.sleep(0.05))
    assert calls == []


def test_socket_that_is_detached_is_still_watched_under_its_number(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        called = loop.create_future()
        number = ours.fileno()
        loop.add_reader(number, lambda: called.done() or called.set_result(True))
        await asyncio.sleep(0.01)
        assert ours.detach() == number
        theirs.send(b"x")
        assert await asyncio.wait_for(called, 2)
        loop.remove_reader(number)
        socket.close(number)

    run(main())


def test_empty_receives_are_done_at_once(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, _theirs = tcp_pair()
        assert await loop.sock_recv(ours, 0) == b""
        assert await loop.sock_recv_into(ours, bytearray()) == 0
        with pytest.raises(TypeError):
            await loop.sock_recv_into(ours, b"read-only")

    run(main())
