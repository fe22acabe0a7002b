"""The soak: a checksum-verifying client against a server that kills, times out, closes and forks at random.

    python soak.py --seconds 600 --hub uring+uring [--seed 1] [--worlds]

The client is plain blocking Python in threads, so that it shares nothing with what it judges. Only 127.0.0.1;
eight connections at a time. Verified: every byte by a checksum or its position, no fd more and no growth of
memory between the first fifth of the time and the end, no operation in flight after everything was closed.
"""

import argparse
import collections
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import isolated

SERVER = Path(__file__).with_name("server.py")
#: Tasks and green threads mixed.
WORLDS_SERVER = Path(__file__).with_name("worlds_server.py")
CLIENTS = 8
#: After a fifth of ten minutes every cache is full; of a short run they fill later.
GROWTH_KIB, GROWTH_KIB_WHEN_SHORT = 4 * 1024, 12 * 1024
PATTERN = random.Random(0).randbytes(65521) * 2


class Client(threading.Thread):
    """One session after another until the deadline; a failed check ends it and is kept."""

    def __init__(self, port, seed, deadline):
        super().__init__()
        self.port, self.rng, self.deadline = port, random.Random(seed), deadline
        self.done, self.failure, self.kind = collections.Counter(), None, None

    def run(self):
        """At most 200,000 sessions, whatever the deadline."""
        kinds = ("echo",) * 4 + ("sink",) * 4 + ("source",) * 3 + ("abort",) * 3 + ("fork", "cat")
        kinds += ("vanish",) * 3
        for _ in range(200_000):
            if time.monotonic() >= self.deadline:
                return
            self.kind = self.rng.choice(kinds)
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=60) as sock:
                    getattr(self, self.kind)(sock)
                self.done[self.kind] += 1
            except Exception as e:
                self.failure = f"{self.kind}: {e!r}"
                return

    def upload(self, sock, kind):
        """Sends random bytes in random pieces from a thread of its own; returns them and the thread."""
        data = self.rng.randbytes(self.rng.choice((1, 1000, 50_000, 400_000)))
        sock.sendall(b"%s %d\n" % (kind, len(data)))
        sizes = [self.rng.choice((1, 500, 5000, 80_000)) for _ in range(16)]

        def send():
            position = number = 0
            while position < len(data):
                size = max(sizes[number % 16], len(data) // 200)
                sock.sendall(data[position : position + size])
                position, number = position + size, number + 1
            sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        return data, sender

    def receive_all(self, sock):
        """To the end; sometimes slowly."""
        size = self.rng.choice((100, 4096, 65536))
        received = bytearray()
        while piece := sock.recv(size if len(received) < 50_000 else 65536):
            received += piece
        return bytes(received)

    def echo(self, sock, kind=b"echo"):
        """The upload comes back."""
        data, sender = self.upload(sock, kind)
        received = self.receive_all(sock)
        sender.join()
        if received != data:
            raise AssertionError(difference(received, data))

    def cat(self, sock):
        """The same through a subprocess of the server."""
        self.echo(sock, b"cat")

    def sink(self, sock, kind=b"sink"):
        """The server counts what we sent."""
        data, sender = self.upload(sock, kind)
        answer = self.receive_all(sock)
        sender.join()
        expected = b"%d %d\n" % (len(data), zlib.crc32(data))
        if answer != expected:
            raise AssertionError(f"{answer} instead of {expected}")

    def fork(self, sock):
        """A forked child of the server answers."""
        self.sink(sock, b"fork")

    def source(self, sock):
        """The pattern, whole."""
        length = self.rng.choice((1, 10_000, 500_000))
        sock.sendall(b"source %d\n" % length)
        received = self.receive_all(sock)
        expected = (PATTERN[:65521] * (length // 65521 + 1))[:length]
        if received != expected:
            raise AssertionError(difference(received, expected))

    def abort(self, sock):
        """A prefix of the pattern, then the end or a reset, at once."""
        length = self.rng.choice((1, 1000, 60_000))
        sock.sendall(b"abort %d\n" % length)
        received = bytearray()
        try:
            while piece := sock.recv(65536):
                received += piece
            if len(received) != length:
                raise AssertionError(f"an orderly end after {len(received)} of {length} bytes")
        except ConnectionResetError:
            pass
        if bytes(received) != PATTERN[: len(received)]:
            raise AssertionError(difference(bytes(received), PATTERN[: len(received)]))

    def vanish(self, sock):
        """Goes away in the middle of anything."""
        beginnings = b"", b"ec", b"echo 5\nab", b"source 9000000\n", b"sink 1\n", b"cat 1\nx"
        sock.sendall(self.rng.choice(beginnings))
        if self.rng.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def difference(received, expected):
    """Where two byte strings part."""
    at = next((i for i, (a, b) in enumerate(zip(received, expected, strict=False)) if a != b), None)
    return f"{len(received)} bytes instead of {len(expected)}, first difference at {at}"


def fds(pid):
    """How many fds a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def rss_kib(pid):
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def load(port, seed, seconds):
    """Eight clients for a while; returns what they did and what failed."""
    deadline = time.monotonic() + seconds
    clients = [Client(port, f"{seed}-{number}", deadline) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    done, failures = collections.Counter(), []
    for client in clients:
        client.join(seconds + 90)
        if client.is_alive():
            failures.append(f"{client.kind}: no end")
        if client.failure:
            failures.append(client.failure)
        done.update(client.done)
    return done, failures


def at_rest(pid, wanted):
    """The fd count once the server has closed what its clients left; it gets a bounded time for it."""
    for _ in range(400):
        count = fds(pid)
        if wanted is None or count <= wanted:
            break
        time.sleep(0.01)
    return count


def soak(hub, seconds, seed, program=SERVER):
    """One hub; returns the list of what is wrong."""
    env = isolated.environment(hub, {"PYTHONWARNINGS": "ignore"})
    command = [sys.executable, "-X", "faulthandler", str(program), "--seed", str(seed)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as server:
        errors = []
        reading = threading.Thread(target=lambda: errors.append(server.stderr.read()))
        reading.start()
        try:
            port = int(server.stdout.readline().split()[1])
            idle_fds = fds(server.pid)
            done, failures = load(port, f"{seed}-warm", seconds / 5)
            first_fds, first_kib = at_rest(server.pid, idle_fds), rss_kib(server.pid)
            if not failures:
                more, failures = load(port, seed, seconds * 4 / 5)
                done.update(more)
            last_fds, last_kib = at_rest(server.pid, first_fds), rss_kib(server.pid)
            server.stdin.close()
            told = server.stdout.read()
            server.wait(30)
        finally:
            server.kill()
        reading.join()
    rest = json.loads(told.splitlines()[-1]) if told.strip() else {}
    print(f"{hub.name}: seed {seed}, {seconds:g} s, sessions {dict(done)}")
    grown = f"fds {first_fds} -> {last_fds}, RSS {first_kib} -> {last_kib} KiB"
    print(f"{hub.name}: server {rest}, {grown}", flush=True)
    problems = list(failures)
    if server.returncode != 0 or not rest:
        problems.append(f"the server ended with {server.returncode}: {errors[0][-3000:]}")
    if errors[0]:
        problems.append(f"the server wrote: {errors[0][-3000:]}")
    if last_fds > first_fds:
        problems.append(f"{last_fds - first_fds} fds leaked")
    if last_kib > first_kib + (GROWTH_KIB if seconds >= 300 else GROWTH_KIB_WHEN_SHORT):
        problems.append(f"memory grew from {first_kib} to {last_kib} KiB")
    if rest.get("in_flight") or rest.get("listeners") or rest.get("fds", 0) > rest.get("fds_before", 0):
        problems.append(f"left at the end: {rest}")
    if rest.get("tasks_left") or rest.get("wrong"):
        problems.append(f"tasks left, or errors that nobody caught: {rest}")
    return problems


def main():
    """Soaks each hub asked for; exit status 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="for each hub")
    parser.add_argument("--hub", action="append", choices=[hub.name for hub in isolated.ALL_HUBS])
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--worlds", action="store_true", help="serve with tasks and green threads mixed")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    failed = False
    for hub in [hub for hub in isolated.ALL_HUBS if hub.name in (args.hub or [])] or isolated.OURS:
        for problem in soak(hub, args.seconds, seed, WORLDS_SERVER if args.worlds else SERVER):
            failed = True
            print(f"WRONG on {hub.name} with seed {seed}: {problem}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
