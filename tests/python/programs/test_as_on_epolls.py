"""Programs that use a hub's less travelled ways, each the same on epolls and on both drivers (or, where epolls has
nothing like it, as on the asyncio hub)."""

import isolated
from programs.own_process import in_own_process


@in_own_process()
def test_thread_pool_of_a_monkey_patched_program_runs_green_threads():
    import eventlet

    eventlet.monkey_patch()
    import concurrent.futures
    import time

    get_ident = eventlet.patcher.original("threading").get_ident

    def square(number):
        time.sleep(0.01)
        return number * number, get_ident()

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        results = list(pool.map(square, range(6)))
        waited = concurrent.futures.wait([pool.submit(square, 3), pool.submit(square, 4)], timeout=5)
    assert results == [(number * number, get_ident()) for number in range(6)]
    assert len(waited.done) == 2


@in_own_process(hubs=isolated.OURS)
def test_asyncio_in_a_green_thread_has_os_threads_for_its_executor():
    import eventlet

    eventlet.monkey_patch()
    import asyncio

    get_ident = eventlet.patcher.original("threading").get_ident

    async def main():
        loop = asyncio.get_running_loop()
        in_pool = await asyncio.gather(*(loop.run_in_executor(None, get_ident) for _ in range(50)))
        return in_pool, await asyncio.to_thread(get_ident)

    idents, one = eventlet.spawn(asyncio.run, main()).wait()
    assert get_ident() not in {*idents, one}


@in_own_process()
def test_methods_of_a_wrapped_object_are_called():
    import socket as stock

    from eventlet import greenio

    class Shouting(stock.socket):
        def recv(self, *args):
            return super().recv(*args).upper()

        def recv_into(self, buffer, *args):
            data = self.recv(len(buffer))
            buffer[: len(data)] = data
            return len(data)

    left, right = stock.socketpair()
    green = greenio.GreenSocket(Shouting(fileno=left.detach()))
    right.sendall(b"hello")
    assert green.recv(2) == b"HE"
    buffer = bytearray(3)
    assert (green.recv_into(buffer), bytes(buffer)) == (3, b"LLO")


@in_own_process()
def test_sendall_calls_an_overridden_send():
    import socket as stock

    from eventlet import greenio

    class Counting(greenio.GreenSocket):
        sent = 0

        def send(self, data, flags=0):
            self.sent += len(data)
            return super().send(data, flags)

    left, right = stock.socketpair()
    counting = Counting(left)
    counting.sendall(b"abc")
    assert (counting.sent, right.recv(10)) == (3, b"abc")


@in_own_process()
def test_scheduled_calls_take_keyword_arguments_of_any_name():
    import eventlet
    from eventlet import greenthread, hubs

    got = []
    hub = hubs.get_hub()
    hub.schedule_call_global(0, lambda callback: got.append(callback), callback=1)
    hub.schedule_call_local(0, lambda callback: got.append(callback), callback=2)
    hub.schedule_call_global(seconds=0, cb=lambda: got.append(3))
    greenthread.call_after_global(0, lambda callback: got.append(callback), callback=4)
    eventlet.sleep(0.01)
    assert got == [1, 2, 3, 4]


@in_own_process()
def test_objects_of_ctypes_can_be_sent():
    import ctypes

    from eventlet.green import socket

    class Pair(ctypes.Structure):
        _fields_ = [("number", ctypes.c_int32), ("small", ctypes.c_int16)]

    left, right = socket.socketpair()
    assert left.send(Pair(1, 2)) == 8
    assert bytes(Pair.from_buffer_copy(right.recv(100))) == bytes(Pair(1, 2))
    left.sendall((ctypes.c_uint8 * 4)(1, 2, 3, 4))
    buffer = (ctypes.c_uint8 * 4)()
    assert (right.recv_into(buffer), bytes(buffer)) == (4, b"\x01\x02\x03\x04")


@in_own_process()
def test_datagram_on_the_number_of_a_detached_stream_is_whole():
    import os

    from eventlet.green import socket

    left, right = socket.socketpair()
    right.sendall(b"x")
    left.recv(1)
    number = left.fd.detach()
    os.close(number)
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver, sender = pair if pair[0].fileno() == number else pair[::-1]
    assert receiver.fileno() == number
    sender.send(b"A" * 100_000)
    assert len(receiver.recv(200_000)) == 100_000


@in_own_process()
def test_absurd_descriptor_is_ebadf_and_costs_no_memory():
    import errno
    import resource

    from eventlet import hubs

    hubs.get_hub()
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    for action in (lambda: hubs.trampoline(2**31 - 1, read=True), lambda: hubs.notify_opened(2**31 - 1)):
        try:
            action()
        except OSError as error:
            assert error.errno == errno.EBADF


