"""spawn, Event, Timeout and Semaphore: what eventlet's own code does, on its hub and on ours."""

import isolated
from programs.own_process import in_own_process


@in_own_process()
def test_a_value_that_was_sent_is_not_lost_on_the_next_wait_of_a_killed_waiter():
    import eventlet
    from eventlet import event

    first, second = event.Event(), event.Event()
    seen = []

    def wait():
        try:
            first.wait()
        except ValueError:
            # 3. `first` was sent and is queued for this green thread, which waits for `second` now.
            seen.append(second.wait())

    waiter = eventlet.spawn(wait)
    eventlet.sleep(0)
    # 1. The wake-up is queued, 2. and overtaken by an exception.
    first.send("first")
    waiter.kill(ValueError())
    for _ in range(3):
        eventlet.sleep(0)
    assert seen == []
    second.send("second")
    waiter.wait()
    assert seen == ["second"]


@in_own_process()
def test_waiters_get_what_was_sent_to_them_also_after_a_reset():
    import eventlet
    from eventlet import event

    one = event.Event()
    waiters = [eventlet.spawn(one.wait) for _ in range(3)]
    eventlet.sleep(0)
    one.send("early")
    one.reset()
    one.send("late")
    assert [waiter.wait() for waiter in waiters] == ["early"] * 3
    assert one.wait() == "late"


@in_own_process()
def test_an_exception_sent_is_raised_in_every_waiter_and_later():
    import eventlet
    from eventlet import event

    one = event.Event()

    def wait():
        try:
            one.wait()
        except KeyError as error:
            return error.args

    waiters = [eventlet.spawn(wait) for _ in range(2)]
    eventlet.sleep(0)
    one.send_exception(KeyError("key"))
    waiters.append(eventlet.spawn(wait))
    assert [waiter.wait() for waiter in waiters] == [("key",)] * 3


@in_own_process()
def test_event_wait_returns_none_when_its_time_is_up():
    import eventlet
    from eventlet import event

    one = event.Event()
    assert one.wait(timeout=0.01) is None
    assert one.wait(0) is None
    eventlet.spawn_after(0.01, one.send, "value")
    assert one.wait(timeout=5) == "value"


@in_own_process()
def test_a_green_thread_that_is_killed_before_it_started_never_runs_its_function():
    import eventlet
    import greenlet

    ran = []
    thread = eventlet.spawn(ran.append, 1)
    linked = []
    thread.link(linked.append)
    thread.kill()
    plain = eventlet.spawn_n(ran.append, 2)
    eventlet.kill(plain)
    eventlet.sleep(0)
    try:
        thread.wait()
    except greenlet.GreenletExit:
        linked.append("exit")
    assert ran == []
    assert linked == [thread, "exit"]


@in_own_process()
def test_the_result_can_be_asked_for_before_during_and_after_the_run():
    import eventlet

    early = eventlet.spawn(eventlet.sleep)
    assert early._exit_event is early._exit_event
    assert not early._exit_event.ready()
    assert early.wait() is None
    late = eventlet.spawn(lambda: "result")
    eventlet.sleep(0)
    assert late._exit_event.ready()
    assert [late.wait(), late.wait()] == ["result", "result"]
    linked = []
    late.link(lambda thread, value: linked.append((thread, value)), 7)
    assert linked == [(late, 7)]
    assert late._exit_funcs is not None and not late.unlink(linked.append)


@in_own_process()
def test_subclasses_of_green_thread_run_their_own_main():
    import eventlet
    from eventlet import greenthread, hubs

    class Counting(greenthread.GreenThread):
        def __init__(self, parent):
            super().__init__(parent)
            self.count = 0

        def main(self, function, args, kwargs):
            self.count += 1
            return super().main(function, args, kwargs)

    thread = Counting(hubs.get_hub().greenlet)
    hubs.get_hub().schedule_call_global(0, thread.switch, max, (1, 2), {})
    assert thread.wait() == 2
    assert thread.count == 1
    assert eventlet.getcurrent() is not thread


@in_own_process()
def test_spawn_takes_every_argument_of_the_function_whatever_its_name():
    import eventlet

    def function(*args, **kwargs):
        return args, kwargs

    assert eventlet.spawn(function, 1, args=2, function=3).wait() == ((1,), {"args": 2, "function": 3})
    seen = []
    eventlet.spawn_n(lambda *args, **kwargs: seen.append((args, kwargs)), 1, kwargs=2)
    eventlet.sleep(0)
    assert seen == [((1,), {"kwargs": 2})]


