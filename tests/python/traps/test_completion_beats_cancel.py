"""Trap 2: a completion may win against its cancel. No byte and no connection is lost."""

import functools

import isolated
from programs.own_process import in_own_process


class Stop(BaseException):
    """What a test throws at a green thread that shall not be resumed by its wait."""


def swallow(function, *args):
    """Runs `function`; returns the Stop that ended it instead of raising it into the hub."""
    try:
        return function(*args)
    except Stop as stop:
        return stop


def stop(thread):
    """kill() with an exception the thread returns."""
    thread.kill(Stop())
    assert isinstance(thread.wait(), Stop), f"the wait ended with {thread.wait()!r}, not by the kill"


def arrive_then_stop(wait, arrive):
    """1. A green thread waits. 2. What it waits for arrives in the kernel. 3. It is killed before it runs."""
    import eventlet
    from traps.wire import let_block

    thread = eventlet.spawn(swallow, wait)
    let_block()
    arrive()
    stop(thread)


def complete_then_stop(wait, arrive):
    """Kills a waiter whose completion was already taken from the kernel.

    1. The killer and the victim wait on two sockets. 2. The killer's byte arrives, then what the victim waits
    for. 3. One turn takes both; the killer runs first and kills the victim.
    """
    import eventlet
    from traps.wire import let_block, tcp_pair

    near, far = tcp_pair()

    def killer():
        near.recv(1)
        if not victim.dead:
            victim.kill(Stop())

    hunter = eventlet.spawn(killer)
    let_block()
    victim = eventlet.spawn(swallow, wait)
    let_block()
    far.fd.send(b"!")
    arrive()
    hunter.wait()
    # Stock hubs do not order the callbacks of one poll: the victim may have come first. That is not the race.
    return isinstance(victim.wait(), Stop)


def connect_to(listener, clients):
    """Adds a connection that the kernel alone has made."""
    from traps.wire import kernel_connection

    clients.append(kernel_connection(listener.getsockname()))


def recv_ways(sock):
    """Every way to wait for bytes, each with room for more than is sent."""
    return {
        "recv": lambda: sock.recv(100),
        "recv_into": lambda: sock.recv_into(bytearray(100)),
        "recvfrom": lambda: sock.recvfrom(100),
        "recvfrom_into": lambda: sock.recvfrom_into(bytearray(100)),
    }


def each_stopped_recv(check):
    """Calls check(sock) for a socket whose recv was stopped just as b"payload" arrived, for each way and
    race.
    """
    from traps.wire import tcp_pair

    for way in recv_ways(None):
        for race in (arrive_then_stop, complete_then_stop):
            for _ in range(4):
                client, server = tcp_pair()
                if (
                    race(recv_ways(server)[way], lambda client=client: client.fd.send(b"payload"))
                    is not False
                ):
                    check(server, f"{way}, {race.__name__}")
                client.close()
                server.close()


@in_own_process()
def test_next_recv_gets_the_bytes_of_a_killed_recv():
    def check(sock, case):
        sock.settimeout(5)
        got = sock.recv(3) + sock.recv(100)
        assert got == b"payload", (case, got)

    each_stopped_recv(check)


@in_own_process()
def test_next_recv_into_gets_the_bytes_of_a_killed_recv():
    def check(sock, case):
        sock.settimeout(5)
        buffer = bytearray(100)
        assert sock.recv_into(buffer) == 7 and buffer[:7] == b"payload", (case, buffer)

    each_stopped_recv(check)


@in_own_process()
def test_order_holds_between_bytes_of_a_killed_recv_and_later_ones():
    from traps.wire import tcp_pair

    for race in (arrive_then_stop, complete_then_stop):
        client, server = tcp_pair()
        race(lambda server=server: server.recv(4), lambda client=client: client.fd.send(b"abcdefgh"))
        client.sendall(b"ijkl")
        client.close()
        got = b"".join(iter(lambda server=server: server.recv(3), b""))
        assert got.endswith(b"efghijkl") and got in (b"abcdefghijkl", b"efghijkl"), (race.__name__, got)


@in_own_process()
def test_non_blocking_recv_gets_the_bytes_of_a_killed_recv():
    def check(sock, case):
        sock.setblocking(False)
        got = sock.recv(100)
        assert got == b"payload", (case, got)

    each_stopped_recv(check)


