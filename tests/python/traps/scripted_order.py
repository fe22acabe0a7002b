"""A program whose every step is printed: on any hub the same steps must come in the same order."""

import eventlet
from eventlet import event, greenpool, greenthread, hubs, patcher, queue, semaphore, timeout

hub = hubs.get_hub()
block_process = patcher.original("time").sleep


def say(*what):
    """One step."""
    print(*what, flush=True)


def spawns():
    """The ways of starting, interleaved, and the order of those that wait for them."""

    def worker(name):
        for step in range(3):
            say("spawned", name, step)
            eventlet.sleep(0)
        return name

    threads = [eventlet.spawn(worker, "a"), eventlet.spawn(worker, "b")]
    eventlet.spawn_n(worker, "n")
    threads.append(eventlet.spawn_after(0, worker, "after 0"))
    hub.schedule_call_global(0, say, "timer 0")
    threads.append(greenthread.spawn_after_local(0, worker, "local 0"))
    eventlet.spawn_n(worker, "m")
    say("started nobody yet")
    for thread in threads:
        say("waited", thread.wait())


def links():
    """Links run in the green thread that ends, before its waiters."""
    thread = eventlet.spawn(lambda: say("linked runs"))
    thread.link(lambda gt: say("link 1"))
    thread.link(lambda gt: say("link 2"))
    waiters = [eventlet.spawn(lambda n=n: (thread.wait(), say("waiter", n))) for n in range(3)]
    for waiter in waiters:
        waiter.wait()


def kills():
    """kill runs the victim at once, then the killer again."""

    def victim(name):
        try:
            say("victim", name, "sleeps")
            eventlet.sleep(100)
        except greenthread.greenlet.GreenletExit:
            say("victim", name, "ends")
            raise

    victims = [eventlet.spawn(victim, n) for n in range(3)]
    eventlet.spawn_n(say, "bystander before")
    victims[2].kill()
    say("killed one that had not started")
    eventlet.sleep(0)
    eventlet.spawn_n(say, "bystander after")
    victims[0].kill()
    say("killed 0")
    hub.schedule_call_global(0, victims[1].throw)
    say("throw is scheduled")
    eventlet.sleep(0)
    say("throw has happened:", victims[1].dead)


def primitives():
    """Event, Semaphore, Queue: who is woken, in which order, against zero sleeps.

    One waiter for the event and one getter at a time: Eventlet keeps these waiters in sets.
    """

    def ticking():
        for step in range(12):
            say("tick", step)
            eventlet.sleep(0)

    done, sem, items = event.Event(), semaphore.Semaphore(1), queue.Queue(1)

    def wait_event(n):
        say("event", n, done.wait())

    def lock(n):
        with sem:
            say("locked", n)
            eventlet.sleep(0)
        say("unlocked", n)

    def put():
        for n in range(6):
            items.put(n)
            say("put", n)

    def get(who):
        for _ in range(6):
            say("got", who, items.get())

    threads = [eventlet.spawn(ticking)]
    threads.append(eventlet.spawn(wait_event, 0))
    threads += [eventlet.spawn(lock, n) for n in range(4)]
    threads += [eventlet.spawn(put), eventlet.spawn(get, "x")]
    eventlet.sleep(0)
    done.send("value")
    say("sent")
    for thread in threads:
        thread.wait()


def timers():
    """By due time; cancelled ones never; a Timeout against a sleep.

    All are due before the hub looks, so that a busy machine changes nothing.
    """
    for delay in (0.03, 0.01, 0.05, 0.02, 0.04):
        hub.schedule_call_global(delay, say, "timer", delay)
    cancelled = hub.schedule_call_global(0.015, say, "never")
    cancelled.cancel()
    block_process(0.06)
    eventlet.sleep(0.02)
    say("slept")
    try:
        with timeout.Timeout(0.02) as mine:
            eventlet.sleep(1)
    except timeout.Timeout as caught:
        say("timed out:", caught is mine)
    with timeout.Timeout(0, False):
        eventlet.sleep(0.01)
        say("never")
    say("silent Timeout passed")


def pools():
    """GreenPool: spawn_n beyond its size waits for a free place; imap keeps the order."""
    pool = greenpool.GreenPool(2)

    def job(n):
        say("job", n)
        eventlet.sleep(0)
        return n

    for n in range(5):
        pool.spawn_n(job, n)
        say("pooled", n)
    pool.waitall()
    say("imap", list(pool.imap(job, range(5))))
    pile = greenpool.GreenPile(2)
    for n in range(3):
        pile.spawn(job, n)
    say("pile", list(pile))


def switches():
    """Bare switches through the hub."""
    current = greenthread.getcurrent()
    for n in range(5):
        hub.schedule_call_global(0, current.switch, n)
    for _ in range(5):
        say("switched with", hub.switch())


for part in (spawns, links, kills, primitives, timers, pools, switches):
    say("---", part.__name__)
    part()
