"""The server of the soak: serves a checksum-verifying client while it kills, times out, closes and forks at
random.

    EVENTLET_HUB=uring python server.py --seed 1

Prints its port, serves until its standard input ends, then prints what is left of everything as JSON. Each
connection begins with a line "KIND LENGTH\n". The kinds:
echo: every byte comes back; the green thread that reads is killed and replaced at random.
sink: the answer to the upload is its length and CRC; the reader is killed and times out at random.
source: LENGTH bytes of the pattern come, in sends of random size.
abort: some of the pattern comes and then the end, or a reset, while a green thread waits in recv.
fork: a forked child answers like sink does. cat: the upload comes back through a subprocess.
"""

import argparse
import errno
import gc
import json
import os
import random
import struct
import sys
import zlib

import eventlet
from eventlet import hubs, queue, semaphore
from eventlet.green import os as green_os
from eventlet.green import socket, subprocess

PATTERN = bytes(random.Random(0).randbytes(65521)) * 2
GONE = (errno.ECONNRESET, errno.EPIPE, errno.EBADF, errno.ENOTCONN, errno.ESHUTDOWN)


def pattern(position, length):
    """The bytes of the endless pattern at `position`."""
    start = position % 65521
    return PATTERN[start : start + min(length, 65521)]


class Reader:
    """Reads a connection to its end by green threads that are killed and replaced; loses nothing."""

    def __init__(self, sock, rng, counts):
        self.sock, self.rng, self.counts = sock, rng, counts
        self.pieces = queue.LightQueue(64)
        self.thread = eventlet.spawn(self.read)
        self.over = False

    def read(self):
        """Nobody else runs between recv's return and the piece's place in the queue."""
        while True:
            try:
                with eventlet.Timeout(self.rng.choice((None, 0.001, 0.005))):
                    piece = self.receive()
            except eventlet.Timeout:
                self.counts["timeouts"] += 1
                continue
            self.pieces.queue.append(piece)
            self.pieces._schedule_unlock()
            if not piece:
                self.over = True
                return
            while self.pieces.qsize() > 64:
                eventlet.sleep(0.001)

    def receive(self):
        """recv, or recv_into, of a random size; a reset is the end."""
        length = self.rng.choice((1, 100, 4096, 16384, 70000))
        try:
            if self.rng.random() < 0.5:
                return self.sock.recv(length)
            buffer = bytearray(length)
            return bytes(buffer[: self.sock.recv_into(buffer)])
        except (OSError, EOFError) as e:
            if isinstance(e, EOFError) or e.errno in GONE:
                return b""
            raise

    def replace(self):
        """Kills the green thread in recv and goes on with another."""
        if not self.over:
            self.thread.kill()
            if not self.over:
                self.counts["kills"] += 1
                self.thread = eventlet.spawn(self.read)

    def __iter__(self):
        """The pieces, with a kill now and then between two of them or while none comes."""
        while True:
            if self.rng.random() < 0.2:
                self.replace()
            try:
                piece = self.pieces.get(timeout=self.rng.choice((None, 0.002)))
            except queue.Empty:
                self.replace()
                continue
            if not piece:
                return
            yield piece