@in_own_process()
def test_peek_sees_and_leaves_the_bytes_of_a_killed_recv():
    from eventlet.green import socket

    def check(sock, case):
        sock.settimeout(5)
        peeked = sock.recv(100, socket.MSG_PEEK)
        got = sock.recv(100)
        assert peeked == got == b"payload", (case, peeked, got)

    each_stopped_recv(check)


@in_own_process()
def test_select_and_trampoline_report_the_bytes_of_a_killed_recv():
    from eventlet import hubs
    from eventlet.green import select

    def check(sock, case):
        ready, _, _ = select.select([sock], [], [], 5)
        assert ready, f"{case}: select does not see the bytes"
        hubs.trampoline(sock, read=True, timeout=5)
        assert sock.recv(100) == b"payload", case

    each_stopped_recv(check)


@in_own_process()
def test_file_of_the_socket_reads_the_bytes_of_a_killed_recv():
    def check(sock, case):
        sock.settimeout(5)
        got = sock.makefile("rb").read(7)
        assert got == b"payload", (case, got)

    each_stopped_recv(check)


def raw_ways():
    """Ways to read a socket that pass the green socket by."""
    import os

    from traps.wire import readable_by_kernel, real_socket

    def detached(sock):
        own = real_socket.socket(fileno=sock.detach())
        own.setblocking(False)
        try:
            return own.recv(100)
        except BlockingIOError:
            return b""

    return {
        "dup": lambda sock: sock.dup().recv(100),
        "os.read": lambda sock: os.read(sock.fileno(), 100) if readable_by_kernel(sock, 100) else b"",
        "detach": detached,
    }


@in_own_process(hubs=(isolated.EPOLLS,))
def test_raw_readers_of_the_stock_hub_see_the_bytes_of_a_killed_recv():
    """The contract that a hub of completions cannot keep in one case, see the next test."""
    for name, read in raw_ways().items():

        def check(sock, case, name=name, read=read):
            if name == "dup":
                sock.settimeout(5)
            got = read(sock)
            assert got == b"payload", (name, case, got)

        each_stopped_recv(check)


@in_own_process(hubs=isolated.OURS)
def test_raw_readers_see_the_bytes_of_a_killed_recv_unless_the_kernel_had_delivered_them():
    """Bytes the kernel delivered before the kill cannot be given back to it: the green socket has them."""
    for name, read in raw_ways().items():

        def check(sock, case, name=name, read=read):
            if name == "dup":
                sock.settimeout(0.05)
            try:
                got = read(sock)
            except TimeoutError:
                got = b""
            if got == b"" and name != "detach":
                sock.settimeout(5)
                got = sock.recv(100)
            assert got == b"payload" or (name == "detach" and "complete_then_stop" in case), (name, case, got)

        each_stopped_recv(check)


@in_own_process()
def test_timeout_that_fires_as_bytes_arrive_loses_none():
    import eventlet
    from traps.wire import tcp_pair

    client, server = tcp_pair()
    sent, received = b"", b""
    for number in range(300):
        piece = number.to_bytes(4, "big")
        # The sender's timer and the Timeout come due in the same turn, in either order.
        sending = eventlet.spawn_after(0.001, client.fd.send, piece)
        sent += piece
        try:
            with eventlet.Timeout(0.001 if number % 2 else 0.0009):
                received += server.recv(64)
        except eventlet.Timeout:
            pass
        sending.wait()
    client.shutdown(1)
    received += b"".join(iter(lambda: server.recv(4096), b""))
    assert received == sent, (len(received), len(sent))


@in_own_process()
def test_socket_timeout_that_fires_as_bytes_arrive_loses_none():
    import eventlet
    from traps.wire import tcp_pair

    client, server = tcp_pair()
    server.settimeout(0.001)
    sent, received = b"", b""
    for number in range(300):
        piece = number.to_bytes(4, "big")
        sending = eventlet.spawn_after(0.001, client.fd.send, piece)
        sent += piece
        try:
            received += server.recv(64)
        except TimeoutError:
            pass
        sending.wait()
    client.shutdown(1)
    server.settimeout(None)
    received += b"".join(iter(lambda: server.recv(4096), b""))
    assert received == sent, (len(received), len(sent))


