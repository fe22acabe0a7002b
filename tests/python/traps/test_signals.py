"""Trap 9: signals and Ctrl-C interrupt a wait at once."""

import os
import signal
import subprocess
import sys
import textwrap

import isolated
import pytest
from programs.own_process import PYTHON_TESTS, in_own_process, require_hub


@in_own_process()
def test_handler_runs_at_once_while_the_hub_waits():
    import time

    import eventlet
    from eventlet import event, patcher

    real_threading = patcher.original("threading")
    ran = []
    signal.signal(signal.SIGUSR1, lambda *_: ran.append((time.monotonic(), real_threading.get_ident())))
    sender = subprocess.Popen(
        [sys.executable, "-c", "import os, sys, time; time.sleep(0.3); print(time.monotonic()); "
         f"sys.stdout.flush(); os.kill({os.getpid()}, {signal.SIGUSR1})"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    with eventlet.Timeout(1.5, False):
        event.Event().wait()
    sent = float(sender.communicate()[0])
    assert len(ran) == 1, ran
    assert ran[0][0] - sent < 0.5, f"the handler ran {ran[0][0] - sent:.3f} s after the signal"
    assert ran[0][1] == real_threading.main_thread().ident


@in_own_process()
def test_waits_go_on_after_a_handled_signal():
    import eventlet
    from traps.wire import let_block, tcp_pair

    count = 0

    def handler(*_):
        nonlocal count
        count += 1

    signal.signal(signal.SIGALRM, handler)
    client, server = tcp_pair()
    reader = eventlet.spawn(server.recv, 10)
    let_block()
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    began = eventlet.hubs.get_hub().clock()
    eventlet.sleep(0.2)
    slept = eventlet.hubs.get_hub().clock() - began
    signal.setitimer(signal.ITIMER_REAL, 0)
    client.sendall(b"data")
    assert reader.wait() == b"data"
    assert slept >= 0.199 and count >= 5, (slept, count)


@in_own_process(hubs=isolated.OURS)
def test_green_thread_that_a_handler_wakes_runs_at_once():
    """The stock hubs notice it at their next timer only."""
    import eventlet
    from eventlet import event

    woken, clock = event.Event(), eventlet.hubs.get_hub().clock
    signal.signal(signal.SIGALRM, lambda *_: woken.send(clock()))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with eventlet.Timeout(5):
        rung = woken.wait()
    assert clock() - rung < 0.5, f"woken {clock() - rung:.3f} s after the handler"


@in_own_process(hubs=isolated.OURS)
def test_green_thread_that_a_handler_spawns_runs_at_once():
    import eventlet
    from eventlet import event

    clock, ran = eventlet.hubs.get_hub().clock, event.Event()
    rung = []

    def handler(*_):
        rung.append(clock())
        eventlet.spawn_n(lambda: ran.send(clock()))

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with eventlet.Timeout(5):
        assert ran.wait() - rung[0] < 0.5


@in_own_process()
def test_frame_named_do_poll_of_the_hubs_module_swallows_eintr():
    """oslo.service leaves the wait by raising OSError(EINTR) from a handler when it finds that frame."""
    import errno

    import eventlet
    from eventlet import hubs

    hub_file = sys.modules[hubs.get_hub().__module__].__file__
    seen = []

    def handler(_, frame):
        while frame is not None:
            if frame.f_code.co_name == "do_poll" and frame.f_code.co_filename == hub_file:
                seen.append(frame.f_code.co_name)
                raise OSError(errno.EINTR, os.strerror(errno.EINTR))
            frame = frame.f_back

    signal.signal(signal.SIGALRM, handler)
    from traps.wire import let_block, tcp_pair

    client, server = tcp_pair()
    reader = eventlet.spawn(server.recv, 10)
    let_block()
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    eventlet.sleep(0.3)
    client.sendall(b"data")
    assert reader.wait() == b"data"
    assert seen == ["do_poll"], seen


READY = 'print("ready", flush=True)'
INTERRUPTED = {
    "the main green thread sleeps": "eventlet.sleep(60)",
    "the main green thread waits for a socket": "pair[0].recv(1)",
    "another green thread is waited for": "eventlet.spawn(eventlet.sleep, 60).wait()",
    "a green thread computes": "eventlet.spawn(compute).wait()",
}


@pytest.mark.parametrize("case", INTERRUPTED)
def test_ctrl_c_raises_keyboard_interrupt_in_the_main_green_thread_while(hub, case):
    require_hub(hub)
    program = f"""
        import os, signal, eventlet
        from traps.wire import tcp_pair
        signal.signal(signal.SIGINT, signal.default_int_handler)
        def compute():
            {READY}
            while True:
                pass
        def others():
            while True:
                eventlet.sleep(0.5)
        eventlet.spawn_n(others)
        pair = tcp_pair()
        eventlet.spawn_n(pair[1].recv, 1)
        eventlet.sleep(0.01)
        try:
            {READY if "computes" not in case else ""}
            {INTERRUPTED[case]}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        eventlet.sleep(0.01)
        print("goes on", flush=True)
        """
    env = isolated.environment(hub, {"PYTHONPATH": str(PYTHON_TESTS), "PYTHONWARNINGS": "ignore"})
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        child.send_signal(signal.SIGINT)
        try:
            out, err = child.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            raise AssertionError(f"no end within 10 s of Ctrl-C: {out} {err}") from None
    assert out.split("\n") == ["interrupted", "goes on", ""], out + err


@in_own_process()
def test_system_exit_of_a_handler_ends_the_program_with_its_status():
    """In a child of its own, since it ends."""
    program = """
        import os, signal, sys, eventlet
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        eventlet.spawn_n(eventlet.sleep, 60)
        eventlet.spawn_after(0.01, os.kill, os.getpid(), signal.SIGTERM)
        eventlet.sleep(60)
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=20, capture_output=True)
    assert done.returncode == 5, done


@in_own_process(hubs=isolated.OURS)
def test_signal_that_another_thread_takes_wakes_the_hub():
    """1. The hub waits without end. 2. The kernel hands the signal to another thread, so that the wait is not
    interrupted. 3. The handler runs at once all the same, in the main thread.

    Eventlet's own hubs notice it at their next timer.
    """
    import time

    import eventlet
    from eventlet import event, patcher

    real_threading = patcher.original("threading")
    real_sleep = patcher.original("time").sleep
    done = event.Event()
    signal.signal(signal.SIGUSR1, lambda *_: done.send(real_threading.get_ident()))

    def take_signal():
        real_sleep(0.3)
        signal.pthread_kill(real_threading.get_ident(), signal.SIGUSR1)

    thread = real_threading.Thread(target=take_signal)
    started = time.monotonic()
    thread.start()
    with eventlet.Timeout(8):
        assert done.wait() == real_threading.main_thread().ident
    assert time.monotonic() - started < 4
    thread.join()


@in_own_process(hubs=isolated.OURS)
def test_wake_up_descriptor_of_the_program_is_left_alone():
    import eventlet
    from eventlet.green import socket

    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno())
    eventlet.sleep(0.01)
    assert signal.set_wakeup_fd(-1) == theirs.fileno()
    for end in (ours, theirs):
        end.close()
