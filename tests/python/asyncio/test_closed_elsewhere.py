"""Sockets that are closed on another thread than the loop's, or while the loop stands still: the peer hears of it at once,
and what waits on the number means no other file."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import threading
import weakref

import pytest


def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def under(number, sock):
    """The socket, under that descriptor number, which is free."""
    if sock.fileno() == number:
        return sock
    os.dup2(sock.fileno(), number)
    sock.close()
    return socket.socket(fileno=number)


def on_another_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


def watch_reading(loop, sock):
    loop.add_reader(sock, lambda: None)


def watch_writing(loop, sock):
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        loop.add_writer(sock, lambda: None)


def receive(loop, sock):
    loop.tasks = [loop.create_task(loop.sock_recv(sock, 10))]


def receive_into(loop, sock):
    loop.tasks = [loop.create_task(loop.sock_recv_into(sock, bytearray(10)))]


async def read_to_the_end(loop, sock):
    while await loop.sock_recv(sock, 65536):
        pass


WAYS = [watch_reading, watch_writing, receive, receive_into]


@pytest.mark.parametrize("way", WAYS)
def test_socket_closed_on_another_thread_ends_for_its_peer(run, way):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        way(loop, ours)
        await asyncio.sleep(0.02)
        closer = threading.Timer(0.02, ours.close)
        closer.start()
        await asyncio.wait_for(read_to_the_end(loop, theirs), 2)
        closer.join()
        for task in getattr(loop, "tasks", []):
            task.cancel()

    run(main())


@pytest.mark.parametrize("way", WAYS)
def test_number_that_is_open_again_is_the_next_one_s(our_loop, way):
    """The other thread opens another file before the loop can look; the stock loop takes the one for the other."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        number = ours.fileno()
        way(loop, ours)
        await asyncio.sleep(0.02)
        opened = []

        def replace():
            ours.close()
            near, far = pair()
            opened.extend([under(number, near), far])

        on_another_thread(replace)
        new, new_peer = opened
        # It begins now, not in a turn of its own.
        receiving = loop.sock_recv(new, 10)
        receiving.send(None)
        await asyncio.wait_for(read_to_the_end(loop, theirs), 2)
        new_peer.send(b"for the new")
        await asyncio.sleep(0.02)
        with pytest.raises(StopIteration) as done:
            receiving.send(None)
        assert done.value.value == b"for the ne"
        for task in getattr(loop, "tasks", []):
            task.cancel()

    with contextlib.closing(our_loop()) as loop:
        loop.run_until_complete(asyncio.wait_for(main(), 10))


def test_watch_of_a_number_that_is_open_again_is_of_the_next_file(our_loop):
    """Asked for before the loop has heard of the close: the poll that is armed is still the old file's."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        number = ours.fileno()
        watch_reading(loop, ours)
        await asyncio.sleep(0.02)
        opened = []

        def replace():
            ours.close()
            near, far = pair()
            opened.extend([under(number, near), far])

        on_another_thread(replace)
        new, new_peer = opened
        called = loop.create_future()
        loop.add_reader(new, lambda: called.done() or called.set_result(True))
        await asyncio.wait_for(read_to_the_end(loop, theirs), 2)
        new_peer.send(b"for the new")
        assert await asyncio.wait_for(called, 2)
        loop.remove_reader(new)

    with contextlib.closing(our_loop()) as loop:
        loop.run_until_complete(asyncio.wait_for(main(), 10))


def test_socket_closed_while_its_loop_stands_still_ends_for_its_peer(loop):
    pairs = [pair() for _ in range(20)]

    async def watch():
        for ours, _ in pairs:
            loop.add_reader(ours, lambda: None)
        await asyncio.sleep(0.02)

    loop.run_until_complete(watch())
    for ours, theirs in pairs:
        ours.close()
        theirs.setblocking(True)
        theirs.settimeout(2)
        assert theirs.recv(1) == b""


def test_socket_closed_on_another_thread_while_its_loop_stands_still_ends_when_that_runs(loop):
    pairs = [pair() for _ in range(20)]

    async def watch():
        for ours, _ in pairs:
            loop.add_reader(ours, lambda: None)
        await asyncio.sleep(0.02)

    loop.run_until_complete(watch())
    on_another_thread(lambda: [ours.close() for ours, _ in pairs])
    for _, theirs in pairs:
        loop.run_until_complete(asyncio.wait_for(read_to_the_end(loop, theirs), 2))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_child_that_closes_its_parent_s_sockets_makes_no_driver(our_loop):
    with contextlib.closing(our_loop()) as loop:
        # More than a loop that stops takes back from the kernel.
        pairs = [pair() for _ in range(8)]
        called = loop.create_future()

        async def watch():
            for ours, _ in pairs:
                loop.add_reader(ours, lambda: called.done() or called.set_result(True))
            await asyncio.sleep(0.02)

        loop.run_until_complete(watch())
        child = os.fork()
        if child == 0:
            before = len(os.listdir("/proc/self/fd"))
            for ours, _ in pairs:
                ours.close()
            os._exit(len(os.listdir("/proc/self/fd")) - before + len(pairs))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        pairs[-1][1].send(b"x")
        assert loop.run_until_complete(asyncio.wait_for(called, 2))
        for ours, _ in pairs:
            loop.remove_reader(ours)


def test_loop_that_nobody_closed_any_more_is_told_of_nothing(our_loop):
    loop = our_loop()
    ours, theirs = pair()
    loop.add_reader(ours.fileno(), lambda: None)
    gone = weakref.ref(loop)
    with pytest.warns(ResourceWarning):
        del loop
        gc.collect()
    assert gone() is None
    ours.close()
    theirs.settimeout(2)
    assert theirs.recv(1) == b""


def test_receive_on_a_listener_fails_though_its_number_was_drained(run):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        theirs.send(b"all")
        assert await loop.sock_recv(ours, 100) == b"all"
        number = ours.fileno()
        ours.close()
        with under(number, socket.socket()) as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.setblocking(False)
            with pytest.raises(OSError, match="not connected"):
                await asyncio.wait_for(loop.sock_recv(listener, 10), 2)

    run(main())


@pytest.mark.parametrize("empty", [b"", bytearray(), memoryview(b"")])
def test_nothing_is_a_datagram(run, empty):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)
        ours.setblocking(False)
        theirs.settimeout(2)
        await loop.sock_sendall(ours, empty)
        assert theirs.recv(10) == b""

    run(main())


def test_factory_may_close_its_server(loop, run):
    reported = []
    loop.set_exception_handler(lambda _loop, context: reported.append(context))

    async def main():
        def factory():
            server.close()
            return asyncio.Protocol()

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address) for _ in range(3)]
        await asyncio.sleep(0.1)
        for client in clients:
            client.close()
        await asyncio.sleep(0.02)

    run(main())
    assert reported == []


def test_loop_is_collected_with_the_buffer_that_it_receives_into(our_loop):
    class Buffer(bytearray):
        pass

    loop = our_loop()
    ours, theirs = pair()
    buffer = Buffer(10)
    buffer.loop = loop
    loop.run_until_complete(asyncio.wait([loop.create_task(loop.sock_recv_into(ours, buffer))], timeout=0.02))
    gone = weakref.ref(loop)
    del buffer, loop
    with pytest.warns(ResourceWarning):
        gc.collect()
    assert gone() is None
    theirs.close()