@in_own_process()
def test_second_reader_is_no_conflict_where_the_first_has_its_bytes():
    import eventlet
    from eventlet.green import socket

    left, right = socket.socketpair()
    right.sendall(b"xy")
    readers = [eventlet.spawn(left.recv, 1) for _ in range(2)]
    assert [reader.wait() for reader in readers] == [b"x", b"y"]


@in_own_process()
def test_sendall_that_must_not_wait_does_not_spin():
    import time

    import eventlet
    from eventlet.green import socket

    left, right = socket.socketpair()
    sender = eventlet.spawn(left.sendall, b"x" * 3_000_000, socket.MSG_DONTWAIT)
    before = time.process_time()
    got = 0
    while got < 3_000_000:
        eventlet.sleep(0.01)
        got += len(right.recv(100_000))
    sender.wait()
    assert time.process_time() - before < 0.3


@in_own_process()
def test_listener_on_a_reused_number_is_told_while_others_only_yield():
    import os

    import eventlet
    from eventlet import hubs

    hub = hubs.get_hub()
    reader, _writer = os.pipe()
    ends = []

    def waiting():
        current = eventlet.getcurrent()
        listener = hub.add(hub.READ, reader, current.switch, current.throw, lambda: None)
        try:
            hub.switch()
        except hubs.IOClosed:
            ends.append("IOClosed")
        finally:
            hub.remove(listener)

    eventlet.spawn(waiting)
    eventlet.sleep(0.01)
    os.close(reader)
    hubs.notify_opened(reader)
    for _ in range(10):
        eventlet.sleep(0)
    assert ends == ["IOClosed"]


@in_own_process()
def test_file_that_is_detached_or_a_pipe_that_is_closed_under_a_reader_is_gone_at_once():
    import os
    import select

    import eventlet
    from eventlet import greenio
    from eventlet.green import socket

    def quietly(function, *args):
        try:
            function(*args)
        except (OSError, ValueError):
            pass

    left, right = socket.socketpair()
    reader = eventlet.spawn(quietly, left.recv, 1)
    eventlet.sleep(0.01)
    os.close(left.fd.detach())
    assert select.select([right.fd], [], [], 1)[0], "no end of stream"
    reader.kill()
    number, writer = os.pipe()
    pipe = greenio.GreenPipe(number, "rb", 0)
    reader = eventlet.spawn(quietly, pipe.read, 1)
    eventlet.sleep(0.01)
    pipe.close()
    try:
        os.write(writer, b"x")
        raise AssertionError("the read end is still open")
    except BrokenPipeError:
        pass
    reader.kill()


@in_own_process()
def test_threads_that_ended_leave_nothing_behind():
    import gc
    import os

    import eventlet
    from eventlet import patcher
    from eventlet.green import socket

    threading = patcher.original("threading")

    def work():
        left, right = socket.socketpair()
        reader = eventlet.spawn(left.recv, 1)
        eventlet.sleep(0.001)
        right.send(b"x")
        assert reader.wait() == b"x"
        # Left in its wait.
        eventlet.spawn(eventlet.sleep, 100)
        eventlet.sleep(0)

    def run(count):
        for _ in range(count):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = run(5)
    # Eventlet's own hub keeps an epoll set for each.
    per_thread = (run(30) - before) / 30
    assert per_thread <= 1, per_thread


@in_own_process(hubs=isolated.OURS)
def test_bytes_of_a_killed_receive_belong_to_the_file_and_not_to_the_object():
    from eventlet.green import socket
    from programs.killed_receive import socket_with_bytes_of_a_killed_receive

    left, _right = socket_with_bytes_of_a_killed_receive(b"hello")
    again = socket.socket(fileno=left.fd.detach())
    assert again.recv(100) == b"hello"


@in_own_process(hubs=isolated.OURS)
def test_bytes_of_a_killed_receive_are_not_doubled_by_a_fork():
    import os

    from programs.killed_receive import socket_with_bytes_of_a_killed_receive

    def received(green):
        green.settimeout(0.3)
        try:
            return len(green.recv(100))
        except TimeoutError:
            return 0

    left, _right = socket_with_bytes_of_a_killed_receive(b"hello")
    pid = os.fork()
    if not pid:
        os._exit(received(left))
    in_child = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert in_child + received(left) == 5


@in_own_process()
def test_forking_server_whose_children_close_the_listener_goes_on_accepting():
    import os

    import eventlet
    from eventlet.green import socket

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(5)

    def serve():
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                connection.sendall(b"hi")
                connection.close()
                os._exit(0)
            connection.close()

    eventlet.spawn(serve)
    for _ in range(5):
        eventlet.sleep(0.02)
        with eventlet.Timeout(5):
            assert eventlet.connect(listener.getsockname()).recv(10) == b"hi"