class Server:
    """Accepts, and serves each connection by its first line."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.counts = {"connections": 0, "kills": 0, "timeouts": 0, "forks": 0, "acceptor kills": 0}
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(256)
        self.forks = semaphore.Semaphore(2)
        self.live = set()

    def accept(self):
        """One accept after another, until killed."""
        while True:
            sock, _ = self.listener.accept()
            self.counts["connections"] += 1
            thread = eventlet.spawn(self.serve, sock, random.Random(self.rng.random()))
            self.live.add(thread)
            thread.link(self.live.discard)

    def run(self):
        """Serves until standard input ends; the acceptor is killed and replaced meanwhile."""
        print("PORT", self.listener.getsockname()[1], flush=True)
        stopping = eventlet.spawn(green_os.read, 0, 1)
        while not stopping.dead:
            acceptor = eventlet.spawn(self.accept)
            with eventlet.Timeout(self.rng.choice((0.01, 0.1, 0.5)), False):
                stopping.wait()
            acceptor.kill()
            self.counts["acceptor kills"] += 1
        self.listener.close()
        for thread in list(self.live):
            thread.kill()

    def serve(self, sock, rng):
        """One connection."""
        try:
            line = b""
            while not line.endswith(b"\n"):
                byte = sock.recv(1)
                if not byte:
                    return
                line += byte
            kind, length = line.split()
            with eventlet.Timeout(60):
                getattr(self, kind.decode())(sock, rng, int(length))
        except OSError as e:
            if e.errno not in GONE:
                raise
        finally:
            sock.close()

    def echo(self, sock, rng, _):
        """Every byte back."""
        for piece in Reader(sock, rng, self.counts):
            sock.sendall(piece)

    def sink(self, sock, rng, _):
        """Length and CRC."""
        crc = length = 0
        for piece in Reader(sock, rng, self.counts):
            crc, length = zlib.crc32(piece, crc), length + len(piece)
        sock.sendall(b"%d %d\n" % (length, crc))

    def source(self, sock, rng, length):
        """The pattern."""
        position = 0
        while position < length:
            piece = pattern(position, min(rng.choice((1, 1000, 60000)), length - position))
            sock.sendall(piece)
            position += len(piece)
            if rng.random() < 0.1:
                eventlet.sleep(0)

    def abort(self, sock, rng, length):
        """A beginning of the pattern, then the end with a recv in flight."""
        sock.sendall(pattern(0, length))
        waiter = eventlet.spawn(self.wait_in_vain, sock)
        eventlet.sleep(0)
        if rng.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if rng.random() < 0.5:
            waiter.kill()
            sock.close()
        else:
            sock.close()
            waiter.kill()

    def wait_in_vain(self, sock):
        """A recv whose socket is closed under it."""
        try:
            sock.recv(100)
        except (OSError, EOFError):
            pass

    def fork(self, sock, rng, _):
        """The child answers and leaves; the parent waits for it without blocking the others."""
        crc = length = 0
        for piece in Reader(sock, rng, self.counts):
            crc, length = zlib.crc32(piece, crc), length + len(piece)
        with self.forks:
            self.counts["forks"] += 1
            pid = os.fork()
            if pid == 0:
                answer_as_child(sock, b"%d %d\n" % (length, crc))
            while os.waitpid(pid, os.WNOHANG)[0] == 0:
                eventlet.sleep(0.002)

    def cat(self, sock, rng, _):
        """Back through a child's pipes."""
        with self.forks:
            child = subprocess.Popen(["cat"], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            try:
                writer = eventlet.spawn(self.feed, child, Reader(sock, rng, self.counts))
                while piece := child.stdout.read(8192):
                    sock.sendall(piece)
                writer.wait()
            finally:
                child.kill()
                child.wait()
                child.stdout.close()

    def feed(self, child, reader):
        """Everything read into the child."""
        try:
            for piece in reader:
                child.stdin.write(piece)
        except OSError as e:
            if e.errno != errno.EPIPE:
                raise
        finally:
            child.stdin.close()


def answer_as_child(sock, answer):
    """Never returns: what the parent's hub would do next is none of the child's business."""
    status = 1
    try:
        hubs.use_hub()
        eventlet.sleep(0.001)
        sock.sendall(answer)
        status = 0
    finally:
        os._exit(status)


def rest():
    """What is left once everything was closed; leftovers get a bounded time to end."""
    hub = hubs.get_hub()
    for _ in range(100):
        eventlet.sleep(0.01)
        gc.collect()
        in_flight = getattr(hub, "in_flight", 0)
        in_flight = in_flight() if callable(in_flight) else in_flight
        readers = len(list(hub.get_readers())) + len(list(hub.get_writers()))
        if not in_flight and not readers:
            break
    return {"in_flight": in_flight, "listeners": readers, "fds": len(os.listdir("/proc/self/fd"))}


def main():
    """Serves, then tells."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    eventlet.sleep(0)
    before = len(os.listdir("/proc/self/fd"))
    server = Server(args.seed)
    server.run()
    print(json.dumps({**rest(), "fds_before": before, **server.counts}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
