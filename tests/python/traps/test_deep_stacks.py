"""Traps 1 and 10.

Nothing the kernel touches lives on a greenlet's stack, and many operations at once lose no wake-up.
"""

from programs.own_process import in_own_process


@in_own_process()
def test_each_of_many_deeply_nested_waits_gets_its_own_bytes():
    import eventlet
    from eventlet.green import socket
    from traps.wire import tcp_pair

    def descend(levels, wait):
        return wait() if levels == 0 else (descend(levels - 1, wait), levels)[0]

    def waits(server, datagram):
        buffer = bytearray(64)
        yield lambda: server.recv(8)
        yield lambda: bytes(buffer[: server.recv_into(buffer, 8)])
        yield lambda: datagram.recvfrom(64)[0]
        yield lambda: bytes(buffer[: datagram.recvfrom_into(buffer)[0]])

    pairs = [tcp_pair() for _ in range(60)]
    datagrams = [socket.socket(type=socket.SOCK_DGRAM) for _ in pairs]
    for datagram in datagrams:
        datagram.bind(("127.0.0.1", 0))

    def reader(number):
        for step, wait in enumerate(waits(pairs[number][1], datagrams[number])):
            got = descend(number % 40 * 3, wait)
            assert got == b"%04d-%03d" % (number, step), (number, step, got)
        return number

    threads = [eventlet.spawn(reader, number) for number in range(len(pairs))]
    sender = socket.socket(type=socket.SOCK_DGRAM)
    for step in range(4):
        for number, (client, _) in enumerate(pairs):
            if step < 2:
                client.sendall(b"%04d-%03d" % (number, step))
            else:
                sender.sendto(b"%04d-%03d" % (number, step), datagrams[number].getsockname())
        eventlet.sleep(0.001)
    with eventlet.Timeout(20):
        assert [thread.wait() for thread in threads] == list(range(len(pairs)))


@in_own_process(timeout_s=60)
def test_three_thousand_recvs_in_flight_all_wake():
    import eventlet
    from eventlet.green import socket
    from traps.wire import let_block

    pairs = [socket.socketpair() for _ in range(3000)]
    threads = [eventlet.spawn(near.recv, 100) for near, _ in pairs]
    let_block()
    for number, (_, far) in enumerate(pairs):
        far.fd.send(b"%d" % number)
    with eventlet.Timeout(30):
        for number, thread in enumerate(threads):
            assert thread.wait() == b"%d" % number


@in_own_process(timeout_s=60)
def test_large_transfers_on_many_sockets_at_once_are_complete():
    """More bytes under way than any buffer pool holds."""
    import hashlib

    import eventlet
    from traps.wire import tcp_pair

    def receive(sock):
        digest, total = hashlib.sha256(), 0
        while data := sock.recv(65536):
            digest.update(data)
            total += len(data)
        return total, digest.digest()

    block = bytes(range(251)) * 8000
    pairs = [tcp_pair() for _ in range(40)]
    receivers = [eventlet.spawn(receive, server) for _, server in pairs]

    def send(client):
        client.sendall(block)
        client.close()

    for client, _ in pairs:
        eventlet.spawn_n(send, client)
    expected = len(block), hashlib.sha256(block).digest()
    with eventlet.Timeout(40):
        assert all(thread.wait() == expected for thread in receivers)


@in_own_process()
def test_accept_reports_a_full_fd_table_and_goes_on_once_there_is_room():
    import errno
    import os
    import resource

    import eventlet
    from traps.wire import kernel_connection, listening

    listener = listening()
    clients = [kernel_connection(listener.getsockname()) for _ in range(3)]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    fillers = []
    try:
        while True:
            fillers.append(os.dup(0))
    except OSError as e:
        assert e.errno == errno.EMFILE
    try:
        with eventlet.Timeout(5):
            listener.accept()
    except OSError as e:
        assert e.errno == errno.EMFILE, e
    else:
        raise AssertionError("accept succeeded with a full fd table")
    for fd in fillers:
        os.close(fd)
    listener.settimeout(5)
    accepted = sorted(listener.accept()[1] for _ in clients)
    assert accepted == sorted(client.getsockname() for client in clients)


@in_own_process()
def test_accept_that_waits_while_the_fd_table_fills_reports_it_and_loses_no_connection():
    import errno
    import os
    import resource

    import eventlet
    from traps.wire import kernel_connection, let_block, listening, real_socket

    listener = listening()
    late = real_socket.socket()

    def acceptor():
        try:
            return listener.accept()[1]
        except OSError as e:
            return e.errno

    thread = eventlet.spawn(acceptor)
    let_block()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    fillers = []
    try:
        while True:
            fillers.append(os.dup(0))
    except OSError:
        pass
    late.connect(listener.getsockname())
    with eventlet.Timeout(5):
        result = thread.wait()
    for fd in fillers:
        os.close(fd)
    assert result == errno.EMFILE, result
    listener.settimeout(5)
    another = kernel_connection(listener.getsockname())
    addresses = {listener.accept()[1] for _ in range(2)}
    assert addresses == {late.getsockname(), another.getsockname()}
