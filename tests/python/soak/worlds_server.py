"""The server of the mixed soak: a connection is served by green threads, or by tasks, or by both at once.

    EVENTLET_HUB=uring python worlds_server.py --seed 1

Speaks as `server.py` does, and serves some of the connections exactly so. The others belong to an asyncio transport:
a task reads them, which is cancelled and replaced at random and has eventlet's and asyncio's timeouts around its
awaits; what it read goes through a queue for both worlds to a task or to a green thread, which writes. Coroutines
call green code, green threads wait for coroutines, children are forked in the middle of a coroutine.
"""

import asyncio
import errno
import gc
import json
import os
import random
import socket
import struct
import sys
import zlib

import eventlet
import server
from eventlet import hubs
from uringhub import await_, sync

#: Lengths of single reads.
READS = (1, 100, 4096, 16384, 70000)
#: Since Python 3.11.
HAS_TIMEOUT = hasattr(asyncio, "timeout")


class Pieces:
    """Reads a connection to its end by tasks that are cancelled and replaced; loses nothing."""

    def __init__(self, reader, rng, counts):
        self.reader, self.rng, self.counts = reader, rng, counts
        self.queue = sync.Queue()
        self.over = False
        self.task = self.start()

    def start(self):
        """Another reading task."""
        return hubs.get_hub().loop.create_task(self.read())

    async def read(self):
        """Nobody else runs between read's return and the piece's place in the queue."""
        while not self.over:
            try:
                piece = await self.bounded()
            except (eventlet.Timeout, asyncio.TimeoutError):
                self.counts["timeouts"] += 1
                continue
            except OSError as e:
                if e.errno not in server.GONE:
                    raise
                piece = b""
            self.queue.put_nowait(piece)
            self.over = not piece
            while self.queue.qsize() > 64:
                await asyncio.sleep(0.001)

    async def bounded(self):
        """One read, with one world's timeout around it, or the other's, or none."""
        length, limit_s = self.rng.choice(READS), self.rng.choice((0.001, 0.005))
        kind = self.rng.randrange(3)
        if kind == 0:
            with eventlet.Timeout(limit_s):
                return await self.reader.read(length)
        if kind == 1 and HAS_TIMEOUT:
            async with asyncio.timeout(limit_s):
                return await self.reader.read(length)
        return await self.reader.read(length)

    async def replace(self):
        """Cancels the task in read and goes on with another."""
        await self.end()
        if not self.over:
            self.counts["cancels"] += 1
            self.task = self.start()

    async def end(self):
        """Cancels the reading task and waits for its end."""
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled() and self.task.exception() is not None:
            raise self.task.exception()

    async def get(self):
        """The next piece for a task, with a cancel now and then between two or while none comes; empty at the end."""
        while True:
            if self.rng.random() < 0.2:
                await self.replace()
            try:
                with eventlet.Timeout(self.rng.choice((None, 0.002))):
                    return await self.queue.get_async()
            except eventlet.Timeout:
                await self.replace()

    def get_green(self):
        """The same for a green thread."""
        while True:
            if self.rng.random() < 0.2:
                await_(self.replace())
            try:
                return self.queue.get(timeout=self.rng.choice((None, 0.002)))
            except sync.QueueEmpty:
                await_(self.replace())


