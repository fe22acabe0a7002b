"""Trap 4, across OS threads: a socket that another thread closes ends for its peer, and its number is the next file's."""

from programs.own_process import in_own_process


@in_own_process()
def test_socket_closed_by_another_os_thread_ends_for_its_peer():
    import eventlet
    from eventlet import patcher
    from traps.wire import let_block, readable_by_kernel, tcp_pair

    threading = patcher.original("threading")
    for wait in ("recv", "recv_into", "trampoline"):
        client, server = tcp_pair()

        def waiter(wait=wait, server=server):
            try:
                if wait == "recv_into":
                    server.recv_into(bytearray(10))
                elif wait == "trampoline":
                    eventlet.hubs.trampoline(server, read=True)
                else:
                    server.recv(10)
            except (OSError, EOFError):
                pass

        green = eventlet.spawn(waiter)
        let_block()
        thread = threading.Thread(target=server.fd.close)
        thread.start()
        thread.join()
        eventlet.sleep(0.01)
        assert readable_by_kernel(client), f"no FIN after a close with {wait} in flight"
        assert client.fd.recv(10) == b"", wait
        green.kill()


@in_own_process()
def test_number_that_another_os_thread_opened_anew_is_the_new_file_s():
    """The hub looks only after both; epolls has one registration for both, and is not asked."""
    import eventlet
    from eventlet import hubs, patcher
    from eventlet.green import socket
    from traps.wire import let_block, readable_by_kernel, real_socket, tcp_pair

    threading = patcher.original("threading")
    is_ours = hasattr(hubs.get_hub(), "in_flight")
    for _ in range(10):
        client, server = tcp_pair()
        number = server.fd.fileno()
        results = []

        def receive(server=server, results=results):
            try:
                results.append(server.recv(10))
            except (OSError, EOFError) as e:
                results.append(e)

        green = eventlet.spawn(receive)
        let_block()
        pair = []

        def replace(server=server, pair=pair):
            server.fd.close()
            pair.extend(real_socket.socketpair())

        thread = threading.Thread(target=replace)
        thread.start()
        thread.join()
        near, far = pair if pair[0].fileno() == number else pair[::-1]
        assert near.fileno() == number
        sender = threading.Timer(0.03, far.send, [b"for the new"])
        sender.start()
        if is_ours:
            # It waits before the hub has looked.
            with eventlet.Timeout(3):
                new = socket.socket(near.family, near.type, 0, near.detach())
                assert new.recv(10) == b"for the ne"
        sender.join()
        eventlet.sleep(0.01)
        assert readable_by_kernel(client), "no FIN after a close"
        assert client.fd.recv(10) == b""
        if is_ours:
            green.wait()
            assert len(results) == 1 and (results == [b""] or isinstance(results[0], (OSError, EOFError)))
        else:
            green.kill()
        far.close()
        client.close()
