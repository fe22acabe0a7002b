"""eventlet.green: subprocess, pipes, select, zmq; tpool, DNS, multiprocessing, backdoor, threads."""

import isolated
import pytest
from programs.own_process import in_own_process, require_hub, run_body


@in_own_process()
def test_green_subprocess_talks_to_many_children_at_once():
    import time

    import eventlet
    from eventlet.green import subprocess

    def talk(number):
        child = subprocess.Popen(
            ["sh", "-c", "sleep 0.3; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = child.communicate(b"%d" % number * 20_000)
        assert child.returncode == 0
        return out == b"%d" % number * 20_000

    began = time.monotonic()
    with eventlet.Timeout(20):
        assert all(eventlet.GreenPool(10).imap(talk, range(10)))
    assert time.monotonic() - began < 2.5, "ten children of 0.3 s did not run side by side"


@in_own_process()
def test_green_subprocess_wait_times_out_and_tells_the_exit_status():
    from eventlet.green import subprocess

    child = subprocess.Popen(["sleep", "30"])
    try:
        child.wait(timeout=0.05)
    except subprocess.TimeoutExpired:
        pass
    else:
        raise AssertionError("no timeout")
    child.kill()
    assert child.wait() == -9
    assert subprocess.call(["sh", "-c", "exit 3"]) == 3
    assert subprocess.check_output(["echo", "out"]) == b"out\n"


@in_own_process(patched=True)
def test_patched_subprocess_and_os_work():
    import os
    import subprocess

    import eventlet

    done = subprocess.run(["cat"], input=b"x" * 300_000, capture_output=True, timeout=20)
    assert done.stdout == b"x" * 300_000
    read_end, write_end = os.pipe()
    for end in (read_end, write_end):
        os.set_blocking(end, False)
    reader = eventlet.spawn(os.read, read_end, 100)
    eventlet.sleep(0)
    os.write(write_end, b"through the pipe")
    assert reader.wait() == b"through the pipe"
    child = subprocess.Popen(["sh", "-c", "exit 4"])
    with eventlet.Timeout(10):
        pid, status = os.waitpid(child.pid, 0)
    assert pid == child.pid and os.waitstatus_to_exitcode(status) == 4


@in_own_process()
def test_green_pipes_carry_more_than_the_kernel_buffers():
    import eventlet
    from eventlet import greenio
    from eventlet.green import os

    read_end, write_end = os.pipe()
    source, sink = greenio.GreenPipe(read_end, "rb"), greenio.GreenPipe(write_end, "wb")
    data = bytes(range(256)) * 4000

    def write():
        sink.write(data)
        sink.close()

    writer = eventlet.spawn(write)
    with eventlet.Timeout(10):
        received = b""
        while block := source.read(7000):
            received += block
        writer.wait()
    assert received == data


@in_own_process()
def test_green_pipe_reads_lines_of_text():
    import eventlet
    from eventlet import greenio
    from eventlet.green import os

    read_end, write_end = os.pipe()
    source, sink = greenio.GreenPipe(read_end, "r"), greenio.GreenPipe(write_end, "w")

    def write():
        for number in range(50):
            sink.write(f"line {number}\n")
            sink.flush()
            eventlet.sleep(0)
        sink.close()

    eventlet.spawn_n(write)
    with eventlet.Timeout(10):
        assert [source.readline() for _ in range(50)] == [f"line {n}\n" for n in range(50)]
        assert source.readline() == ""


@in_own_process()
def test_green_select_reports_exactly_what_is_ready():
    import eventlet
    from eventlet.green import select, socket

    pairs = [socket.socketpair() for _ in range(10)]
    near = [pair[0] for pair in pairs]
    assert select.select(near, [], [], 0)[0] == []
    began = eventlet.hubs.get_hub().clock()
    assert select.select(near, [], [], 0.05) == ([], [], [])
    assert eventlet.hubs.get_hub().clock() - began >= 0.049
    eventlet.spawn_after(0.01, pairs[3][1].sendall, b"x")
    readable, writable, _ = select.select(near, [], [], 5)
    assert readable == [near[3]] and writable == []
    assert near[3].recv(1) == b"x"
    assert select.select([], near[:1], [], 5) == ([], near[:1], [])
    pairs[7][1].close()
    assert select.select(near, [], [], 5)[0] == [near[7]]


@in_own_process(hubs=isolated.OURS)
def test_green_select_of_several_ready_sockets_ends_once():
    """On the stock hubs each of them resumes the green thread, whatever it waits for by then."""
    import eventlet
    from eventlet.green import select, socket

    near = [socket.socketpair()[0] for _ in range(5)]
    for _ in range(10):
        assert select.select([], near, [], 5)[1]
        assert select.select(near[:1], [], [], 0.001) in (([], [], []), (near[:1], [], []))
        began = eventlet.hubs.get_hub().clock()
        eventlet.sleep(0.005)
        assert eventlet.hubs.get_hub().clock() - began >= 0.004


@in_own_process()
def test_green_select_by_many_green_threads_at_once():
    import eventlet
    from eventlet.green import select, socket

    pairs = [socket.socketpair() for _ in range(30)]

    def wait(near):
        ready, _, _ = select.select([near], [], [], 10)
        return [sock.recv(10) for sock in ready]

    threads = [eventlet.spawn(wait, near) for near, _ in pairs]
    eventlet.sleep(0)
    for number, (_, far) in enumerate(pairs):
        far.sendall(b"%d" % number)
    assert [thread.wait() for thread in threads] == [[b"%d" % n] for n in range(30)]


@in_own_process(patched=True)
def test_patched_selectors_and_poll_work():
    import select
    import selectors
    import socket

    import eventlet

    near, far = socket.socketpair()
    with selectors.DefaultSelector() as selector:
        selector.register(near, selectors.EVENT_READ, "near")
        assert selector.select(0) == []
        eventlet.spawn_after(0.01, far.sendall, b"x")
        ((key, events),) = selector.select(5)
        assert key.data == "near" and events == selectors.EVENT_READ
    assert not hasattr(select, "epoll"), "patched programs must not block in epoll"


@in_own_process()
def test_green_zmq_publishes_without_loss():
    """1. A subscriber takes what a publisher sends, one by one, unbounded queues. 2. All of it comes."""
    import eventlet
    from eventlet.green import zmq

    context = zmq.Context()
    publisher, subscriber = context.socket(zmq.PUB), context.socket(zmq.SUB)
    publisher.setsockopt(zmq.SNDHWM, 0)
    subscriber.setsockopt(zmq.RCVHWM, 0)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    subscriber.connect(f"tcp://127.0.0.1:{port}")

    subscribed = eventlet.Event()

    def publish():
        while not subscribed.ready():
            publisher.send(b"begin")
            eventlet.sleep(0.01)
        for number in range(3000):
            publisher.send(b"%d" % number)
            eventlet.sleep(0)

    eventlet.spawn(publish)
    with eventlet.Timeout(30):
        assert subscriber.recv() == b"begin"
        subscribed.send()
        while (message := subscriber.recv()) == b"begin":
            pass
        assert message == b"0"
        for number in range(1, 3000):
            assert subscriber.recv() == b"%d" % number
    publisher.close(0)
    subscriber.close(0)
    context.term()


@in_own_process()
def test_green_zmq_carries_messages_both_ways():
    import eventlet
    from eventlet.green import zmq

    context = zmq.Context()
    server, clients = context.socket(zmq.ROUTER), []
    port = server.bind_to_random_port("tcp://127.0.0.1")

    def serve():
        while True:
            who, number = server.recv_multipart()
            server.send_multipart([who, b"%d" % (int(number) * 2)])

    serving = eventlet.spawn(serve)

    def ask(number):
        client = context.socket(zmq.DEALER)
        client.connect(f"tcp://127.0.0.1:{port}")
        clients.append(client)
        answers = []
        for step in range(20):
            client.send(b"%d" % (number + step))
            answers.append(int(client.recv()))
        return answers == [(number + step) * 2 for step in range(20)]

    with eventlet.Timeout(20):
        assert all(eventlet.GreenPool().imap(ask, range(10)))
    serving.kill()
    for sock in (server, *clients):
        sock.close(linger=0)
    context.term()


@in_own_process()
def test_tpool_runs_blocking_calls_beside_green_threads():
    import time

    import eventlet
    from eventlet import patcher, tpool

    blocking_sleep = patcher.original("time").sleep
    ticks = 0

    def tick():
        nonlocal ticks
        while True:
            eventlet.sleep(0.005)
            ticks += 1

    eventlet.spawn_n(tick)

    def work(number):
        blocking_sleep(0.1)
        return number * 2

    began = time.monotonic()
    with eventlet.Timeout(20):
        pool = eventlet.GreenPool()
        assert list(pool.imap(lambda n: tpool.execute(work, n), range(40))) == [n * 2 for n in range(40)]
    took = time.monotonic() - began
    assert took < 3 and ticks > 5, (took, ticks)

    def fail():
        raise LookupError("in the thread")

    try:
        tpool.execute(fail)
    except LookupError as e:
        assert str(e) == "in the thread"
    else:
        raise AssertionError("the exception was lost")
    tpool.killall()


@in_own_process()
def test_tpool_proxy_and_killed_callers_leave_the_pool_working():
    import eventlet
    from eventlet import patcher, tpool

    blocking_sleep = patcher.original("time").sleep
    proxy = tpool.Proxy({"a": 1})
    assert proxy["a"] == 1 and list(proxy.items()) == [("a", 1)]
    for _ in range(10):
        thread = eventlet.spawn(tpool.execute, blocking_sleep, 0.05)
        eventlet.sleep(0)
        thread.kill()
    with eventlet.Timeout(10):
        assert [tpool.execute(pow, 2, n) for n in range(20)] == [2**n for n in range(20)]
    tpool.killall()


def resolve_names():
    """Names of this machine, by whichever resolver the environment chose."""
    import socket

    import eventlet

    with eventlet.Timeout(20):
        assert socket.gethostbyname("localhost") == "127.0.0.1"
        addresses = {entry[4][0] for entry in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}
        assert "127.0.0.1" in addresses, addresses
        assert socket.getaddrinfo("127.0.0.1", 80)[0][4] == ("127.0.0.1", 80)
        pool = eventlet.GreenPool()
        assert set(pool.imap(socket.gethostbyname, ["localhost"] * 50)) == {"127.0.0.1"}


@pytest.mark.parametrize("no_greendns", ["yes", "no"])
def test_names_resolve_with_greendns_off_and_on(hub, no_greendns):
    require_hub(hub)
    run_body(hub, __file__, "resolve_names", True, 40, True, {"EVENTLET_NO_GREENDNS": no_greendns})


@in_own_process(env={"EVENTLET_NO_GREENDNS": "no"})
def test_greendns_asks_a_name_server_over_udp_and_over_tcp():
    """A name server of our own on loopback.

    Truncated over UDP, whole over TCP; lost datagrams are asked again.
    """
    import dns.flags
    import dns.message
    import dns.rrset
    import eventlet
    from eventlet.green import socket
    from eventlet.support import greendns

    datagrams, streams = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
    # In this order: numbers of datagram sockets are seldom taken.
    streams.bind(("127.0.0.1", 0))
    datagrams.bind(streams.getsockname())
    streams.listen(5)
    asked = {"udp": 0, "tcp": 0}

    def answer(query, whole):
        response = dns.message.make_response(query)
        name = query.question[0].name
        if whole:
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "127.0.0.9"))
        else:
            response.flags |= dns.flags.TC
        return response.to_wire()

    def serve_udp():
        while True:
            wire, sender = datagrams.recvfrom(2000)
            asked["udp"] += 1
            if asked["udp"] == 1:
                continue  # lost
            query = dns.message.from_wire(wire)
            datagrams.sendto(answer(query, "whole" in str(query.question[0].name)), sender)

    def serve_tcp():
        while True:
            sock, _ = streams.accept()
            asked["tcp"] += 1
            length = int.from_bytes(sock.recv(2), "big")
            wire = answer(dns.message.from_wire(sock.recv(length)), True)
            sock.sendall(len(wire).to_bytes(2, "big") + wire)

    eventlet.spawn_n(serve_udp)
    eventlet.spawn_n(serve_tcp)
    resolver = greendns.dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], datagrams.getsockname()[1]
    resolver.timeout, resolver.lifetime = 0.3, 10
    with eventlet.Timeout(20):
        for name in ("whole.example.", "truncated.example."):
            addresses = [record.address for record in resolver.resolve(name, "A")]
            assert addresses == ["127.0.0.9"], (name, addresses)
    assert asked["udp"] == 3 and asked["tcp"] == 1, asked


