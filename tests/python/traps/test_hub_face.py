"""Trap 12 and bad input: what a program that speaks to the hub itself finds, and how mistakes are told."""

import isolated
import pytest
from programs.own_process import in_own_process, require_hub


@in_own_process(hubs=isolated.OURS)
def test_hub_is_an_asyncio_hub_to_isinstance_and_allows_several_readers():
    import eventlet
    from eventlet import debug, hubs
    from eventlet.hubs import asyncio as asyncio_hub
    from traps.wire import let_block, tcp_pair

    assert isinstance(hubs.get_hub(), asyncio_hub.Hub)
    debug.hub_prevent_multiple_readers(False)
    client, server = tcp_pair()
    readers = [eventlet.spawn(server.recv, 1) for _ in range(3)]
    let_block()
    client.sendall(b"abc")
    with eventlet.Timeout(5):
        assert sorted(reader.wait() for reader in readers) == [b"a", b"b", b"c"]


@in_own_process(hubs=(isolated.EPOLLS,))
def test_stock_hub_serves_several_readers_once_they_are_allowed():
    """The contract for the test above."""
    import eventlet
    from eventlet import debug
    from traps.wire import let_block, tcp_pair

    debug.hub_prevent_multiple_readers(False)
    client, server = tcp_pair()
    readers = [eventlet.spawn(server.recv, 1) for _ in range(3)]
    let_block()
    client.sendall(b"abc")
    with eventlet.Timeout(5):
        assert sorted(reader.wait() for reader in readers) == [b"a", b"b", b"c"]


@in_own_process()
def test_second_reader_is_refused_by_default_and_the_first_goes_on():
    import eventlet
    from traps.wire import let_block, tcp_pair

    client, server = tcp_pair()
    first = eventlet.spawn(server.recv, 10)
    let_block()
    try:
        with eventlet.Timeout(2):
            server.recv(10)
    except RuntimeError as e:
        assert "Second simultaneous read" in str(e), e
    else:
        raise AssertionError("a second reader was let in")
    client.sendall(b"first")
    with eventlet.Timeout(5):
        assert first.wait() == b"first"


@in_own_process()
def test_reader_and_writer_of_one_socket_wait_at_the_same_time():
    import eventlet
    from traps.wire import let_block, tcp_pair

    client, server = tcp_pair()
    block = b"w" * 8_000_000
    writer = eventlet.spawn(server.sendall, block)
    reader = eventlet.spawn(server.recv, 10)
    let_block()
    client.fd.send(b"read me")
    with eventlet.Timeout(10):
        assert reader.wait() == b"read me"
        received = 0
        while received < len(block):
            received += len(client.recv(1 << 20))
        writer.wait()


@in_own_process(hubs=isolated.OURS)
def test_coroutine_runs_as_a_green_thread_and_awaits_one():
    import asyncio

    import eventlet
    from eventlet.asyncio import spawn_for_awaitable

    def green():
        eventlet.sleep(0.001)
        return "green"

    async def coroutine():
        await asyncio.sleep(0.001)
        return await eventlet.spawn(green) + " in a task"

    with eventlet.Timeout(5):
        assert spawn_for_awaitable(coroutine()).wait() == "green in a task"


@in_own_process(silent=False)
def test_bad_fd_raises_at_once():
    import errno
    import os

    import eventlet
    from eventlet import hubs
    from eventlet.green import socket

    read_end, write_end = os.pipe()
    os.close(read_end)
    os.close(write_end)
    for fd in (-1, read_end, 1_000_000):
        for direction in ({"read": True}, {"write": True}):
            try:
                with eventlet.Timeout(2):
                    hubs.trampoline(fd, **direction)
            except ValueError:
                pass
            except OSError as e:
                assert e.errno == errno.EBADF, e
            else:
                raise AssertionError(f"trampoline accepted fd {fd}")
    closed = socket.socket()
    closed.close()
    for operation in (
        lambda: closed.recv(1),
        lambda: closed.recv_into(bytearray(1)),
        lambda: closed.recvfrom(1),
        lambda: closed.send(b"x"),
        lambda: closed.sendall(b"x"),
        lambda: closed.sendto(b"x", ("127.0.0.1", 9)),
        lambda: closed.accept(),
        lambda: closed.connect(("127.0.0.1", 9)),
    ):
        try:
            with eventlet.Timeout(2):
                operation()
        except OSError as e:
            assert e.errno == errno.EBADF, e
        else:
            raise AssertionError("an operation on a closed socket succeeded")
    hub = hubs.get_hub()
    # The stock hubs keep the listener they refused; its IOClosed comes later, to whoever runs then.
    if type(hub).__module__.startswith("uringhub"):
        assert not list(hub.get_readers()) and not list(hub.get_writers())
        assert eventlet.spawn(lambda: 7).wait() == 7


@in_own_process()
def test_unwanted_arguments_raise_what_the_standard_library_raises():
    from traps.wire import tcp_pair

    _, server = tcp_pair()
    for call, kind in (
        (lambda: server.recv("many"), TypeError),
        (lambda: server.recv(-1), ValueError),
        (lambda: server.recv_into(b"read-only"), TypeError),
        (lambda: server.recv_into(bytearray(5), 10), ValueError),
        (lambda: server.send("text"), TypeError),
        (lambda: server.sendall(None), TypeError),
        (lambda: server.settimeout(-1), ValueError),
        (lambda: server.settimeout("soon"), TypeError),
        (lambda: server.connect("nowhere"), TypeError),
    ):
        try:
            call()
        except kind:
            pass
        else:
            raise AssertionError(f"expected {kind}")


