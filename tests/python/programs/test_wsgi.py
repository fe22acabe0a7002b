"""eventlet.wsgi: keep-alive, chunked upload, a slow reader; clients of every kind fanned out to it."""

from programs.own_process import in_own_process


def app(environ, start_response):
    """Echoes a hash of the upload, or a body of the size asked for, or counts its requests per connection."""
    import hashlib

    path = environ["PATH_INFO"]
    if path == "/hash":
        digest, total = hashlib.sha256(), 0
        while block := environ["wsgi.input"].read(10_000):
            digest.update(block)
            total += len(block)
        body = f"{total} {digest.hexdigest()}".encode()
    elif path.startswith("/bytes/"):
        body = pattern(int(path[7:]))
    elif path.startswith("/stream/"):
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (pattern(1000) for _ in range(int(path[8:])))
    else:
        body = b"hello " + environ["QUERY_STRING"].encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def pattern(length):
    """Bytes that tell a shift or a repetition."""
    return (b"0123456789abcdefghijklmnopqrstuvwxyz-" * (length // 37 + 1))[:length]


def serving(**options):
    """Starts the app on a port of its own; returns (green thread, address)."""
    import eventlet
    from eventlet import wsgi
    from traps.wire import listening

    listener = listening(512)
    options.setdefault("log_output", False)
    return eventlet.spawn(wsgi.server, listener, app, **options), listener.getsockname()


def connected(address):
    """A green client socket with a file for the answers."""
    from eventlet.green import socket

    sock = socket.create_connection(address, timeout=10)
    return sock, sock.makefile("rb")


def read_response(answers):
    """(status line, headers, body) of one answer with a length or in chunks."""
    status = answers.readline().decode().strip()
    headers = {}
    while line := answers.readline().decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if "content-length" in headers:
        return status, headers, answers.read(int(headers["content-length"]))
    body = b""
    while size := int(answers.readline(), 16):
        body += answers.read(size)
        assert answers.readline() == b"\r\n"
    assert answers.readline() == b"\r\n"
    return status, headers, body


@in_own_process()
def test_keep_alive_connection_serves_many_requests_in_order():
    server, address = serving()
    sock, answers = connected(address)
    for number in range(100):
        sock.sendall(b"GET /?%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
        assert read_response(answers)[2] == b"hello %d" % number
    server.kill()


@in_own_process()
def test_pipelined_requests_are_answered_in_order():
    server, address = serving()
    sock, answers = connected(address)
    sock.sendall(b"".join(b"GET /?%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(30)))
    assert [read_response(answers)[2] for _ in range(30)] == [b"hello %d" % n for n in range(30)]
    server.kill()


@in_own_process()
def test_chunked_upload_arrives_whole():
    import hashlib
    import random

    import eventlet

    server, address = serving()
    rng = random.Random(1)

    def upload(size):
        data = rng.randbytes(size)
        sock, answers = connected(address)
        sock.sendall(b"POST /hash HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        position = 0
        while position < size:
            piece = data[position : position + rng.randrange(1, 30_000)]
            sock.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
            position += len(piece)
            eventlet.sleep(0)
        sock.sendall(b"0\r\n\r\n")
        expected = f"{size} {hashlib.sha256(data).hexdigest()}".encode()
        assert read_response(answers)[2] == expected
        sock.sendall(b"GET /?after HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(answers)[2] == b"hello after"

    pool = eventlet.GreenPool()
    for _ in pool.imap(upload, [1, 100, 1 << 20, 3_000_000] * 3):
        pass
    server.kill()


@in_own_process()
def test_expect_100_continue_is_honoured():
    server, address = serving()
    sock, answers = connected(address)
    sock.sendall(b"POST /hash HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    assert answers.readline() == b"HTTP/1.1 100 Continue\r\n" and answers.readline() == b"\r\n"
    sock.sendall(b"body")
    assert read_response(answers)[2].startswith(b"4 ")
    server.kill()


@in_own_process()
def test_slow_reader_gets_every_byte_while_others_are_served():
    import eventlet
    from eventlet.green import socket

    server, address = serving()
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(address)
    slow.sendall(b"GET /bytes/4000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    received = slow.recv(1000)
    sock, answers = connected(address)
    for number in range(50):  # the slow answer is under way all the time
        sock.sendall(b"GET /?%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
        assert read_response(answers)[2] == b"hello %d" % number
        received += slow.recv(100)
    with eventlet.Timeout(30):
        while data := slow.recv(50_000):
            received += data
    assert received.partition(b"\r\n\r\n")[2] == pattern(4_000_000)
    server.kill()


@in_own_process()
def test_streamed_answer_arrives_in_chunks():
    server, address = serving()
    sock, answers = connected(address)
    for _ in range(3):
        sock.sendall(b"GET /stream/200 HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, body = read_response(answers)
        assert headers["transfer-encoding"] == "chunked" and body == pattern(1000) * 200, status
    server.kill()


@in_own_process(silent=False)
def test_clients_that_go_away_in_every_state_do_not_disturb_the_others():
    import struct

    import eventlet
    from eventlet.green import socket

    server, address = serving()
    reset = struct.pack("ii", 1, 0)
    beginnings = (
        b"",
        b"GET",
        b"GET / HTTP/1.1\r\nHost",
        b"POST /hash HTTP/1.1\r\nContent-Length: 9\r\n\r\nab",
        b"GET /bytes/9000000 HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    for beginning in beginnings:
        for how in ("close", "reset"):
            sock, _ = connected(address)
            sock.sendall(beginning)
            eventlet.sleep(0)
            if how == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            sock.close()
    sock, answers = connected(address)
    sock.sendall(b"GET /?last HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_response(answers)[2] == b"hello last"
    server.kill()


@in_own_process()
def test_idle_keep_alive_connection_is_closed_after_its_timeout():
    server, address = serving(keepalive=0.2)
    sock, answers = connected(address)
    sock.sendall(b"GET /?x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_response(answers)[2] == b"hello x"
    assert answers.read(1) == b""
    server.kill()


def fan_out(fetch, requests=200, at_once=50):
    """Every request answered, none with another's answer."""
    import eventlet

    pool = eventlet.GreenPool(at_once)
    with eventlet.Timeout(35):
        assert list(pool.imap(fetch, range(requests))) == [b"hello %d" % n for n in range(requests)]


@in_own_process(patched=True, timeout_s=60)
def test_requests_fans_out():
    import requests

    server, address = serving()
    session = requests.Session()
    url = "http://{}:{}/".format(*address)
    fan_out(lambda number: requests.get(url, params=str(number), timeout=20).content)
    fan_out(lambda number: session.get(url, params=str(number), timeout=20).content)
    server.kill()


@in_own_process(patched=True, timeout_s=60)
def test_urllib3_pool_fans_out_over_kept_connections():
    import urllib3

    server, address = serving()
    pool = urllib3.PoolManager(maxsize=20, block=True)
    url = "http://{}:{}/?".format(*address)
    fan_out(lambda number: pool.request("GET", url + str(number), timeout=20).data)
    server.kill()


@in_own_process(patched=True, timeout_s=60)
def test_urlopen_fans_out():
    import urllib.request

    server, address = serving()
    url = "http://{}:{}/?".format(*address)

    def fetch(number):
        with urllib.request.urlopen(url + str(number), timeout=20) as response:
            return response.read()

    fan_out(fetch)
    server.kill()


@in_own_process(patched=True, timeout_s=60)
def test_threads_of_a_patched_program_upload_at_once():
    import hashlib
    import threading

    import requests

    server, address = serving()
    url = "http://{}:{}/hash".format(*address)
    results = {}

    def upload(number):
        data = pattern(number * 10_000)
        answer = requests.post(url, data=(data[i : i + 7000] for i in range(0, len(data), 7000)), timeout=20)
        results[number] = answer.text == f"{len(data)} {hashlib.sha256(data).hexdigest()}"

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(1, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == dict.fromkeys(range(1, 25), True)
    server.kill()
