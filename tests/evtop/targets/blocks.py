"""Blocking calls to plant, each on a line of its own marked BLOCK, none of them green.

`BLOCKS` maps a kind to its class and to a function that prepares what it needs and returns the blocking function.
"""

import os
import re
import select
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque

MS = 80


def sleep(env):
    def block():
        time.sleep(MS / 1000)  # BLOCK sleep

    return block


def recv(env):
    conn = socket.create_connection(("127.0.0.1", env.port))

    def block():
        conn.sendall(b"%d" % MS)
        conn.recv(10)  # BLOCK recv

    return block


def recv_timeout(env):
    conn = socket.create_connection(("127.0.0.1", env.port), timeout=5)

    def block():
        conn.sendall(b"%d" % MS)
        conn.recv(10)  # BLOCK recv_timeout

    return block


def connect(env):
    # A listener whose queue is full leaves a new connection unanswered; the send timeout bounds the wait.
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    env.keep = [full]
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
        env.keep.append(filler)

    def block():
        client = socket.socket()
        client.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, b"\0" * 8 + (MS * 1000).to_bytes(8, "little")
        )
        client.connect_ex(full.getsockname())  # BLOCK connect
        client.close()

    return block


def getaddrinfo(env):
    def block():
        try:
            socket.getaddrinfo("slow.example.test.", 80)  # BLOCK getaddrinfo
        except OSError:
            pass

    return block


def gethostbyname(env):
    def block():
        try:
            socket.gethostbyname("slow.example.test.")  # BLOCK gethostbyname
        except OSError:
            pass

    return block


def fsync(env):
    # Disks differ: write until one sync takes long enough to see.
    out = tempfile.NamedTemporaryFile(dir=env.directory)
    size = 64 << 20

    def block():
        nonlocal size
        for _ in range(6):
            out.seek(0)
            out.write(os.urandom(1 << 20) * (size >> 20))
            out.flush()
            env.pause()
            env.begin()
            os.fsync(out.fileno())  # BLOCK fsync
            env.end()
            if env.own_ms() > 30:
                return
            size *= 2

    return block


def big_read(env):
    path = os.path.join(env.directory, "big")
    if not os.path.exists(path):
        with open(path, "wb") as out:
            out.truncate(250 << 20)
        with open(path, "rb") as source:
            while source.read(1 << 20):
                pass

    def block():
        with open(path, "rb", buffering=0) as source:
            env.data = source.read(250 << 20)  # BLOCK big_read

    return block


def child(env):
    def block():
        process = subprocess.Popen(["sleep", str(MS / 1000)])
        env.pause()
        env.begin()
        process.wait()  # BLOCK child
        env.end()

    return block


def child_output(env):
    def block():
        script = f"sleep {2 * MS / 1000}; echo x"
        process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        env.pause()
        env.begin()
        process.communicate()  # BLOCK child_output
        env.end()

    return block


def lock(env):
    held = threading.Lock()

    def block():
        held.acquire()
        threading.Timer(MS / 1000, held.release).start()
        env.pause()
        env.begin()
        held.acquire()  # BLOCK lock
        env.end()

    return block


def select_(env):
    left, right = socket.socketpair()

    def block():
        select.select([left], [], [], MS / 1000)  # BLOCK select

    env.keep_select = right
    return block


def poll(env):
    left, right = socket.socketpair()
    env.keep_poll = right

    def block():
        poller = select.poll()
        poller.register(left)
        poller.register(right, select.POLLIN)
        poller.unregister(left)
        poller.register(left, select.POLLIN)
        poller.poll(MS)  # BLOCK poll

    return block


def pipe(env):
    reader, writer = os.pipe()

    def block():
        process = subprocess.Popen(["sh", "-c", f"sleep {MS / 1000}; echo x"], stdout=writer)
        env.pause()
        env.begin()
        os.read(reader, 10)  # BLOCK pipe
        env.end()
        process.poll()

    return block


def sqlite_lock(env):
    path = os.path.join(env.directory, f"db-{os.getpid()}")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("create table if not exists t (x)")
    waiter = sqlite3.connect(path, timeout=MS / 1000, isolation_level=None)

    def block():
        holder.execute("begin exclusive")
        try:
            waiter.execute("begin immediate")  # BLOCK sqlite_lock
        except sqlite3.OperationalError:
            pass
        holder.execute("rollback")

    return block


def sqlite_query(env):
    memory = sqlite3.connect(":memory:")
    query = "with recursive c(x) as (select 1 union all select x + 1 from c where x < 400000) select count(*) from c"

    def block():
        memory.execute(query).fetchone()  # BLOCK sqlite_query

    return block


def postgres(env):
    import psycopg2

    database = psycopg2.connect(host="127.0.0.1", port=5432, user="postgres", dbname="postgres")
    cursor = database.cursor()

    def block():
        cursor.execute(f"select pg_sleep({MS / 1000})")  # BLOCK postgres

    return block


def cpu(env):
    def block():
        until = time.thread_time() + MS / 1000
        deque(iter(lambda: time.thread_time() < until, False), maxlen=0)  # BLOCK cpu

    return block


def regex(env):
    pattern = re.compile("(a+)+b")
    text = "a" * 16
    while True:
        started = time.thread_time()
        pattern.match(text)
        if time.thread_time() - started > 0.05:
            break
        text += "a"

    def block():
        pattern.match(text)  # BLOCK regex

    return block


def flock(env):
    import fcntl

    path = os.path.join(env.directory, f"flock-{os.getpid()}")
    script = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(1, flush=True); time.sleep(.08)"

    def block():
        holder = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE)
        while not select.select([holder.stdout], [], [], 0)[0]:
            env.pause()
        with open(path, "w") as mine:
            env.begin()
            fcntl.flock(mine, fcntl.LOCK_EX)  # BLOCK flock
            env.end()
        holder.stdout.close()
        holder.poll()

    return block


BLOCKS = {
    "sleep": ("sleep", sleep),
    "recv": ("socket", recv),
    "recv_timeout": ("socket", recv_timeout),
    "connect": ("socket", connect),
    "getaddrinfo": ("dns", getaddrinfo),
    "gethostbyname": ("dns", gethostbyname),
    "fsync": ("file", fsync),
    "big_read": ("file", big_read),
    "child": ("subprocess", child),
    "child_output": ("subprocess", child_output),
    "lock": ("lock", lock),
    "flock": ("lock", flock),
    "select": ("select", select_),
    "poll": ("select", poll),
    "pipe": ("pipe", pipe),
    "sqlite_lock": ("sqlite", sqlite_lock),
    "sqlite_query": ("sqlite", sqlite_query),
    "postgres": ("database", postgres),
    "cpu": ("cpu", cpu),
    "regex": ("cpu", regex),
}


def line_of(kind):
    with open(__file__, encoding="utf-8") as source:
        for number, line in enumerate(source, 1):
            if line.rstrip().endswith(f"# BLOCK {kind}"):
                return number
    raise LookupError(kind)