@in_own_process()
def test_killed_recv_into_leaves_its_buffer_alone_afterwards():
    from traps.wire import let_block, tcp_pair

    for race in (arrive_then_stop, complete_then_stop):
        client, server = tcp_pair()
        buffer = bytearray(b"\xee" * 64)
        stopped = race(
            lambda server=server, buffer=buffer: server.recv_into(buffer),
            lambda client=client: client.fd.send(b"payload"),
        )
        if stopped is False:
            continue
        then = bytes(buffer)
        client.fd.send(b"more of it")
        let_block()
        assert buffer == then == b"\xee" * 64, (race.__name__, buffer)


@in_own_process()
def test_datagram_of_a_killed_recvfrom_keeps_its_bounds_and_sender():
    from eventlet.green import socket

    for race in (arrive_then_stop, complete_then_stop):
        receiver, sender = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
        for sock in (receiver, sender):
            sock.bind(("127.0.0.1", 0))
        target = receiver.getsockname()

        def arrive(sender=sender, target=target):
            sender.fd.sendto(b"first", target)
            sender.fd.sendto(b"second", target)

        stopped = race(lambda receiver=receiver: receiver.recvfrom(100), arrive)
        expected = [b"first", b"second"] if stopped is not False else [b"second"]
        receiver.settimeout(5)
        got = [receiver.recvfrom(100) for _ in expected]
        assert got == [(data, sender.getsockname()) for data in expected], (race.__name__, got)


@in_own_process()
def test_next_accept_gets_the_connection_of_a_killed_accept():
    from traps.wire import listening

    for race in (arrive_then_stop, complete_then_stop) * 4:
        listener, clients = listening(), []
        if race(listener.accept, functools.partial(connect_to, listener, clients)) is not False:
            listener.settimeout(5)
            sock, address = listener.accept()
            assert address == clients[0].getsockname(), race.__name__
            sock.sendall(b"yes")
            assert clients[0].recv(3) == b"yes"


@in_own_process()
def test_another_holder_of_the_listener_gets_the_connection_of_a_killed_accept():
    """What a prefork server does at a graceful stop: the connection belongs to whichever worker remains."""
    from traps.wire import listening

    for race in (arrive_then_stop, complete_then_stop) * 4:
        listener, clients = listening(), []
        other_worker = listener.fd.dup()
        other_worker.settimeout(2)
        if race(listener.accept, functools.partial(connect_to, listener, clients)) is not False:
            listener.close()
            sock, _ = other_worker.accept()
            sock.sendall(b"yes")
            assert clients[0].recv(3) == b"yes", race.__name__


@in_own_process()
def test_listener_closed_after_a_killed_accept_leaks_no_descriptor():
    import os

    from traps.wire import let_block, listening

    def count():
        return len(os.listdir("/proc/self/fd"))

    def ended(client):
        try:
            return client.recv(1) == b""
        except ConnectionResetError:
            return True

    let_block()  # the hub has opened by now what it keeps
    for _ in range(4):
        listener, clients = listening(), []
        connect = functools.partial(connect_to, listener, clients)
        before = count()
        arrive_then_stop(listener.accept, connect)
        listener.close()
        let_block()
        clients[0].settimeout(5)
        assert ended(clients[0]), "the client of a closed listener still waits"
        clients[0].close()
        assert count() == before - 1, f"{count() - before + 1} descriptors leaked"


@in_own_process()
def test_send_that_was_killed_has_sent_nothing():
    """As on a readiness hub: a send that raises can be repeated without a byte arriving twice."""
    import eventlet
    from eventlet.green import socket
    from traps.wire import let_block, tcp_pair

    for _ in range(10):
        client, server = tcp_pair()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sent = 0
        client.setblocking(False)
        try:
            while True:
                sent += client.send(b"a" * 65536)
        except BlockingIOError:
            client.setblocking(True)
        sender = eventlet.spawn(swallow, client.send, b"b" * 65536)
        let_block()
        received = 0
        server.setblocking(False)  # room arises and the sender is stopped before it runs again
        while received < sent // 2:
            received += len(server.recv(65536))
        result = sender.kill(Stop()) or sender.wait()
        more = result if isinstance(result, int) else 0
        server.setblocking(True)
        client.shutdown(socket.SHUT_WR)
        rest = b"".join(iter(lambda server=server: server.recv(65536), b""))
        assert received + len(rest) == sent + more, (received + len(rest) - sent, more)
