"""Trap 8: FIFO order identical to the stock hub's; floods of I/O and of timers do not starve each other."""

import os
from pathlib import Path

import isolated
from programs.own_process import in_own_process, require_hub

SCRIPT = Path(__file__).with_name("scripted_order.py")


def test_scripted_program_runs_in_the_order_of_the_stock_hub(our_hub):
    require_hub(our_hub)
    env = {"PYTHONPATH": str(SCRIPT.parents[1]), "PYTHONWARNINGS": "ignore"}
    stock, ours = (isolated.run(SCRIPT, hub=hub, env=env).stdout for hub in (isolated.EPOLLS, our_hub))
    assert ours.splitlines() == stock.splitlines()
    assert len(stock.splitlines()) > 100, os.linesep.join(["too little happened:", stock])


def ping_pong(pairs):
    """Green threads that keep a socket busy each, until killed."""
    import eventlet

    def bounce(sock, first):
        if first:
            sock.sendall(b"x" * 64)
        while True:
            sock.sendall(sock.recv(64))

    threads = []
    for near, far in pairs:
        threads += [eventlet.spawn(bounce, near, True), eventlet.spawn(bounce, far, False)]
    return threads


@in_own_process()
def test_flood_of_io_does_not_starve_timers():
    import time

    import eventlet
    from eventlet.green import socket

    threads = ping_pong([socket.socketpair() for _ in range(50)])
    eventlet.sleep(0.01)
    began = time.monotonic()
    for _ in range(20):
        eventlet.sleep(0.005)
    took = time.monotonic() - began
    for thread in threads:
        thread.kill()
    assert took < 3, f"20 sleeps of 5 ms took {took:.2f} s under a flood of I/O"


@in_own_process()
def test_flood_of_zero_sleeps_does_not_starve_io():
    """Each round trip takes a bounded number of turns of the others."""
    import eventlet
    from traps.wire import tcp_pair

    turns = 0

    def spin():
        nonlocal turns
        while True:
            eventlet.sleep(0)
            turns += 1

    spinners = [eventlet.spawn(spin) for _ in range(10)]
    client, server = tcp_pair()

    def echo():
        while data := server.recv(10):
            server.sendall(data)

    eventlet.spawn_n(echo)
    before = turns
    with eventlet.Timeout(20):
        for number in range(200):
            client.sendall(b"%d" % number)
            assert client.recv(10) == b"%d" % number
    per_round_trip = (turns - before) / 200 / len(spinners)
    for thread in spinners:
        thread.kill()
    assert per_round_trip < 50, f"{per_round_trip:.0f} turns of everybody else per round trip"


@in_own_process()
def test_chain_of_due_timers_does_not_starve_io():
    import eventlet
    from eventlet import hubs
    from traps.wire import let_block, tcp_pair

    hub, fired, over = hubs.get_hub(), 0, False

    def again():
        nonlocal fired
        fired += 1
        if not over:
            hub.schedule_call_global(0, again)

    client, server = tcp_pair()
    thread = eventlet.spawn(server.recv, 10)
    let_block()
    again()
    client.fd.send(b"through")
    with eventlet.Timeout(10):
        assert thread.wait() == b"through"
    over = True
    assert fired > 0


@in_own_process()
def test_chain_of_hand_overs_does_not_starve_timers_or_io():
    """Two green threads that keep waking each other through a queue are always ready."""
    import eventlet
    from eventlet import queue
    from traps.wire import let_block, tcp_pair

    there, back = queue.Queue(1), queue.Queue(1)

    def left():
        while True:
            there.put(back.get())

    def right():
        while True:
            back.put(there.get())

    players = [eventlet.spawn(left), eventlet.spawn(right)]
    back.put("ball")
    client, server = tcp_pair()
    reader = eventlet.spawn(server.recv, 10)
    let_block()
    client.fd.send(b"through")
    with eventlet.Timeout(10):
        assert reader.wait() == b"through"
        for _ in range(10):
            eventlet.sleep(0.001)
    for player in players:
        player.kill()


@in_own_process()
def test_readers_of_ready_sockets_all_run_once_before_any_runs_twice():
    import eventlet
    from eventlet.green import socket
    from traps.wire import let_block

    pairs = [socket.socketpair() for _ in range(20)]
    ran = []

    def reader(number, sock):
        while sock.recv(1):
            ran.append(number)

    for number, (near, _) in enumerate(pairs):
        eventlet.spawn_n(reader, number, near)
    let_block()
    for _, far in pairs:
        far.fd.send(b"a")
    with eventlet.Timeout(5):
        while len(ran) < 20:
            eventlet.sleep(0)
    assert sorted(ran) == list(range(20)), ran


def test_call_of_another_thread_is_not_lost_between_turns_that_green_threads_begin(our_hub):
    """1. A green thread that leaves begins the next turn and sees the wake-up of another thread. 2. All green
    threads then wait. The hub must not wait over what the wake-up was for."""
    isolated.run(
        """
        import threading, time
        import eventlet
        from eventlet import event, hubs

        hub = hubs.get_hub()

        def yields():
            for _ in range(8):
                eventlet.sleep(0)

        for _ in range(300):
            done = event.Event()
            busy = [eventlet.spawn(yields) for _ in range(3)]
            thread = threading.Thread(target=hub.schedule_call_global, args=(0, done.send))
            thread.start()
            with eventlet.Timeout(5):
                done.wait()
                [green.wait() for green in busy]
            thread.join()
        """,
        hub=our_hub,
    )
