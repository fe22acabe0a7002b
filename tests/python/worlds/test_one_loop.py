"""Under ``EVENTLET_HUB=uring`` the hub's loop is uringhub's own, on the hub's turn, timers and driver.

The old limitation: eventlet's asyncio hub puts its timers beside those of asyncio, and wakes up for either.
"""

from __future__ import annotations

import pytest


def test_hub_loop_is_the_current_and_the_running_loop(lifted):
    lifted("""
    import uringhub, uringhub.loop
    hub = hubs.get_hub()
    assert asyncio.get_event_loop_policy().get_event_loop() is hub.loop
    assert isinstance(hub.loop, uringhub.loop.Loop)
    async def main():
        assert asyncio.get_running_loop() is hub.loop
        return hub.loop.driver
    assert run(main()) == hub.driver
    """)


def test_program_without_coroutines_has_no_running_loop(lifted):
    lifted("""
    del sys.modules["eventlet.asyncio"]
    eventlet.sleep(0.01)
    assert asyncio.events._get_running_loop() is None
    async def value():
        return 1
    assert asyncio.run(value()) == 1
    """)


def test_loop_opens_no_descriptor_of_its_own(lifted):
    lifted("""
    before = len(os.listdir("/proc/self/fd"))
    hub = hubs.get_hub()
    eventlet.sleep(0)
    of_the_hub = len(os.listdir("/proc/self/fd"))
    run(asyncio.sleep(0.001))
    assert len(os.listdir("/proc/self/fd")) == of_the_hub, (before, of_the_hub)
    """)


def test_idle_hub_with_both_worlds_waiting_makes_no_turn(lifted):
    lifted("""
    hub = hubs.get_hub()
    async def main():
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        waiting = asyncio.create_task(reader.read(1))
        green = eventlet.spawn(eventlet.sleep, 0.25)
        await asyncio.sleep(0.02)
        before = hub.turns
        await asyncio.sleep(0.2)
        assert hub.turns - before <= 2, hub.turns - before
        theirs.send(b"x")
        assert await waiting == b"x"
        await green
        writer.close()
    run(main())
    """)


def test_timers_of_both_worlds_fire_in_one_order(lifted):
    lifted("""
    order = []
    async def main():
        loop = asyncio.get_running_loop()
        for number in range(10):
            if number % 2:
                loop.call_later(0.01 + number / 500, order.append, number)
            else:
                eventlet.spawn_after(0.01 + number / 500, order.append, number)
        await asyncio.sleep(0.1)
    run(main())
    assert order == list(range(10)), order
    """)


def test_worlds_take_turns_in_the_order_of_their_wake_ups(lifted):
    lifted("""
    order = []
    async def main():
        loop = asyncio.get_running_loop()
        def green(number):
            for _ in range(3):
                order.append(("green", number))
                eventlet.sleep(0)
        greens = [eventlet.spawn(green, n) for n in range(2)]
        await asyncio.sleep(0)
        for _ in range(3):
            order.append("task")
            await asyncio.sleep(0)
        [await g for g in greens]
    run(main())
    places = [i for i, what in enumerate(order) if what == "task"]
    assert places[1] - places[0] == 3 and len(order) == 9, order
    """)


def test_other_thread_wakes_the_hub_through_the_loop(lifted):
    lifted("""
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        def thread():
            time.sleep(0.05)
            loop.call_soon_threadsafe(future.set_result, "from a thread")
        threading.Thread(target=thread).start()
        return await asyncio.wait_for(future, 5)
    assert run(main()) == "from a thread"
    assert run(asyncio.to_thread(lambda: "pooled")) == "pooled"
    """)


def test_signal_handlers_of_the_loop_run_and_the_hub_keeps_its_own(lifted):
    lifted("""
    seen = []
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, lambda: future.set_result("handled"))
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        result = await asyncio.wait_for(future, 5)
        loop.remove_signal_handler(signal.SIGUSR1)
        return result
    assert run(main()) == "handled"
    signal.signal(signal.SIGUSR2, lambda *_: seen.append("handled"))
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR2)).start()
    with eventlet.Timeout(5):
        while not seen:
            eventlet.sleep(0.2)
    """)


def test_loop_refuses_to_be_run_or_closed(lifted):
    lifted("""
    loop = hubs.get_hub().loop
    for method in (loop.run_forever, loop.close):
        try:
            method()
        except RuntimeError:
            pass
        else:
            raise AssertionError(method)
    async def main():
        coroutine = asyncio.sleep(0)
        try:
            loop.run_until_complete(coroutine)
        except RuntimeError as error:
            coroutine.close()
            return str(error)
    assert run(main()) == "This event loop is already running"
    """)


def test_each_thread_has_a_hub_and_a_loop_of_its_own(lifted):
    lifted("""
    from eventlet.patcher import original
    results = []
    def thread():
        async def main():
            await asyncio.sleep(0.01)
            eventlet.sleep(0.01)
            return asyncio.get_running_loop()
        results.append(run(main()))
    threads = [original("threading").Thread(target=thread) for _ in range(3)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(set(map(id, results))) == 3
    """)


def test_several_readers_of_one_descriptor_are_allowed(lifted):
    """The old limitation: ``hub_prevent_multiple_readers(False)`` is refused on an asyncio hub."""
    lifted("""
    from eventlet import debug
    from eventlet.green import socket as green_socket
    hubs.get_hub()
    debug.hub_prevent_multiple_readers(False)
    ours, theirs = green_socket.socketpair()
    async def receive():
        return ours.recv(1)
    async def main():
        greens = [eventlet.spawn(ours.recv, 1) for _ in range(2)]
        tasks = [asyncio.create_task(receive()) for _ in range(2)]
        await asyncio.sleep(0.01)
        for letter in (b"a", b"b", b"c", b"d"):
            theirs.send(letter)
            await asyncio.sleep(0.005)
        return sorted([await g for g in greens] + await asyncio.gather(*tasks))
    assert run(main()) == [b"a", b"b", b"c", b"d"]
    """)


def test_stock_hub_refuses_several_readers(limited):
    limited("""
    hubs.get_hub()
    from eventlet import debug
    debug.hub_prevent_multiple_readers(False)
    """)


def test_new_loop_in_a_green_thread_does_not_hold_up_the_others(lifted):
    lifted("""
    import uringhub
    beats = []
    def beat():
        while True:
            beats.append(1)
            eventlet.sleep(0.005)
    async def main():
        await asyncio.sleep(0.1)
    del sys.modules["eventlet.asyncio"]
    eventlet.spawn(beat)
    uringhub.run(main())
    assert len(beats) > 5, beats
    """)


@pytest.mark.parametrize("patched", [False, True])
def test_loop_takes_the_tls_contexts_of_the_program(patched, lifted):
    """Eventlet gives asyncio a copy of ``ssl`` with a class of its own, so that ``start_tls`` refused contexts."""
    lifted(f"""
    if {patched}:
        eventlet.monkey_patch()
    import ssl
    context = ssl.create_default_context()
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.create_connection(asyncio.Protocol, sock=ours)
        theirs.close()
        try:
            await loop.start_tls(transport, protocol, context, server_hostname="localhost")
        except (ConnectionError, ssl.SSLError) as error:
            return type(error).__name__
    assert run(main())
    """)