@in_own_process()
def test_timeouts_are_as_their_arguments_say():
    import eventlet

    class Own(Exception):
        pass

    def outcome(*args):
        try:
            with eventlet.Timeout(*args) as timeout:
                eventlet.sleep(0.05)
            return "silent" if timeout.timer is None and not timeout.pending else "pending"
        except BaseException as error:
            return "itself" if error is timeout else type(error).__name__

    assert outcome(0.01) == "itself"
    assert outcome(0.01, True) == "itself"
    assert outcome(0.01, False) == "silent"
    assert outcome(0.01, Own) == outcome(0.01, Own()) == "Own"
    assert outcome() == outcome(None) == outcome(10) == "silent"
    timeout = eventlet.Timeout(10)
    assert timeout.pending and "pending" in repr(timeout)
    try:
        timeout.start()
    except AssertionError as error:
        assert "is already started; to restart it, cancel it first" in str(error)
    else:
        raise AssertionError("started twice")
    timeout.cancel()
    timeout.cancel()
    assert not timeout.pending and timeout.start() is timeout and timeout.pending
    timeout.cancel()
    eventlet.sleep(0.02)


@in_own_process()
def test_a_subclass_of_timeout_may_override_start_and_cancel():
    import eventlet

    calls = []

    class Loud(eventlet.Timeout):
        def start(self):
            calls.append("start")
            return super().start()

        def cancel(self):
            calls.append("cancel")
            super().cancel()

    with Loud(10) as timeout:
        assert timeout.pending
    assert calls == ["start", "cancel"]


@in_own_process()
def test_a_bounded_semaphore_refuses_and_a_semaphore_is_fair():
    import eventlet
    from eventlet import semaphore

    bounded = semaphore.BoundedSemaphore(1)
    assert bounded.acquire() is True and bounded.locked()
    bounded.release()
    try:
        bounded.release()
    except ValueError as error:
        assert str(error) == "Semaphore released too many times"
    else:
        raise AssertionError("released too many times")

    lock, order = semaphore.Semaphore(1), []

    def run(name):
        with lock:
            order.append(name)
            eventlet.sleep(0)

    threads = [eventlet.spawn(run, name) for name in range(5)]
    for thread in threads:
        thread.wait()
    assert order == [0, 1, 2, 3, 4]
    assert lock.counter == 1 and lock.acquire(blocking=False) is True
    assert lock.acquire(timeout=0.01) is False
    assert lock.balance == 0


SEMAPHORE_PROGRAM = """
    import eventlet
    from eventlet import hubs, lock, semaphore

    class Own(semaphore.Semaphore):
        def _do_acquire(self):
            said.append("own look")
            super()._do_acquire()

    said = []

    def run(sem, name):
        with sem:
            said.append((name, "in", sem.counter, len(sem._waiters)))
            eventlet.sleep(0)
        said.append((name, "out", sem.counter, len(sem._waiters)))

    def tick(count):
        for step in range(count):
            said.append(("tick", step))
            eventlet.sleep(0)

    for sem in (semaphore.Semaphore(1), semaphore.Semaphore(2), semaphore.BoundedSemaphore(1), lock.Lock(),
                Own(1)):
        threads = [eventlet.spawn(tick, 6)]
        threads += [eventlet.spawn(run, sem, name) for name in range(6)]
        eventlet.sleep(0)
        # 1. One that waits is killed. 2. One is killed between the release that is for it and its turn.
        threads[4].kill()
        eventlet.sleep(0)
        eventlet.sleep(0)
        threads[3].kill()
        # 3. A stray switch does not give anybody the semaphore.
        hubs.get_hub().schedule_call_global(0, threads[6].switch)
        for thread in threads:
            try:
                thread.wait()
            except eventlet.greenlet.GreenletExit:
                said.append("killed")
        said.append((type(sem).__name__, sem.counter, len(sem._waiters), sem.balance))

    # 4. Two releases in one turn of one that waits, and two that wait: each is looked after once.
    sem = semaphore.Semaphore(0)
    threads = [eventlet.spawn(run, sem, name) for name in range(2)]
    eventlet.sleep(0)
    sem.release(); sem.release(); sem.release()
    said.append(sem.counter)
    for thread in threads:
        thread.wait()
    said.append((sem.counter, sem.acquire(False), sem.acquire(True, 0.01), sem.acquire(timeout=0.01)))

    # 5. A time that is up among others that wait without one.
    sem = semaphore.Semaphore(0)
    patient = eventlet.spawn(run, sem, "patient")
    said.append(sem.acquire(timeout=0.01))
    sem.release()
    patient.wait()

    # 6. An own acquire is what `with` calls, of the class or of the instance.
    class Loud(semaphore.Semaphore):
        def acquire(self):
            said.append("loud")
            return super().acquire()

    with Loud(1):
        pass
    sem = semaphore.Semaphore(1)
    sem.acquire = lambda: said.append("of the instance")
    with sem:
        pass
    try:
        lock.Lock().release()
    except RuntimeError as error:
        said.append(str(error))
    print(said)
"""


def test_semaphores_and_locks_are_granted_in_the_order_of_the_stock_hub(our_hub):
    stock = isolated.run(SEMAPHORE_PROGRAM, hub=isolated.EPOLLS).stdout
    assert "killed" in stock and "own look" in stock and "release unlocked lock" in stock
    assert isolated.run(SEMAPHORE_PROGRAM, hub=our_hub).stdout == stock


