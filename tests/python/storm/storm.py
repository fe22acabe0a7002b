"""A kill storm: green threads in every kind of wait, killed, thrown at and timed out at random, all
accounted for.

    EVENTLET_HUB=uring python storm.py --seed 7 --rounds 1

Each wait checks that it ended by the right thing with the right value: bytes by position, tokens by number,
sleeps by the clock, exceptions by identity. The sharpest check is `park`, a bare `hub.switch()`: a stale
resumption meant for an earlier wait of the same green thread lands there with the wrong value. Two flaws of
the stock hubs are left out there and stood on ours (`--strict`): they call every callback of one poll even
if an earlier one has taken its green thread elsewhere, so a throw by a green thread that a socket resumed
leaves a stale resumption behind; and the IOClosed for a closed and reused fd can reach a green thread that
has moved on.

Exit status: 0 when everything balanced, 1 on a violation or, with all stacks, when the storm hung.
"""

import argparse
import errno
import faulthandler
import os
import random
import sys
import traceback

import eventlet
from eventlet import event, greenthread, hubs, queue, semaphore
from eventlet.green import socket
from ledger import PATTERN_LENGTH, Items, Killed, Ledger, Stream, Thrown, Violation, opened
from rest import check_rest, open_fds

CLOSED_ERRNOS = (errno.EBADF, errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)


