"""Trap 5: parent and child never share a ring."""

import isolated
from programs.own_process import in_own_process


def wait_for(pid):
    """Reaps `pid` and returns its exit status; a child that hangs is killed."""
    import os
    import signal

    import eventlet

    try:
        with eventlet.Timeout(15):
            while True:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    return os.waitstatus_to_exitcode(status)
                eventlet.sleep(0.005)
    except eventlet.Timeout:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return "hung"


def in_child(body):
    """Forks; the child runs `body` and leaves without the interpreter's exit; returns the child's pid."""
    import os
    import traceback

    pid = os.fork()
    if pid == 0:
        try:
            body()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return pid


def green_round_trip():
    """Sleeping, spawning and sockets all work in this process."""
    import eventlet
    from traps.wire import tcp_pair

    client, server = tcp_pair()
    with eventlet.Timeout(10):
        reader = eventlet.spawn(server.recv, 100)
        eventlet.sleep(0.001)
        client.sendall(b"ping")
        assert reader.wait() == b"ping"
        assert eventlet.spawn(lambda: 42).wait() == 42
    client.close()
    server.close()


@in_own_process()
def test_fork_before_the_hub_ran_leaves_both_working():
    from eventlet import hubs

    hubs.get_hub()
    pid = in_child(green_round_trip)
    green_round_trip()
    assert wait_for(pid) == 0


@in_own_process()
def test_fork_in_a_green_thread_leaves_both_working():
    import eventlet

    green_round_trip()
    pid = eventlet.spawn(in_child, green_round_trip).wait()
    green_round_trip()
    assert wait_for(pid) == 0


@in_own_process()
def test_child_that_calls_use_hub_again_works():
    """What oslo.service children, gunicorn workers and Nova do."""
    from eventlet import hubs

    def child():
        hubs.use_hub()
        green_round_trip()

    green_round_trip()
    pid = in_child(child)
    green_round_trip()
    assert wait_for(pid) == 0


def open_as_a_daemon_does():
    """Closes every inherited number but the standard streams', and opens files: they get the same numbers."""
    import os
    import tempfile

    os.closerange(3, 256)
    return [tempfile.TemporaryFile() for _ in range(32)]


def assert_kept(files):
    """Each is still the file that was opened, and can be written to."""
    import os

    for number, file in enumerate(files):
        assert os.fstat(file.fileno()).st_size == 0, "another's bytes"
        file.write(b"%d" % number)
        file.flush()
        assert os.pread(file.fileno(), 10, 0) == b"%d" % number


# The stock hub goes on with a number that is no epoll set any more.
@in_own_process(hubs=isolated.OURS)
def test_daemon_that_closed_all_numbers_has_a_working_hub_and_keeps_the_files_it_opened():
    green_round_trip()

    def daemon():
        files = open_as_a_daemon_does()
        green_round_trip()
        assert_kept(files)

    pid = in_child(daemon)
    green_round_trip()
    assert wait_for(pid) == 0


@in_own_process(hubs=isolated.OURS)
def test_child_that_ends_its_inherited_waits_leaves_the_parents_alone():
    """The stock hub's epoll set is shared: its child would take the parent's registrations away.

    1. The parent waits in recv. 2. It forks; the child runs its own hub. 3. The bytes reach the parent."""
    import eventlet
    from traps.wire import let_block, tcp_pair

    pairs = [tcp_pair() for _ in range(10)]
    readers = [eventlet.spawn(server.recv, 100) for _, server in pairs]
    let_block()

    def child():
        for thread in readers:
            thread.kill()
        for pair in pairs:
            for sock in pair:
                sock.close()
        green_round_trip()

    pid = in_child(child)
    status = wait_for(pid)
    for number, (client, _) in enumerate(pairs):
        client.sendall(b"for the parent %d" % number)
    with eventlet.Timeout(10):
        for number, thread in enumerate(readers):
            assert thread.wait() == b"for the parent %d" % number
    assert status == 0