def test_one_that_dies_with_the_semaphore_granted_to_it_stops_nobody(hub):
    isolated.run(
        """
        import eventlet
        from eventlet import semaphore

        sem, done = semaphore.Semaphore(0), []

        def run(name):
            sem.acquire()
            done.append(name)
            sem.release()
            if name == 0:
                raise ZeroDivisionError

        for name in range(3):
            eventlet.spawn_n(run, name)
        eventlet.sleep(0)
        sem.release()
        eventlet.sleep(0.01)
        assert done == [0, 1, 2] and sem.counter == 1, (done, sem.counter)
        """,
        hub=hub,
    )


QUEUE_PROGRAM = """
    import gc, weakref
    import eventlet
    from eventlet import greenthread, hubs, queue

    said = []

    class Own(greenthread.GreenThread):
        def switch(self, *args):
            said.append("own switch")
            return super().switch(*args)

    def put(items, count):
        for item in range(count):
            items.put(item)
            said.append(("put", item, items.qsize()))

    def get(items, count):
        for _ in range(count):
            said.append(("got", items.get(), items.qsize()))

    def tick(count):
        for step in range(count):
            said.append(("tick", step))
            eventlet.sleep(0)

    def own(function, *args):
        green = Own(hubs.get_hub().greenlet)
        hubs.get_hub().schedule_call_global(0, green.switch, function, args, {})
        return green

    makers = [lambda: queue.Queue(1), lambda: queue.Queue(0), lambda: queue.LightQueue(2), lambda: queue.Queue(),
              lambda: queue.PriorityQueue(1), lambda: queue.LifoQueue(1)]
    for make in makers:
        for start in (eventlet.spawn, own):
            items = make()
            threads = [eventlet.spawn(tick, 4), eventlet.spawn(put, items, 7), start(get, items, 7)]
            for thread in threads:
                thread.wait()
            said.append((items.qsize(), items.getting(), items.putting(), items._event_unlock))
            # The getter waits first, and has its items put by another queue's getter.
            first, second = make(), make()
            def forward():
                for _ in range(5):
                    second.put(first.get())
            threads = [eventlet.spawn(get, second, 5), start(forward), eventlet.spawn(put, first, 5)]
            for thread in threads:
                thread.wait()

    # A getter that ends, in peace or by an error, stops nobody.
    items = queue.Queue(1)
    def get_one(error):
        said.append(("one", items.get()))
        if error:
            raise error("of a getter")
    for error in (None, ZeroDivisionError, None, KeyError):
        eventlet.spawn_n(get_one, error)
        eventlet.sleep(0)
    for item in range(4):
        items.put(item)
        said.append(("put", item))
    eventlet.sleep(0); eventlet.sleep(0)
    said.append((items.qsize(), items.getting(), items.putting()))

    # One that gets kills the one whose item it got, which waits to hear so.
    items = queue.Queue(0)
    def put_for_ever():
        try:
            while True:
                items.put("item")
        finally:
            said.append("putter is over")
    putter = eventlet.spawn(put_for_ever)
    eventlet.sleep(0)
    said.append(items.get())
    said.append(items.get())
    putter.kill()
    said.append((items.putting(), items.getting()))
    try:
        items.get(timeout=0.01)
    except queue.Empty:
        said.append("empty")

    # A stray switch into put is told from a hand-over.
    items = queue.Queue(1)
    items.put(1)
    def put_in_vain():
        try:
            items.put(2)
        except AssertionError as error:
            said.append(str(error))
    thread = eventlet.spawn(put_in_vain)
    eventlet.sleep(0)
    hubs.get_hub().schedule_call_global(0, thread.switch, "stray")
    thread.wait()
    said.append((items.putting(), items.qsize()))

    # What was handed over is kept by nobody.
    class Item:
        pass
    items, references = queue.Queue(1), []
    def consume():
        while True:
            items.get()
    def produce():
        for _ in range(4):
            references.append(weakref.ref(item := Item()))
            items.put(item)
            del item
    consumer = eventlet.spawn(consume)
    eventlet.spawn(produce).wait()
    for _ in range(3):
        eventlet.sleep(0)
    gc.collect()
    said.append([reference() for reference in references])
    print(said)
"""


def test_queues_hand_over_in_the_order_of_the_stock_hub(our_hub):
    stock = isolated.run(QUEUE_PROGRAM, hub=isolated.EPOLLS)
    ours = isolated.run(QUEUE_PROGRAM, hub=our_hub)
    assert "putter is over" in stock.stdout and "own switch" in stock.stdout
    assert ours.stdout == stock.stdout
    assert "ZeroDivisionError: of a getter" in ours.stderr and "KeyError: 'of a getter'" in ours.stderr