class WorldsServer(server.Server):
    """Each kind of connection also in tasks."""

    def __init__(self, seed):
        super().__init__(seed)
        self.counts |= {"tasks": 0, "cancels": 0, "green writers": 0, "green calls": 0}
        self.children = asyncio.Semaphore(2)

    def serve_in_task(self, function, sock, rng, length):
        """An asyncio transport gets the connection; the green thread that accepted it waits for the task."""
        self.counts["tasks"] += 1
        plain = socket.socket(fileno=os.dup(sock.fileno()))
        plain.setblocking(False)
        sock.close()
        await_(self.with_streams(function, plain, rng, length))

    async def with_streams(self, function, plain, rng, length):
        """Calls `function(reader, writer, rng, length)`, and closes."""
        limit = rng.choice((1000, 2**16))
        reader, writer = await asyncio.open_connection(sock=plain, limit=limit)
        try:
            await function(reader, writer, rng, length)
        except ConnectionError:
            pass  # the client has gone away; asyncio's own "Connection lost" has no errno
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except ConnectionError:
                pass  # as above

    async def give_way(self, rng):
        """Lets the others run, by either world's words."""
        chance = rng.random()
        if chance < 0.05:
            self.counts["green calls"] += 1
            eventlet.sleep(rng.choice((0, 0.001)))
        elif chance < 0.1:
            await asyncio.sleep(0)

    async def consume(self, reader, rng, use):
        """Every piece goes to the coroutine function `use`, called by a task or by a green thread."""
        pieces = Pieces(reader, rng, self.counts)
        try:
            if rng.random() < 0.5:
                while piece := await pieces.get():
                    await use(piece)
                    await self.give_way(rng)
            else:
                self.counts["green writers"] += 1
                await eventlet.spawn(self.consume_green, pieces, use)
        finally:
            await pieces.end()

    def consume_green(self, pieces, use):
        """Waits for the coroutine of each piece."""
        try:
            while piece := pieces.get_green():
                await_(use(piece))
        except ConnectionError:
            pass  # an error that ends a green thread is written to stderr

    # The kinds --------------------------------------------------------------------------------------------

    def echo(self, sock, rng, length):
        """Every byte back."""
        if rng.random() < 0.3:
            return super().echo(sock, rng, length)
        return self.serve_in_task(self.echo_in_task, sock, rng, length)

    async def echo_in_task(self, reader, writer, rng, _):
        """The same."""

        async def send_back(piece):
            writer.write(piece)
            await writer.drain()

        await self.consume(reader, rng, send_back)

    async def checksum(self, reader, rng):
        """The answer to an upload."""
        crc = length = 0

        async def add(piece):
            nonlocal crc, length
            crc, length = zlib.crc32(piece, crc), length + len(piece)

        await self.consume(reader, rng, add)
        return b"%d %d\n" % (length, crc)

    def sink(self, sock, rng, length):
        """Length and CRC."""
        if rng.random() < 0.3:
            return super().sink(sock, rng, length)
        return self.serve_in_task(self.sink_in_task, sock, rng, length)

    async def sink_in_task(self, reader, writer, rng, _):
        """The same."""
        writer.write(await self.checksum(reader, rng))
        await writer.drain()

    def source(self, sock, rng, length):
        """The pattern."""
        if rng.random() < 0.3:
            return super().source(sock, rng, length)
        return self.serve_in_task(self.source_in_task, sock, rng, length)

    async def source_in_task(self, _, writer, rng, length):
        """The same."""
        position = 0
        # Whoever goes on writing to a lost connection is warned by asyncio.
        while position < length and not writer.is_closing():
            piece = server.pattern(position, min(rng.choice((1, 1000, 60000)), length - position))
            writer.write(piece)
            position += len(piece)
            if rng.random() < 0.5:
                await writer.drain()
            await self.give_way(rng)

    def abort(self, sock, rng, length):
        """A beginning of the pattern, then the end or a reset while somebody waits."""
        if rng.random() < 0.3:
            return super().abort(sock, rng, length)
        return self.serve_in_task(self.abort_in_task, sock, rng, length)

    async def abort_in_task(self, reader, writer, rng, length):
        """The same; whoever waits in read is a task or a green thread."""
        writer.write(server.pattern(0, length))
        if rng.random() < 0.5:
            waiter = asyncio.ensure_future(reader.read(100))
        else:
            waiter = asyncio.ensure_future(self.await_in_vain(eventlet.spawn(self.read_green, reader)))
        await asyncio.sleep(0)
        reset = rng.random() < 0.5
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        end = writer.transport.abort if reset else writer.close
        first, second = (waiter.cancel, end) if rng.random() < 0.5 else (end, waiter.cancel)
        first()
        await self.give_way(rng)
        second()
        await asyncio.wait([waiter])
        self.counts["cancels"] += waiter.cancelled()

    @staticmethod
    def read_green(reader):
        """A green thread that waits for what never comes."""
        try:
            return await_(reader.read(100))
        except OSError:
            return b""

    @staticmethod
    async def await_in_vain(thread):
        """Cancelling the task kills the green thread that it waits for."""
        try:
            return await thread
        except OSError:
            return b""

    def fork(self, sock, rng, length):
        """A child of a coroutine answers."""
        if rng.random() < 0.3:
            return super().fork(sock, rng, length)
        return self.serve_in_task(self.fork_in_task, sock, rng, length)

    async def fork_in_task(self, reader, writer, rng, _):
        """The coroutine waits for its child in green words, and stops nobody else by it."""
        answer = await self.checksum(reader, rng)
        async with self.children:
            self.counts["forks"] += 1
            pid = os.fork()
            if pid == 0:
                server.answer_as_child(writer.get_extra_info("socket")._sock, answer)
            while os.waitpid(pid, os.WNOHANG)[0] == 0:
                eventlet.sleep(0.002)

    def cat(self, sock, rng, length):
        """Back through a child's pipes."""
        if rng.random() < 0.3:
            return super().cat(sock, rng, length)
        return self.serve_in_task(self.cat_in_task, sock, rng, length)

    async def cat_in_task(self, reader, writer, rng, _):
        """The same with asyncio's subprocess."""
        async with self.children:
            pipe = asyncio.subprocess.PIPE
            child = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
            try:
                feeding = asyncio.ensure_future(self.feed_in_task(child, reader, rng))
                while piece := await child.stdout.read(8192):
                    writer.write(piece)
                    await writer.drain()
                await feeding
            finally:
                feeding.cancel()
                if child.returncode is None:
                    child.kill()
                await child.wait()

    async def feed_in_task(self, child, reader, rng):
        """Everything read into the child."""

        async def feed(piece):
            child.stdin.write(piece)
            await child.stdin.drain()

        try:
            await self.consume(reader, rng, feed)
        except OSError as e:
            if e.errno != errno.EPIPE:
                raise
        finally:
            child.stdin.close()


async def run_once():
    """Starts a program."""
    child = await asyncio.create_subprocess_exec("true")
    await child.wait()


def tasks_left():
    """Tasks that have not ended; they get a bounded time for it."""
    loop = hubs.get_hub().loop
    for _ in range(100):
        left = [repr(task) for task in asyncio.all_tasks(loop)]
        if not left:
            break
        eventlet.sleep(0.01)
        gc.collect()
    return left


def main():
    """Serves, then tells."""
    seed = int(sys.argv[sys.argv.index("--seed") + 1])
    eventlet.sleep(0)
    random.seed(seed)
    loop = hubs.get_hub().loop
    wrong = []
    loop.set_exception_handler(lambda _, context: wrong.append(repr(context)[:500]))
    # What asyncio makes once for the whole process is there before the descriptors are counted.
    await_(run_once())
    before = len(os.listdir("/proc/self/fd"))
    serving = WorldsServer(seed)
    serving.run()
    left = tasks_left()
    result = {**server.rest(), "fds_before": before, **serving.counts, "tasks_left": left, "wrong": wrong[:5]}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    sys.exit(main())