@in_own_process(timeout_s=60)
def test_multiprocessing_pool_and_queue_work_beside_green_threads():
    """Unpatched: the stock hubs cannot carry multiprocessing.Pool's threads as green ones."""
    import multiprocessing

    import eventlet

    context = multiprocessing.get_context("fork")
    waiter = eventlet.spawn(eventlet.sleep, 0.001)
    eventlet.sleep(0)
    with context.Pool(2) as pool:
        assert pool.map(abs, range(-20, 0), chunksize=3) == list(range(20, 0, -1))
    results = context.Queue()

    def work(number):
        eventlet.sleep(0.001)
        results.put(number * number)

    workers = [context.Process(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    assert sorted(results.get(timeout=20) for _ in workers) == [0, 1, 4, 9]
    for worker in workers:
        worker.join(20)
    waiter.wait()


@in_own_process(silent=False)
def test_backdoor_answers_and_leaves_the_program_running():
    import eventlet
    from eventlet import backdoor
    from traps.wire import listening

    listener = listening()
    server = eventlet.spawn(backdoor.backdoor_server, listener, {"secret": 41})
    from eventlet.green import socket

    client = socket.create_connection(listener.getsockname(), timeout=10)
    answers = client.makefile("rb")

    def until(text):
        received = b""
        while text not in received:
            byte = answers.read(1)
            assert byte, received
            received += byte
        return received

    until(b">>> ")
    client.sendall(b"print(secret + 1)\n")
    assert b"42" in until(b">>> ")
    client.sendall(b"1 / 0\n")
    assert b"ZeroDivisionError" in until(b">>> ")
    client.sendall(b"exit()\n")
    with eventlet.Timeout(5):
        while client.recv(100):
            pass
    assert eventlet.spawn(lambda: 1).wait() == 1
    server.kill()


@in_own_process(patched=True)
def test_patched_threads_locks_queues_and_timers_work():
    import queue
    import threading

    import eventlet

    items, results, lock = queue.Queue(3), [], threading.RLock()

    def consume():
        while (item := items.get()) is not None:
            with lock, lock:
                results.append(item)

    threads = [threading.Thread(target=consume) for _ in range(5)]
    for thread in threads:
        thread.start()
    for number in range(100):
        items.put(number)
    for _ in threads:
        items.put(None)
    with eventlet.Timeout(10):
        for thread in threads:
            thread.join()
    assert sorted(results) == list(range(100))
    rang = threading.Event()
    threading.Timer(0.01, rang.set).start()
    assert rang.wait(5)
    condition = threading.Condition()
    with condition:
        assert not condition.wait(0.01)
