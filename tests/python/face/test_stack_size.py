"""How much C stack a green thread keeps while it waits: it is copied at each switch, and there are many."""

import json

import isolated

PROGRAM = """
    import json

    import eventlet
    import eventlet.event
    import eventlet.queue
    from eventlet.green import socket

    near, far = socket.socketpair()
    also, its_far = socket.socketpair()
    ends = eventlet.spawn(lambda: eventlet.sleep(60))
    waits = {
        "sleep": lambda: eventlet.sleep(60),
        "recv": lambda: near.recv(1),
        "recv_into": lambda: also.recv_into(bytearray(1)),
        "queue": eventlet.queue.Queue().get,
        "event": eventlet.event.Event().wait,
        "thread": ends.wait,
    }
    threads = {name: eventlet.spawn(lambda wait=wait: wait()) for name, wait in waits.items()}
    eventlet.sleep(0)
    while not all(threads.values()):
        eventlet.sleep(0)
    print(json.dumps({name: thread._stack_saved for name, thread in threads.items()}))
    """


def kept(hub):
    return json.loads(isolated.run(PROGRAM, hub=hub).stdout)


def test_a_green_thread_that_waits_keeps_no_more_stack_than_on_epolls():
    stock = kept(isolated.EPOLLS)
    for hub in isolated.OURS:
        ours = kept(hub)
        assert {name: size for name, size in ours.items() if not 0 < size <= stock[name]} == {}, (ours, stock)