@in_own_process(hubs=isolated.OURS)
def test_bytes_of_a_killed_receive_are_seen_by_every_way_to_read_the_socket():
    import os

    from eventlet.green import os as green_os
    from eventlet.green import socket
    from programs.killed_receive import socket_with_bytes_of_a_killed_receive

    def with_bytes():
        left, right = socket_with_bytes_of_a_killed_receive(b"hello")
        right.sendall(b" world")
        return left

    assert with_bytes().recvmsg(100) == (b"hello", [], 0, None)
    left = with_bytes()
    assert left.recvmsg(100, 0, socket.MSG_PEEK)[0] == b"hello"
    buffers = bytearray(2), bytearray(2)
    assert left.recvmsg_into(buffers)[0] == 4
    assert (buffers, left.recvmsg(100)[0], left.recvmsg(100)[0]) == ((b"he", b"ll"), b"o", b" world")
    left = with_bytes()
    assert (green_os.read(left.fileno(), 100), left.recv(100)) == (b"hello", b" world")
    left = with_bytes()
    again = left.dup()
    left.close()
    assert (again.recv(3), again.recv(100), again.recv(100)) == (b"hel", b"lo", b" world")
    left = with_bytes()
    again = socket.socket(fileno=os.dup(left.fileno()))
    assert (left.recv(3), again.recv(100), left.recv(100)) == (b"hel", b"lo", b" world")


@in_own_process(hubs=isolated.OURS)
def test_reader_past_our_hooks_does_not_spin_over_bytes_of_a_killed_receive():
    import time

    import eventlet
    from eventlet import hubs
    from programs.killed_receive import socket_with_bytes_of_a_killed_receive

    left, right = socket_with_bytes_of_a_killed_receive(b"hello")

    def read_past():
        while True:
            try:
                return left.fd.recv(100)
            except BlockingIOError:
                hubs.trampoline(left, read=True)

    reader = eventlet.spawn(read_past)
    before = time.process_time()
    eventlet.sleep(0.2)
    assert time.process_time() - before < 0.1
    right.sendall(b" world")
    assert (reader.wait(), left.recv(100)) == (b" world", b"hello")


@in_own_process()
def test_data_that_is_there_comes_before_a_timeout_of_nothing():
    import eventlet
    from eventlet.green import socket

    left, right = socket.socketpair()
    for seconds in (0, -1, 0):
        right.sendall(b"x")
        with eventlet.Timeout(seconds):
            assert left.recv(1) == b"x"
    try:
        with eventlet.Timeout(0):
            left.recv(1)
        raise AssertionError("no timeout")
    except eventlet.Timeout:
        pass


@in_own_process()
def test_buffer_is_free_to_change_while_recv_into_waits():
    import eventlet
    from eventlet.green import socket

    left, right = socket.socketpair()
    buffer = bytearray(100)
    reader = eventlet.spawn(left.recv_into, buffer)
    eventlet.sleep(0.01)
    del buffer[3:]
    right.sendall(b"hello")
    assert (reader.wait(), buffer, left.recv(100)) == (3, b"hel", b"lo")

    def fill_released():
        try:
            left.recv_into(view)
        except ValueError:
            return "refused"

    view = memoryview(bytearray(100))
    reader = eventlet.spawn(fill_released)
    eventlet.sleep(0.01)
    view.release()
    right.sendall(b"kept")
    assert reader.wait() == "refused"
    assert left.recv(100) == b"kept"


@in_own_process()
def test_socket_that_another_thread_closes_under_a_reader_is_gone_at_once():
    import select

    import eventlet
    from eventlet import patcher
    from eventlet.green import socket

    threading = patcher.original("threading")

    def quietly(*args):
        try:
            left.recv(*args)
        except OSError:
            pass

    left, right = socket.socketpair()
    reader = eventlet.spawn(quietly, 1)
    eventlet.sleep(0.01)
    thread = threading.Thread(target=left.fd.close)
    thread.start()
    for _ in range(100):
        eventlet.sleep(0.01)
        if select.select([right.fd], [], [], 0)[0]:
            break
    else:
        raise AssertionError("no end of stream")
    thread.join()
    reader.kill()


@in_own_process()
def test_signatures_of_a_socket_s_methods_can_be_had():
    import inspect

    from eventlet.green import socket

    for name, expected in {
        "recv": ["self", "bufsize", "flags"],
        "recv_into": ["self", "buffer", "nbytes", "flags"],
        "recvfrom": ["self", "bufsize", "flags"],
        "recvfrom_into": ["self", "buffer", "nbytes", "flags"],
        "send": ["self", "data", "flags"],
        "sendall": ["self", "data", "flags"],
    }.items():
        assert list(inspect.signature(getattr(socket.socket, name)).parameters) == expected


@in_own_process()
def test_spawn_makes_green_threads_of_a_class_put_in_eventlet_s_place():
    import eventlet
    from eventlet import greenthread

    class Named(greenthread.GreenThread):
        name = "own"

    greenthread.GreenThread = Named
    green = eventlet.spawn(lambda: 1)
    assert (green.name, green.wait()) == ("own", 1)
