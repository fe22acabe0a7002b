"""A stock asyncio loop that a green thread runs does not hold up the other green threads."""

from programs.own_process import in_own_process


@in_own_process(patched=True)
def test_a_loop_in_a_green_thread_waits_alone():
    """1. asyncio.run in a patched Thread waits 0.3 s, then for a connection. 2. Others tick on meanwhile."""
    import asyncio
    import threading

    import eventlet

    ports, heard = [], []

    async def served():
        await asyncio.sleep(0.3)
        over = asyncio.Event()

        async def echo(reader, writer):
            heard.append(await reader.readline())
            writer.write(b"answer\n")
            await writer.drain()
            writer.close()
            over.set()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            ports.append(server.sockets[0].getsockname()[1])
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(served(),))
    thread.start()
    ticks = 0
    while not ports:
        eventlet.sleep(0.01)
        ticks += 1
    assert ticks >= 10, f"{ticks} ticks in 0.3 s"
    client = eventlet.connect(("127.0.0.1", ports[0]))
    client.sendall(b"question\n")
    with eventlet.Timeout(10):
        assert client.recv(100) == b"answer\n"
        thread.join()
    assert heard == [b"question\n"]


@in_own_process(patched=True)
def test_a_loop_that_is_never_idle_takes_turns():
    """1. A loop spins on call_soon. 2. A green thread still gets its turns. 3. It stops the loop."""
    import asyncio

    import eventlet

    loop = asyncio.new_event_loop()
    turns = 0

    def again():
        nonlocal turns
        turns += 1
        loop.call_soon(again)

    loop.call_soon(again)

    def stop():
        for _ in range(50):
            eventlet.sleep(0)
        loop.call_soon_threadsafe(loop.stop)

    eventlet.spawn(stop)
    with eventlet.Timeout(20):
        loop.run_forever()
    assert turns >= 2
    loop.close()


@in_own_process(patched=True)
def test_a_killed_green_thread_leaves_its_loop():
    """1. A green thread runs a loop that waits for ever. 2. Killed, it ends, and the loop can be closed."""
    import asyncio

    import eventlet

    loop = asyncio.new_event_loop()
    runner = eventlet.spawn(loop.run_forever)
    eventlet.sleep(0.05)
    assert loop.is_running()
    runner.kill()
    assert not loop.is_running()
    loop.close()
