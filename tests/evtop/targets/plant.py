"""Plants blocks in a process with a given hub: `plant.py HUB GO_FILE PORT KIND…`; reports each as a JSON line.

Nothing is monkey-patched: the blocks are real. Between two blocks the hub runs.
"""

import json
import os
import sys
import tempfile
import time
import warnings

warnings.simplefilter("ignore")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import blocks  # noqa: E402
import hubs  # noqa: E402

HUB, GO_FILE, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
KINDS = sys.argv[4:]
PAUSE_S = 0.03


def run_queue_ms():
    """Time this thread was ready without a processor: not the block's doing."""
    with open("/proc/thread-self/schedstat", encoding="ascii") as stat:
        return int(stat.read().split()[1]) / 1e6


class Environment:
    port = PORT
    directory = os.environ.get("EVTOP_TEST_DIRECTORY", tempfile.gettempdir())

    def __init__(self, pause):
        self.pause = pause

    def begin(self):
        self.waited = run_queue_ms()
        self.started = time.perf_counter()
        self.ended = None

    def end(self):
        if self.ended is None:
            self.ended = time.perf_counter()
            self.waited = run_queue_ms() - self.waited

    def ms(self):
        return (self.ended - self.started) * 1000

    def own_ms(self):
        return self.ms() - self.waited


def report(**values):
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def prepare(env):
    ready = []
    for kind in KINDS:
        try:
            ready.append((kind, blocks.BLOCKS[kind][1](env)))
        except Exception as error:
            report(kind=kind, skipped=repr(error))
    report(ready=os.getpid())
    return ready


def run_block(env, kind, block):
    """One block, timed; one that pauses before it blocks begins and ends its own time."""
    env.begin()
    block()
    env.end()
    return dict(
        kind=kind,
        cls=blocks.BLOCKS[kind][0],
        file=blocks.__file__,
        line=blocks.line_of(kind),
        ms=env.ms(),
        own_ms=env.own_ms(),
    )


def run_green(pause, spawn):
    env = Environment(lambda: pause(PAUSE_S))
    ready = prepare(env)
    while not os.path.exists(GO_FILE):
        pause(0.01)

    def work():
        for kind, block in ready:
            pause(PAUSE_S)
            result = run_block(env, kind, block)
            pause(PAUSE_S)
            report(**result)
        report(done=True)

    spawn(work)


def main_eventlet():
    import eventlet

    run_green(eventlet.sleep, lambda work: eventlet.spawn(work).wait())
    eventlet.sleep(3600)


def main_gevent():
    import gevent

    run_green(gevent.sleep, lambda work: gevent.spawn(work).join())
    gevent.sleep(3600)


async def main_asyncio():
    import asyncio

    # A block that must pause in its middle runs its parts in callbacks of the loop: a greenlet stands in for await.
    import greenlet

    loop = asyncio.get_running_loop()
    parent = greenlet.getcurrent()

    def pause(seconds=PAUSE_S):
        parent.switch(seconds)

    env = Environment(pause)
    ready = prepare(env)
    while not os.path.exists(GO_FILE):
        await asyncio.sleep(0.01)

    async def drive(function):
        """Runs a function that may pause: each pause becomes an await of this task."""
        nonlocal parent
        parent = greenlet.getcurrent()
        runner = greenlet.greenlet(function)
        value = runner.switch()
        while not runner.dead:
            await asyncio.sleep(value)
            parent = greenlet.getcurrent()
            value = runner.switch()
        return value

    for kind, block in ready:
        await asyncio.sleep(PAUSE_S)
        result = await drive(lambda: run_block(env, kind, block))
        await asyncio.sleep(PAUSE_S)
        report(**result)
    report(done=True)
    assert loop.is_running()
    await asyncio.sleep(3600)


world = hubs.prepare(HUB)
if world == "eventlet":
    main_eventlet()
elif world == "gevent":
    main_gevent()
else:
    hubs.run(HUB, main_asyncio())