class World:
    """What the actors of one round share."""

    def __init__(self, seed, actors, ops, strict):
        self.rng = random.Random(seed)
        self.ledger = Ledger()
        self.hub = hubs.get_hub()
        block = self.rng.randbytes(PATTERN_LENGTH)
        self.pattern = block + block
        self.over = False
        self.ops_left = ops
        self.streams_made = 0
        self.streams = [self.new_stream() for _ in range(max(4, actors // 4))]
        self.items = [Items(self.ledger, queue.Queue(size)) for size in (1, 3)] + [
            Items(self.ledger, queue.LightQueue())
        ]
        self.semaphores = [(semaphore.Semaphore(n), n) for n in (1, 3)]
        self.listener = opened(socket.socket())
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(128)
        self.acceptor = None
        self.actors = {Actor(self, n, strict) for n in range(actors)}

    def new_stream(self):
        """A fresh stream, likely on fds that an old one just gave back."""
        self.streams_made += 1
        return Stream(self.ledger, self.streams_made, self.pattern)

    def replace_stream(self, stream):
        """Settles a finished stream that nobody holds and puts a new one in its place."""
        if stream in self.streams and stream.writer is None and stream.reader is None:
            self.streams[self.streams.index(stream)] = self.new_stream()
            stream.settle()
            self.ledger.counts["streams"] += 1

    def settle(self):
        """The final accounts."""
        ledger = self.ledger
        for stream in self.streams:
            stream.settle()
        for items in self.items:
            items.settle()
        self.listener.close()
        for sem, initial in self.semaphores:
            if sem.counter != initial:
                ledger.violate(f"semaphore of {initial} ends at {sem.counter}")
        for actor, token in ((a, t) for t, a in ledger.under_way.items()):
            ledger.violate(f"exception {token} thrown at {actor} never arrived")
        counts = ledger.counts
        if counts["issued"] != counts["received"] + counts["withdrawn"]:
            ledger.violate(f"exceptions do not balance: {dict(counts)}")
        for name, listeners in (("reader", self.hub.get_readers()), ("writer", self.hub.get_writers())):
            if left := len(list(listeners)):
                ledger.violate(f"{left} {name} listeners left")


class Actor:
    """A green thread that waits for one thing after another and is thrown at meanwhile."""

    def __init__(self, world, number, strict):
        self.world, self.ledger, self.number = world, world.ledger, number
        self.rng = random.Random(world.rng.random())
        self.left_buffer = b"", b""
        self.ops = (
            self.sleep, self.yield_once, self.park, self.park, self.read, self.read, self.read_into,
            self.write,
            self.write, self.close_under_reader if strict else self.finish_stream, self.finish_stream,
            self.put, self.get, self.lock, self.wait_event,
            self.wait_child, self.connect, self.accept, self.accept,
        )  # fmt: skip
        self.start()

    def __repr__(self):
        return f"actor {self.number}"

    def start(self):
        """(Re)starts the green thread.

        Its end is checked by a link, which also sees a kill before the first step.
        """
        self.thread = greenthread.spawn(self.run)
        self.thread.link(self.ended)

    def ended(self, thread):
        """Link: the thread ended by itself or by an exception that was thrown at this actor."""
        try:
            thread.wait()
        except Thrown as exception:
            self.ledger.receive(self, exception)
            self.ledger.counts["killed"] += 1
        except Violation as violation:
            self.ledger.violate(f"{self}: {violation}")
        except BaseException:
            self.ledger.violate(f"{self} ended by {traceback.format_exc(limit=-6)}")
        if not self.world.over:
            self.start()

    def run(self):
        """Op after op until the round is over."""
        world = self.world
        while not world.over and world.ops_left > 0:
            world.ops_left -= 1
            self.ledger.counts["ops"] += 1
            try:
                self.timed(self.rng.choice(self.ops), self.rng.choice((0, 0, 1, 2)))
            except Killed:
                raise
            except Thrown as exception:
                self.ledger.receive(self, exception)
                self.ledger.counts["thrown"] += 1

    def timed(self, op, depth):
        """Runs `op` inside `depth` nested Timeouts and checks that whichever fires is the one caught here."""
        if not depth:
            return op()
        seconds = self.rng.choice((0, 0.0005, 0.002, 0.01))
        with_own_exception = self.rng.random() < 0.3
        own = RuntimeError(self.ledger.token()) if with_own_exception else None
        timeout = eventlet.Timeout(seconds, own)
        try:
            self.timed(op, depth - 1)
        except eventlet.Timeout as caught:
            if caught is not timeout:
                raise
            self.ledger.counts["timeouts"] += 1
        except RuntimeError as caught:
            if caught is not own:
                raise
            self.ledger.counts["timeouts"] += 1
        finally:
            timeout.cancel()

    # The waits. Each puts things right when it is left by an exception, as any program must.

    def sleep(self):
        seconds = self.rng.random() * 0.004
        began = self.world.hub.clock()
        eventlet.sleep(seconds)
        slept = self.world.hub.clock() - began
        self.ledger.expect(slept >= seconds - 0.001, f"a sleep of {seconds} s ended after {slept} s")

    def yield_once(self):
        eventlet.sleep(0)

    def park(self):
        token = self.ledger.token()
        seconds = self.rng.choice((0, 0, 0.001, 0.003))
        timer = self.world.hub.schedule_call_global(seconds, greenthread.getcurrent().switch, token)
        try:
            got = self.world.hub.switch()
        finally:
            timer.cancel()
        self.ledger.expect(got == token, f"parked for {token}, resumed with {got!r}")

    def read(self):
        self._read(lambda sock: sock.recv(self.rng.choice((1, 100, 5000))))

    def read_into(self):
        buffer = bytearray(b"\xee" * 3000)

        def receive(sock):
            length = self.rng.choice((1, 100, 3000))
            got = sock.recv_into(buffer, length)
            self.ledger.expect(all(b == 0xEE for b in buffer[got:]), "recv_into wrote past what it returned")
            return bytes(buffer[:got])

        self.check_left_buffer()
        try:
            self._read(receive)
        except BaseException:
            self.left_buffer = buffer, bytes(buffer)
            raise

    def check_left_buffer(self):
        """The buffer of a recv_into that raised is its owner's again and must not have changed since."""
        buffer, then = self.left_buffer
        self.ledger.expect(buffer == then, "recv_into wrote into its buffer after it had raised")

    def _read(self, receive):
        free = [s for s in self.world.streams if s.reader is None and not s.closed_under_reader]
        if not free:
            return
        stream = self.rng.choice(free)
        stream.reader = self
        stream.right.settimeout(self.rng.choice((None, None, 0.002)))
        try:
            data = receive(stream.right)
            stream.took(data) if data else stream.ended()
        except TimeoutError:
            self.ledger.counts["socket timeouts"] += 1
        except (EOFError, OSError) as e:
            closed = isinstance(e, EOFError) or e.errno in CLOSED_ERRNOS
            self.ledger.expect(closed and stream.closed_under_reader, f"recv raised {e!r} on {stream.number}")
        finally:
            stream.reader = None
            if stream.finished:
                self.world.replace_stream(stream)

    def write(self):
        free = [s for s in self.world.streams if s.writer is None and not s.finished]
        if not free:
            return
        stream = self.rng.choice(free)
        stream.writer = self
        try:
            stream.send(self.rng.choice((1, 64, 1500, 20000)))
        finally:
            stream.writer = None

    def finish_stream(self):
        """Ends a stream: its reader must see every byte and then end of file; the fds are reused at once."""
        free = [s for s in self.world.streams if s.writer is None and not s.finished]
        if free:
            stream = self.rng.choice(free)
            stream.finished = True
            stream.left.shutdown(socket.SHUT_WR)
            self.world.replace_stream(stream)

    def close_under_reader(self):
        """Closes a socket while another green thread is in recv on it."""
        held = [s for s in self.world.streams if s.reader is not None and s.writer is None and not s.finished]
        if held and self.rng.random() < 0.2:
            stream = self.rng.choice(held)
            stream.finished = stream.closed_under_reader = True
            stream.right.close()

    def put(self):
        items = self.rng.choice(self.world.items)
        token = self.ledger.token()
        items.uncertain.add(token)
        items.queue.put(token)
        items.put.add(token)

    def get(self):
        items = self.rng.choice(self.world.items)
        try:
            items.note_get(items.queue.get(timeout=self.rng.choice((None, 0.002))))
        except queue.Empty:
            pass

    def lock(self):
        sem, initial = self.rng.choice(self.world.semaphores)
        with sem:
            self.ledger.expect(
                0 <= sem.counter < initial, f"semaphore counter {sem.counter} of {initial} inside"
            )
            if self.rng.random() < 0.5:
                eventlet.sleep(self.rng.random() * 0.001)

    def wait_event(self):
        token, done = self.ledger.token(), event.Event()
        send = self.rng.choice((done.send, done.send_exception))
        value = token if send == done.send else KeyError(token)
        timer = self.world.hub.schedule_call_global(self.rng.random() * 0.002, send, value)
        try:
            got = done.wait()
        except KeyError as e:
            got = e
        finally:
            timer.cancel()
        self.ledger.expect(got is value, f"event {token} gave {got!r}")

    def wait_child(self):
        token = self.ledger.token()

        def child():
            eventlet.sleep(0)
            return token

        got = greenthread.spawn(child).wait()
        self.ledger.expect(got == token, f"child {token} returned {got!r}")

    def connect(self):
        """A client of whoever accepts.

        Unless it is stopped itself it must get the answer to its own token.
        """
        client, token = opened(socket.socket()), self.ledger.token()
        try:
            client.connect(self.world.listener.getsockname())
            client.sendall(token.to_bytes(8, "big"))
            answer = b""
            while len(answer) < 8:
                chunk = client.recv(8 - len(answer))
                self.ledger.expect(chunk, f"connection {token} was closed unanswered")
                answer += chunk
            self.ledger.expect(
                int.from_bytes(answer, "big") == token + 1, f"connection {token} got {answer!r}"
            )
            self.ledger.counts["answered"] += 1
        finally:
            client.close()

    def accept(self):
        """One acceptor at a time, as the stock hubs demand.

        The next one takes over when this one is thrown at.
        """
        world = self.world
        if world.acceptor is not None:
            return
        world.acceptor = self
        try:
            sock, _ = world.listener.accept()
        finally:
            world.acceptor = None
        greenthread.spawn_n(answer, sock)


def answer(sock):
    """Serves one connection.

    Not a target of the storm, so that an unanswered client means a lost connection.
    """
    try:
        token = b""
        while len(token) < 8:
            chunk = sock.recv(8 - len(token))
            if not chunk:
                return
            token += chunk
        sock.sendall((int.from_bytes(token, "big") + 1).to_bytes(8, "big"))
    except OSError as e:
        if e.errno not in CLOSED_ERRNOS:
            raise
    finally:
        sock.close()


class Chaos:
    """Throws at random actors, from a green thread that is itself never thrown at."""

    def __init__(self, world, from_io):
        self.world, self.ledger = world, world.ledger
        self.rng = random.Random(world.rng.random())
        self.bell = tuple(map(opened, socket.socketpair())) if from_io else None

    def run(self):
        """Throws until the round is over."""
        while not self.world.over:
            self.wait()
            for _ in range(self.rng.choice((1, 1, 1, 2, 8))):
                self.strike(self.rng.choice(tuple(self.world.actors)))
        for end in self.bell or ():
            end.close()

    def wait(self):
        """A little while, ended by a timer or by a byte."""
        seconds = self.rng.choice((0, 0.0003, 0.001))
        if self.bell is None:
            eventlet.sleep(seconds)
        else:
            self.world.hub.schedule_call_global(seconds, self.bell[0].fd.send, b"!")
            self.bell[1].recv(1)

    def strike(self, actor):
        """One exception, by one of the ways a program has to throw it."""
        started = bool(actor.thread)
        exception = self.ledger.issue(self.rng.choice((Killed, Thrown)) if started else Killed, actor)
        way = self.rng.randrange(4)
        if way == 0:
            self.world.hub.schedule_call_global(0, self.throw, actor, exception)
        elif way == 1:
            self.world.hub.schedule_call_global(self.rng.random() * 0.001, self.throw, actor, exception)
        elif actor.thread.dead:
            self.ledger.withdraw(exception)
        elif way == 2:
            actor.thread.kill(*triple(exception))
        else:
            greenthread.kill(actor.thread, *triple(exception))

    def throw(self, actor, exception):
        """Timer callback."""
        if actor.thread:  # started and not ended; a throw at any other would end up in the hub
            actor.thread.throw(exception)
        else:
            self.ledger.withdraw(exception)


def triple(exception):
    """The form of throw arguments that `kill` accepts for a green thread that has not started, too."""
    return type(exception), exception, None


def round_of(seed, actors, ops, strict):
    """One storm from calm to calm; returns its ledger."""
    world = World(seed, actors, ops, strict)
    chaos = [greenthread.spawn(Chaos(world, strict and n % 2).run) for n in range(3)]
    while world.ops_left > 0 and not world.ledger.violations:
        eventlet.sleep(0.002)
    world.over = True
    for thread in chaos:
        thread.wait()
    eventlet.sleep(0.002)  # the latest scheduled throw is 1 ms away
    for actor in world.actors:
        if not actor.thread.dead:
            actor.thread.kill(*triple(world.ledger.issue(Killed, actor)))
    eventlet.sleep(0)
    while world.acceptor is not None or any(not actor.thread.dead for actor in world.actors):
        eventlet.sleep(0.001)
    answer_backlog(world)
    world.settle()
    return world.ledger


def answer_backlog(world):
    """Takes the connections whose clients were stopped before anybody accepted them."""
    world.listener.setblocking(False)
    while True:
        try:
            world.listener.accept()[0].close()
        except BlockingIOError:
            return


def main():
    """Runs the storms asked for and prints what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=None, help="rounds until this much time has passed")
    parser.add_argument("--actors", type=int, default=24)
    parser.add_argument("--ops", type=int, default=4000, help="waits per round")
    parser.add_argument("--strict", action="store_true", help="the default on our hub")
    parser.add_argument("--hang-after-s", type=float, default=60)
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    hub = hubs.get_hub()
    ours = type(hub).__module__.startswith("uringhub")
    print(
        f"storm: seed {seed}, hub {type(hub).__module__}, driver {os.environ.get('URINGHUB_DRIVER', '-')}",
        flush=True,
    )
    faulthandler.enable()
    eventlet.sleep(0)
    before, began, round_number = open_fds(), hub.clock(), 0
    while round_number < args.rounds if args.seconds is None else hub.clock() - began < args.seconds:
        faulthandler.dump_traceback_later(args.hang_after_s, exit=True)
        ledger = round_of(seed + round_number, args.actors, args.ops, args.strict or ours)
        faulthandler.cancel_dump_traceback_later()
        violations = ledger.violations + check_rest(before)
        print(f"round {round_number}: {dict(ledger.counts)}", flush=True)
        if violations:
            print(f"VIOLATED with seed {seed + round_number}:", *violations[:20], sep="\n  ", file=sys.stderr)
            return 1
        round_number += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
