"""Trap 6: nothing is read ahead from a socket that the user can reach by another way."""

from programs.own_process import in_own_process


def remainder_ways():
    """How a program gets at the rest of a stream whose start it read by a green recv."""
    import os
    import socket as stdlib

    from traps.wire import readable_by_kernel, real_socket

    def raw(sock):
        assert readable_by_kernel(sock), "the kernel has nothing left: somebody read ahead"
        return os.read(sock.fileno(), 100)

    def detached(sock):
        with real_socket.socket(fileno=sock.detach()) as own:
            own.settimeout(5)
            return own.recv(100)

    def passed_on(sock):
        """Over a Unix socket, as to another process."""
        near, far = real_socket.socketpair(stdlib.AF_UNIX)
        with near, far:
            real_socket.send_fds(near, [b"!"], [sock.fileno()])
            _, fds, _, _ = real_socket.recv_fds(far, 1, 1)
            with real_socket.socket(fileno=fds[0]) as own:
                own.settimeout(5)
                return own.recv(100)

    def forked(sock):
        read_end, write_end = os.pipe()
        if (pid := os.fork()) == 0:
            os.write(write_end, raw(sock))
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as result:
            return result.read()

    return {
        "os.read of fileno()": raw,
        "dup": lambda sock: sock.dup().recv(100),
        "makefile": lambda sock: sock.makefile("rb").read(4),
        "detach": detached,
        "fd passing": passed_on,
        "fork": forked,
        "green recv": lambda sock: sock.recv(100),
    }


@in_own_process(patched=False)
def test_rest_of_a_segment_is_left_in_the_kernel():
    """1. A recv waits for 4 bytes. 2. 8 arrive in one segment. 3. The last 4 are read another way."""
    import eventlet
    from traps.wire import let_block, tcp_pair

    for name, read in remainder_ways().items():
        client, server = tcp_pair()
        thread = eventlet.spawn(server.recv, 4)
        let_block()
        client.sendall(b"headrest")
        assert thread.wait() == b"head", name
        got = read(server)
        assert got == b"rest", (name, got)


@in_own_process()
def test_bytes_that_arrive_between_two_recvs_are_left_in_the_kernel():
    """1. A recv waited and got its bytes. 2. More arrive and the hub runs. 3. They are read another way."""
    import eventlet
    from traps.wire import let_block, tcp_pair

    for name, read in remainder_ways().items():
        client, server = tcp_pair()
        thread = eventlet.spawn(server.recv, 100)
        let_block()
        client.sendall(b"head")
        assert thread.wait() == b"head", name
        client.sendall(b"rest")
        let_block()
        eventlet.sleep(0.001)
        got = read(server)
        assert got == b"rest", (name, got)


@in_own_process()
def test_accepted_connections_are_left_to_the_kernel_between_two_accepts():
    """A second holder of the listener gets the connection that arrives when nobody here is in accept."""
    import eventlet
    from traps.wire import kernel_connection, let_block, listening

    listener = listening()
    thread = eventlet.spawn(listener.accept)
    let_block()
    first = kernel_connection(listener.getsockname())
    assert thread.wait()[1] == first.getsockname()
    second = kernel_connection(listener.getsockname())
    let_block()
    eventlet.sleep(0.001)
    other_holder = listener.fd.dup()
    other_holder.settimeout(5)
    assert other_holder.accept()[1] == second.getsockname()


@in_own_process()
def test_two_green_sockets_of_one_connection_share_its_bytes_in_order():
    import eventlet
    from traps.wire import let_block, tcp_pair

    client, server = tcp_pair()
    twin = server.dup()
    got = b""
    for number in range(20):
        thread = eventlet.spawn((server, twin)[number % 2].recv, 3)
        let_block()
        client.sendall(b"%03d" % number if number % 3 else b"%03d" % number)
        got += thread.wait()
    assert got == b"".join(b"%03d" % number for number in range(20))
