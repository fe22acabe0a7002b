"""A stock asyncio loop that a green thread runs does not hold up the other green threads."""

from programs.own_process import in_own_process


@in_own_process(patched=True)
def test_a_loop_in_a_green_thread_waits_alone():
    """1. asyncio.run in a patched Thread waits for a timer, then for what others do. 2. They can do it."""
    import asyncio
    import threading

    import eventlet

    ports, heard = [], []

    async def served():
        await asyncio.sleep(0.01)
        over = asyncio.Event()

        async def echo(reader, writer):
            heard.append(await reader.readline())
            writer.write(b"answer\n")
            await writer.drain()
            writer.close()
            over.set()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            ports.append(server.sockets[0].getsockname()[1])
            # Nobody connects if the wait holds up the others: then the time ends it.
            await asyncio.wait_for(over.wait(), 15)

    thread = threading.Thread(target=asyncio.run, args=(served(),))
    thread.start()
    with eventlet.Timeout(30):
        while not ports:
            eventlet.sleep(0.01)
        client = eventlet.connect(("127.0.0.1", ports[0]))
        client.sendall(b"question\n")
        assert client.recv(100) == b"answer\n"
        thread.join()
    assert heard == [b"question\n"]


@in_own_process(patched=True)
def test_a_loop_that_is_never_idle_takes_turns():
    """1. A loop spins on call_soon. 2. A green thread still gets its turns. 3. It stops the loop."""
    import asyncio

    import eventlet

    loop = asyncio.new_event_loop()
    turns, stopped_at = 0, None

    def again():
        nonlocal turns
        turns += 1
        # So many turns without one for the green thread: it will never have one.
        if turns < 100_000:
            loop.call_soon(again)
        else:
            loop.stop()

    loop.call_soon(again)

    def stop():
        nonlocal stopped_at
        for _ in range(50):
            eventlet.sleep(0)
        stopped_at = turns
        loop.call_soon_threadsafe(loop.stop)

    eventlet.spawn(stop)
    loop.run_forever()
    # About a turn for a turn: neither is put off by the other.
    assert stopped_at is not None and 25 <= stopped_at <= 100, f"stopped after {stopped_at} of {turns} turns"
    loop.close()


@in_own_process(patched=True)
def test_a_killed_green_thread_leaves_its_loop():
    """1. A green thread runs a loop that waits for ever. 2. Killed, it ends, and the loop can be closed."""
    import asyncio

    import eventlet

    loop = asyncio.new_event_loop()
    runner = eventlet.spawn(loop.run_forever)
    # If the loop held up the others, only this would end it.
    loop.call_later(15, loop.stop)
    with eventlet.Timeout(30):
        while not loop.is_running():
            eventlet.sleep(0)
    assert not runner.dead
    runner.kill()
    assert not loop.is_running()
    loop.close()
