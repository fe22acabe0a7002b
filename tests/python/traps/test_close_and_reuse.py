"""Traps 3 and 4: buffers outlive their operation, close with operations in flight, reuse of an fd."""

import isolated
import pytest
from programs.own_process import in_own_process, require_hub


@in_own_process()
def test_close_with_a_recv_in_flight_sends_fin_at_once():
    import eventlet
    from traps.wire import let_block, readable_by_kernel, tcp_pair

    for wait in ("recv", "recv_into", "trampoline", "accepting a Timeout"):
        client, server = tcp_pair()

        def waiter(wait=wait, server=server):
            try:
                with eventlet.Timeout(3, False):
                    if wait == "recv_into":
                        server.recv_into(bytearray(10))
                    elif wait == "trampoline":
                        eventlet.hubs.trampoline(server, read=True)
                    else:
                        server.recv(10)
            except (OSError, EOFError):
                pass

        thread = eventlet.spawn(waiter)
        let_block()
        server.close()
        eventlet.sleep(0)
        assert readable_by_kernel(client), f"no FIN after close() with {wait} in flight"
        assert client.fd.recv(10) == b"", wait
        thread.kill()


@in_own_process()
def test_socket_object_dropped_after_a_killed_recv_sends_fin_at_once():
    import gc

    import eventlet
    from traps.wire import let_block, readable_by_kernel, tcp_pair

    client, server = tcp_pair()
    thread = eventlet.spawn(server.recv, 10)
    let_block()
    thread.kill()
    del server, thread
    gc.collect()
    eventlet.sleep(0)
    assert readable_by_kernel(client), "no FIN after the last reference went"
    assert client.fd.recv(10) == b""


@in_own_process()
def test_listener_closed_with_an_accept_in_flight_refuses_at_once():
    import eventlet
    from traps.wire import kernel_connection, let_block, listening

    listener = listening()
    address = listener.getsockname()

    def acceptor():
        try:
            with eventlet.Timeout(3, False):
                listener.accept()
        except (OSError, EOFError):
            pass

    thread = eventlet.spawn(acceptor)
    let_block()
    listener.close()
    eventlet.sleep(0)
    try:
        kernel_connection(address)
    except ConnectionRefusedError:
        pass
    else:
        raise AssertionError("a closed listener still takes connections")
    thread.kill()


@in_own_process()
def test_port_of_a_closed_listener_can_be_bound_again_at_once():
    import eventlet
    from eventlet.green import socket
    from traps.wire import let_block, listening

    for _ in range(20):
        listener = listening()
        address = listener.getsockname()
        thread = eventlet.spawn(lambda listener=listener: listener.accept())
        let_block()
        thread.kill()
        listener.close()
        again = socket.socket()
        again.bind(address)
        again.listen(1)
        again.close()


@in_own_process()
def test_shutdown_by_another_green_thread_ends_a_recv():
    import eventlet
    from eventlet.green import socket
    from traps.wire import let_block, tcp_pair

    _, server = tcp_pair()
    thread = eventlet.spawn(server.recv, 10)
    let_block()
    server.shutdown(socket.SHUT_RDWR)
    with eventlet.Timeout(5):
        assert thread.wait() == b""


@in_own_process(hubs=isolated.OURS)
def test_recv_of_a_socket_closed_by_another_green_thread_ends():
    """The stock hubs leave it waiting until the fd number is reused."""
    import eventlet
    from traps.wire import let_block, tcp_pair

    _, server = tcp_pair()

    def reader():
        try:
            return server.recv(10)
        except (OSError, EOFError) as e:
            return e

    thread = eventlet.spawn(reader)
    let_block()
    server.close()
    with eventlet.Timeout(5):
        assert thread.wait() == b"" or isinstance(thread.wait(), (OSError, EOFError))


@in_own_process()
def test_new_socket_on_a_reused_fd_is_not_disturbed_by_the_old_one():
    """1.

    Recv on fd N. 2. N is closed. 3. A new socket gets N and waits. 4. It alone gets what is sent to it.
    """
    import eventlet
    from eventlet.green import socket
    from traps.wire import let_block, listening

    listener = listening()
    for number in range(30):
        old = socket.socket()
        old.connect(listener.getsockname())
        old_far, _ = listener.accept()
        fd = old.fileno()

        def old_reader(old=old):
            try:
                return old.recv(10)
            except (OSError, EOFError) as e:
                return e

        old_thread = eventlet.spawn(old_reader)
        let_block()
        old.close()
        new = socket.socket()
        assert new.fileno() == fd, "the kernel gives out the lowest free fd"
        new.connect(listener.getsockname())
        new_far, _ = listener.accept()
        new_thread = eventlet.spawn(new.recv, 10)
        let_block()
        new_far.sendall(b"%d" % number)
        with eventlet.Timeout(5):
            assert new_thread.wait() == b"%d" % number
            old_result = old_thread.wait()
        assert old_result == b"" or isinstance(old_result, (OSError, EOFError)), old_result
        for sock in (new, new_far, old_far):
            sock.close()


