"""What green threads do again and again leaves no memory behind: what is in use is counted."""

import isolated
from memory import Growth
from programs.own_process import in_own_process


def check(operations):
    """Does each a few hundred times, again and again; fails with the names of those that leave something."""
    leaks = {}
    for operation in operations:
        times = 50 if operation.__name__.startswith("slow") else 200
        for _ in range(times // 2):
            operation()
        growth = Growth(times)
        for _ in range(3):
            with growth:
                for _ in range(times):
                    operation()
        if growth.is_a_leak():
            leaks[operation.__name__] = growth
    assert not leaks, leaks


def in_wait(function, *args):
    """A green thread in its first wait."""
    import eventlet

    thread = eventlet.spawn(function, *args)
    eventlet.sleep(0)
    return thread


# Not on epolls: it keeps a thousand cancelled timers before it forgets any.
@in_own_process(patched=True, timeout_s=120, hubs=isolated.OURS)
def test_what_green_threads_do_leaves_nothing():
    import os

    import eventlet
    from eventlet import event, hubs, queue, semaphore, tpool

    lock, pool = semaphore.Semaphore(), eventlet.GreenPool(10)

    def sleep():
        eventlet.sleep(0)

    def slow_sleep():
        eventlet.sleep(0.00001)

    def spawn():
        assert eventlet.spawn(len, "x" * 1000).wait() == 1000
        eventlet.spawn_n(len, "x" * 1000)
        pool.spawn_n(len, "x" * 1000)
        eventlet.sleep(0)

    def timeout():
        with eventlet.Timeout(3600):
            eventlet.sleep(0)

    def hand_over():
        channel, done = queue.Queue(1), event.Event()
        thread = eventlet.spawn(channel.get)
        channel.put("x" * 1000)
        thread.link(lambda _: done.send("x" * 1000))
        assert len(done.wait()) == 1000
        with lock:
            blocked = eventlet.spawn(lock.acquire)
            eventlet.sleep(0)
        assert blocked.wait()
        lock.release()

    def timer():
        hubs.get_hub().schedule_call_global(3600, len, "x").cancel()

    def slow_pool():
        assert tpool.execute(len, "x" * 1000) == 1000

    def slow_fork():
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        assert os.waitpid(pid, 0) == (pid, 0)

    check([sleep, slow_sleep, spawn, timeout, hand_over, timer, slow_pool, slow_fork])


@in_own_process(patched=True, timeout_s=120, hubs=isolated.OURS)
def test_what_sockets_receive_and_send_leaves_nothing():
    import socket

    import eventlet

    ours, theirs = socket.socketpair()
    listener = eventlet.listen(("127.0.0.1", 0))
    buffer = bytearray(2000)
    datagrams = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in datagrams:
        sock.bind(("127.0.0.1", 0))

    def receive():
        reading = in_wait(ours.recv, 2000)
        theirs.sendall(b"x" * 1000)
        assert len(reading.wait()) == 1000
        reading = in_wait(ours.recv_into, buffer)
        theirs.send(b"x" * 1000)
        assert reading.wait() == 1000

    def send_much():
        sending = in_wait(theirs.sendall, bytes(500_000))
        left = 500_000
        while left:
            left -= len(ours.recv(300_000))
        sending.wait()

    def datagram():
        reading = in_wait(datagrams[0].recvfrom, 2000)
        datagrams[1].sendto(b"x" * 1000, datagrams[0].getsockname())
        assert len(reading.wait()[0]) == 1000
        datagrams[1].sendto(b"x" * 1000, datagrams[0].getsockname())
        assert datagrams[0].recvfrom_into(buffer)[0] == 1000

    def connection():
        accepting = in_wait(listener.accept)
        with socket.create_connection(listener.getsockname()) as client:
            accepting.wait()[0].close()
            assert client.recv(10) == b""

    check([receive, send_much, datagram, connection])


@in_own_process(patched=True, timeout_s=120, hubs=isolated.OURS)
def test_waits_for_sockets_that_end_early_leave_nothing():
    import socket

    import eventlet
    from eventlet import hubs

    ours, theirs = socket.socketpair()
    listener = eventlet.listen(("127.0.0.1", 0))

    def an_error():
        try:
            socket.create_connection(("127.0.0.1", 1))
        except ConnectionRefusedError:
            pass

    def kill():
        for function, args in ((ours.recv, [1000]), (eventlet.sleep, [3600]), (listener.accept, [])):
            in_wait(function, *args).kill()

    def slow_timeout():
        with eventlet.Timeout(0.00001, False):
            ours.recv(1000)
        ours.settimeout(0.00001)
        try:
            ours.recv(1000)
        except TimeoutError:
            pass
        ours.settimeout(None)

    def writable():
        hubs.trampoline(theirs.fileno(), write=True)

    check([an_error, kill, slow_timeout, writable])


@in_own_process(timeout_s=120, hubs=isolated.OURS)
def test_what_both_worlds_do_leaves_nothing():
    import asyncio

    import eventlet
    import uringhub
    from eventlet import hubs
    from uringhub import sync

    eventlet.sleep(0)
    loop = hubs.get_hub().loop
    shared = sync.Queue()

    async def green_calls():
        eventlet.sleep(0)
        return await eventlet.spawn(len, "x" * 1000)

    def coroutine():
        assert uringhub.await_(green_calls()) == 1000

    async def cancel_green():
        task = asyncio.ensure_future(green_sleep())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    async def green_sleep():
        eventlet.sleep(3600)

    def cancelled():
        uringhub.await_(cancel_green())

    def killed():
        thread = eventlet.spawn(uringhub.await_, asyncio.sleep(3600))
        eventlet.sleep(0)
        thread.kill()
        eventlet.sleep(0)

    def queued():
        waiting = loop.create_task(shared.get_async())
        eventlet.sleep(0)
        shared.put("x" * 1000)
        assert len(uringhub.await_(waiting)) == 1000

    async def bounded():
        with eventlet.Timeout(0.00001, False):
            await asyncio.sleep(3600)

    def slow_timeout():
        uringhub.await_(bounded())

    check([coroutine, cancelled, killed, queued, slow_timeout])