@in_own_process()
def test_grandchildren_work():
    def child():
        green_round_trip()
        pid = in_child(green_round_trip)
        green_round_trip()
        assert wait_for(pid) == 0

    green_round_trip()
    assert wait_for(in_child(child)) == 0


@in_own_process()
def test_child_that_ends_by_the_interpreters_exit_leaves_the_parent_alone():
    import os
    import sys

    import eventlet
    from traps.wire import let_block, tcp_pair

    client, server = tcp_pair()
    reader = eventlet.spawn(server.recv, 100)
    let_block()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        sys.exit(7)
    status = wait_for(pid)
    assert status == 7, status
    client.sendall(b"after")
    with eventlet.Timeout(5):
        assert reader.wait() == b"after"


@in_own_process()
def test_program_that_a_green_thread_starts_inherits_no_descriptor_of_the_hub():
    import subprocess

    import eventlet
    from traps.wire import let_block, tcp_pair

    _, server = tcp_pair()
    thread = eventlet.spawn(server.recv, 1)
    let_block()
    command = ["/bin/ls", "-l", "/proc/self/fd"]
    kept = subprocess.run(command, capture_output=True, text=True, close_fds=False).stdout
    assert "io_uring" not in kept and "eventpoll" not in kept and "eventfd" not in kept, kept
    thread.kill()


@in_own_process(patched=True, timeout_s=60)
def test_multiprocessing_by_fork_works_with_green_threads_waiting():
    import multiprocessing

    import eventlet
    from traps.wire import let_block, tcp_pair

    client, server = tcp_pair()
    reader = eventlet.spawn(server.recv, 100)
    let_block()
    context = multiprocessing.get_context("fork")
    near, far = context.Pipe()

    def child(connection):
        green_round_trip()
        connection.send({"sum": sum(connection.recv())})

    process = context.Process(target=child, args=(far,))
    process.start()
    near.send(list(range(100)))
    with eventlet.Timeout(20):
        assert near.recv() == {"sum": 4950}
        process.join()
    assert process.exitcode == 0
    client.sendall(b"parent")
    assert reader.wait() == b"parent"


@in_own_process(timeout_s=60)
def test_prefork_children_with_hubs_of_their_own_answer_every_connection():
    from eventlet import hubs

    prefork(in_child_first=hubs.use_hub)


@in_own_process(timeout_s=60, hubs=isolated.OURS)
def test_prefork_children_that_go_on_with_the_inherited_hub_answer_every_connection():
    """On the stock hub they would share its epoll set, and take each other's registrations away."""
    prefork(in_child_first=lambda: None)


def prefork(in_child_first):
    """Three children on one listener; 150 connections; each is answered, and each child ends when told to."""
    import os

    import eventlet
    from eventlet import hubs
    from traps.wire import kernel_connection, listening

    listener = listening(128)
    stop_read, stop_write = os.pipe()

    def serve():
        in_child_first()
        os.close(stop_write)

        def stop():
            hubs.trampoline(stop_read, read=True)
            acceptor.kill()

        def accept():
            while True:
                sock, _ = listener.accept()
                pool.spawn_n(answer, sock)

        def answer(sock):
            sock.sendall(b"%d:" % os.getpid() + sock.recv(10))
            sock.close()

        pool = eventlet.GreenPool()
        acceptor = eventlet.spawn(accept)
        stop()
        pool.waitall()

    children = [in_child(serve) for _ in range(3)]
    os.close(stop_read)
    served_by = set()
    for number in range(150):
        with kernel_connection(listener.getsockname()) as client:
            client.settimeout(10)
            client.sendall(b"%d" % number)
            pid, echoed = client.recv(100).split(b":")
            assert echoed == b"%d" % number
            served_by.add(int(pid))
    assert served_by <= set(children)
    os.close(stop_write)
    statuses = [wait_for(pid) for pid in children]
    assert statuses == [0, 0, 0], statuses