@in_own_process()
def test_bytes_of_a_killed_recv_do_not_reach_the_next_socket_on_its_fd():
    """1. Two green threads wait; bytes for both arrive in one turn. 2. The first to run closes the other's
    socket, opens a new one on the same fd and kills the other. 3. The new socket has its own bytes alone.
    """
    import eventlet
    from eventlet.green import socket
    from traps.wire import let_block, listening, tcp_pair

    listener = listening()
    for _ in range(10):
        bell, ringer = tcp_pair()
        far, old = tcp_pair()
        new, victims = [], []

        def first(bell=bell, old=old, new=new, victims=victims):
            bell.recv(1)
            fd = old.fileno()
            old.close()
            new.append(socket.socket())
            while new[-1].fileno() != fd:
                new.append(socket.socket())
            if not victims[0].dead:
                victims[0].kill()

        def second(old=old):
            try:
                old.recv(100)
            except (OSError, EOFError):
                pass

        thread = eventlet.spawn(first)
        let_block()
        victims.append(eventlet.spawn(second))
        let_block()
        ringer.fd.send(b"!")
        far.fd.send(b"of the old socket")
        thread.wait()
        sock = new[-1]
        sock.connect(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.sendall(b"of the new one")
        with eventlet.Timeout(5):
            got = sock.recv(100)
        assert got == b"of the new one", got
        for end in (*new, accepted, far, bell, ringer):
            end.close()


@in_own_process()
def test_recv_resumed_after_its_socket_was_closed_takes_nothing_from_the_next_one_on_its_fd():
    """1. Two green threads wait; one turn brings a byte for the first, more than a buffer for the other.
    2. The first closes the other's socket and opens one, with bytes in it, on the same fd. 3. The other
    returns bytes of its own socket alone, or an error; the new socket still has all of its bytes.
    """
    import eventlet
    from eventlet.green import socket
    from traps.wire import let_block, real_socket, tcp_pair

    for wait in ("recv", "recv_into"):
        for _ in range(5):
            bell, ringer = tcp_pair()
            far, old = tcp_pair()
            opened = []

            def first(bell=bell, old=old, opened=opened):
                bell.recv(1)
                fd = old.fileno()
                old.close()
                while not opened or fd not in (opened[-1][0].fileno(), opened[-1][1].fileno()):
                    opened.append(real_socket.socketpair())
                for one, other in opened:
                    one.send(b"of the new one")
                    other.send(b"of the new one")

            def second(old=old, wait=wait):
                buffer = bytearray(20_000)
                try:
                    if wait == "recv":
                        return old.recv(20_000)
                    return bytes(buffer[: old.recv_into(buffer)])
                except (OSError, EOFError):
                    return b""

            thread = eventlet.spawn(first)
            let_block()
            victim = eventlet.spawn(second)
            let_block()
            ringer.fd.send(b"!")
            far.fd.send(b"o" * 9000)
            thread.wait()
            hubs_notice = socket.socket()  # on the stock hubs this ends a wait on a reused fd
            hubs_notice.close()
            with eventlet.Timeout(2, False):
                got = victim.wait()
                assert got == b"o" * len(got), (wait, got[:8], got[-20:])
            victim.kill()
            for one, other in opened:
                for end in (one, other):
                    end.setblocking(False)
                    assert end.recv(100) == b"of the new one", wait
                    end.close()


@in_own_process()
def test_sendall_whose_socket_was_closed_sends_nothing_to_the_next_one_on_its_fd():
    """1. sendall has sent a part and waits for room. 2. Its socket is closed and the fd given to another.
    3. The sender gets an error, or waits on; the other connection carries nothing of it.
    """
    import eventlet
    from eventlet.green import socket
    from traps.wire import let_block, real_socket, tcp_pair

    for drained in (0, 50_000, 500_000):
        far, old = tcp_pair()
        old.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

        def send(old=old):
            try:
                old.sendall(b"o" * 20_000_000)
                return "all sent"
            except OSError as e:
                return e

        sender = eventlet.spawn(send)
        let_block()
        received = 0
        while received < drained:  # room arises, so that the operation makes progress
            received += len(far.recv(65536))
        fd, opened = old.fileno(), []
        old.close()
        while not opened or fd not in (opened[-1][0].fileno(), opened[-1][1].fileno()):
            opened.append(real_socket.socketpair())
        let_block()
        eventlet.sleep(0.01)
        for pair in opened:
            for end in pair:
                end.setblocking(False)
                try:
                    got = end.recv(100)
                except BlockingIOError:
                    got = b""
                assert got == b"", f"{got[:10]} was sent to another connection, {drained} drained before"
        sender.kill()
        for pair in opened:
            for end in pair:
                end.close()


@in_own_process()
def test_operations_leave_the_table_and_fds_the_process_when_all_is_closed():
    import gc
    import os

    import eventlet
    from eventlet import hubs
    from traps.wire import let_block, operations_in_flight, tcp_pair

    tcp_pair()
    gc.collect()
    eventlet.sleep(0.001)  # the hub has opened by now what it keeps

    def open_files():
        """Without the one that lists them."""
        listed = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
        return [os.readlink(link) for link in listed if os.path.lexists(link)]

    before = open_files()
    pairs = [tcp_pair() for _ in range(50)]
    threads = [eventlet.spawn(server.recv_into, bytearray(1000)) for _, server in pairs]
    let_block()
    for thread in threads:
        thread.kill()
    for pair in pairs:
        for sock in pair:
            sock.close()
    for _ in range(20):
        eventlet.sleep(0.001)
    assert operations_in_flight() == 0
    assert len(open_files()) <= len(before), (before, open_files())
    assert not list(hubs.get_hub().get_readers())


EXITS = {
    "returns": "pass",
    "raises SystemExit": "raise SystemExit(0)",
    "calls os._exit": "import os; os._exit(0)",
    "drops the hub": "from eventlet import hubs; hubs._threadlocal.__dict__.clear(); import gc; gc.collect()",
}


@pytest.mark.parametrize("exit_", EXITS)
def test_process_with_operations_in_flight_exits_cleanly(hub, exit_):
    require_hub(hub)
    program = """
        import eventlet, sys
        from eventlet import hubs
        from eventlet.green import socket
        from traps.wire import let_block, listening, tcp_pair
        pairs = [tcp_pair() for _ in range(30)]
        listener = listening()
        for near, far in pairs:
            eventlet.spawn_n(near.recv, 65536)
            eventlet.spawn_n(far.sendall, b"x" * 10_000_000)
        eventlet.spawn_n(listener.accept)
        for near, _ in pairs[:5]:
            eventlet.spawn_n(lambda: eventlet.sleep(1000))
        let_block()
        del pairs, near, far, listener
        print("leaving", flush=True)
        {}
        """
    done = isolated.run(
        program.format(EXITS[exit_]),
        hub=hub,
        env={"PYTHONPATH": str(isolated.Path(__file__).parents[1]), "PYTHONWARNINGS": "ignore"},
        timeout_s=20,
    )
    assert done.stdout.split() == ["leaving"] and not done.stderr, done.stderr


@in_own_process()
def test_thread_that_ends_with_operations_in_flight_leaves_the_others_alone():
    import eventlet
    from eventlet import patcher
    from traps.wire import let_block, tcp_pair

    threading = patcher.original("threading")
    client, server = tcp_pair()
    mine = eventlet.spawn(server.recv, 10)
    let_block()
    failures = []

    def other():
        try:
            pairs = [tcp_pair() for _ in range(10)]
            for near, _ in pairs:
                eventlet.spawn_n(near.recv_into, bytearray(100))
            let_block()
        except BaseException as e:
            failures.append(e)

    for _ in range(3):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert not failures, failures
    client.sendall(b"still here")
    with eventlet.Timeout(5):
        assert mine.wait() == b"still here"


@in_own_process()
def test_buffer_that_is_being_sent_can_be_resized_while_that_waits():
    import eventlet
    from traps.wire import let_block, tcp_pair

    size = 8_000_000
    data = bytearray(b"0123456789abcdef" * (size // 16))
    for make in (lambda: data, lambda: memoryview(bytes(data))):
        client, server = tcp_pair()
        sender = eventlet.spawn(client.sendall, make())
        let_block()
        data += b"!"
        del data[size:]
        got = bytearray()
        with eventlet.Timeout(20):
            while len(got) < size:
                got += server.recv(1 << 20)
            sender.wait()
        assert got == data
        client.close()
        server.close()