@in_own_process()
def test_failed_connects_raise_the_errno_of_the_kernel():
    import errno

    from eventlet.green import socket
    from traps.wire import listening

    listener = listening()
    free = listener.getsockname()
    listener.close()
    sock = socket.socket()
    try:
        sock.connect(free)
    except ConnectionRefusedError as e:
        assert e.errno == errno.ECONNREFUSED
    else:
        raise AssertionError("connected to a closed port")
    again = socket.socket()
    assert again.connect_ex(free) == errno.ECONNREFUSED
    timed = socket.socket()
    timed.settimeout(5)
    assert timed.connect_ex(free) == errno.ECONNREFUSED
    unix = socket.socket(socket.AF_UNIX)
    try:
        unix.connect("/nonexistent/socket")
    except FileNotFoundError:
        pass
    else:
        raise AssertionError("connected to no file")


def test_exception_of_a_timer_callback_is_printed_and_stops_nothing(hub):
    require_hub(hub)
    done = isolated.run(
        """
        import eventlet
        from eventlet import hubs
        hub = hubs.get_hub()
        def fail():
            raise LookupError("from the callback")
        def later():
            print("the next callback ran", flush=True)
        hub.schedule_call_global(0, fail)
        hub.schedule_call_global(0, later)
        eventlet.sleep(0.01)
        print("the program goes on", flush=True)
        """,
        hub=hub,
    )
    assert "LookupError: from the callback" in done.stderr and "in fail" in done.stderr
    assert done.stdout.splitlines() == ["the next callback ran", "the program goes on"]


def test_exception_of_a_green_thread_is_printed_and_raised_to_its_waiter_alone(hub):
    require_hub(hub)
    done = isolated.run(
        """
        import eventlet
        def fail():
            raise LookupError("from the thread")
        eventlet.spawn_n(fail)
        thread = eventlet.spawn(fail)
        other = eventlet.spawn(eventlet.sleep, 0.01)
        try:
            thread.wait()
        except LookupError as e:
            print("waiter got", e)
        other.wait()
        print("others go on")
        """,
        hub=hub,
    )
    assert done.stderr.count("LookupError: from the thread") == 2, done.stderr
    assert done.stdout.splitlines() == ["waiter got from the thread", "others go on"]


def test_exception_of_a_listener_callback_is_printed_and_stops_nothing(hub):
    require_hub(hub)
    done = isolated.run(
        """
        import os, eventlet
        from eventlet import hubs
        hub = hubs.get_hub()
        read_end, write_end = os.pipe()
        def fail(fd):
            raise LookupError("from the listener")
        hub.add(hub.READ, read_end, fail, lambda e: None, None)
        os.write(write_end, b"!")
        eventlet.sleep(0.05)
        print("goes on", flush=True)
        """,
        hub=hub,
    )
    assert "LookupError: from the listener" in done.stderr
    assert done.stdout == "goes on\n"


def test_silenced_timer_exceptions_stay_silent(hub):
    """eventlet.debug.hub_exceptions(False), which Swift's servers call."""
    require_hub(hub)
    done = isolated.run(
        """
        import eventlet, eventlet.debug
        from eventlet import hubs
        eventlet.debug.hub_exceptions(False)
        hubs.get_hub().schedule_call_global(0, lambda: 1 / 0)
        eventlet.sleep(0.01)
        """,
        hub=hub,
    )
    assert "ZeroDivisionError" not in done.stderr


def test_unknown_driver_is_refused_with_the_valid_values(our_hub):
    require_hub(our_hub)
    done = isolated.run(
        "import eventlet\neventlet.sleep(0)",
        hub=our_hub,
        env={"URINGHUB_DRIVER": "kqueue"},
        check=False,
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert all(word in last for word in ("URINGHUB_DRIVER", "kqueue", "auto", "uring", "epoll")), done.stderr


def test_hub_that_finds_a_full_fd_table_says_so_with_errno_operation_and_remedy(our_hub):
    require_hub(our_hub)
    done = isolated.run(
        """
        import errno, os, resource, eventlet
        import uringhub.hub
        from eventlet import hubs
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, hard))
        fillers = []
        try:
            while True:
                fillers.append(os.dup(0))
        except OSError:
            pass
        try:
            hubs.get_hub()
            eventlet.sleep(0.001)
        except OSError as e:
            print(e.errno == errno.EMFILE, e)
        for fd in fillers:
            os.close(fd)
        """,
        hub=our_hub,
    )
    assert done.stdout.startswith("True "), done.stdout + done.stderr
    assert "ulimit -n" in done.stdout or "RLIMIT_NOFILE" in done.stdout, done.stdout


@pytest.mark.parametrize("name", ["uring", "uringhub.hub"])
def test_hub_is_found_by_either_name(our_hub, name):
    require_hub(our_hub)
    done = isolated.run(
        "from eventlet import hubs; print(type(hubs.get_hub()).__module__)",
        hub=our_hub,
        env={"EVENTLET_HUB": name},
    )
    assert done.stdout.startswith("uringhub")
