"""Datagrams: each whole, in order, with its source; errors and interruptions as on the stock loop."""

from __future__ import annotations

import asyncio
import socket

import pytest


class Recorder(asyncio.DatagramProtocol):
    """Keeps what it receives."""

    def __init__(self, wanted=1):
        self.wanted = wanted
        self.got = []
        self.errors = []
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.got.append((data, addr))
        self.check()

    def error_received(self, exc):
        self.errors.append(exc)
        self.check()

    def check(self):
        if len(self.got) + len(self.errors) >= self.wanted and not self.done.done():
            self.done.set_result(None)


def plain_socket(family=socket.AF_INET, host="127.0.0.1"):
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.bind((host, 0))
    return made


async def endpoint(loop, protocol, host="127.0.0.1", **options):
    transport, _ = await loop.create_datagram_endpoint(lambda: protocol, local_addr=(host, 0), **options)
    return transport, transport.get_extra_info("sockname")


def test_every_datagram_of_a_burst_arrives_whole_in_order_and_with_its_source(loop, run):
    # More than one batch, from more peers than one, of every kind of size.
    sizes = [1, 512, 1472, 9000, 65507, *range(2, 60)]

    async def main():
        protocol = Recorder(wanted=2 * len(sizes))
        transport, address = await endpoint(loop, protocol)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        with plain_socket() as one, plain_socket() as other:
            for number, size in enumerate(sizes):
                for peer in (one, other):
                    peer.sendto(bytes([number]) * size, address)
            await protocol.done
            for peer in (one, other):
                seen = [data for data, source in protocol.got if source == peer.getsockname()]
                assert seen == [bytes([number]) * size for number, size in enumerate(sizes)]
        transport.close()

    run(main())


def test_an_answer_goes_to_the_address_that_was_received(loop, run):
    async def main():
        protocol = Recorder()
        transport, address = await endpoint(loop, protocol)
        with plain_socket() as peer:
            peer.settimeout(5)
            peer.sendto(b"question", address)
            await protocol.done
            ((_, source),) = protocol.got
            for answer in (b"bytes", bytearray(b"bytearray"), memoryview(b"view")):
                transport.sendto(answer, source)
                assert peer.recvfrom(100) == (bytes(answer), address)
            transport.sendto(b"by name", ("localhost", source[1]))
            assert peer.recv(100) == b"by name"
            transport.sendto(b"by keyword", addr=source)
            assert peer.recv(100) == b"by keyword"
        transport.close()

    run(main())


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_an_ipv6_source_has_four_parts_and_can_be_answered(loop, run):
    async def main():
        protocol = Recorder()
        try:
            transport, address = await endpoint(loop, protocol, "::1")
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        with plain_socket(socket.AF_INET6, "::1") as peer:
            peer.settimeout(5)
            peer.sendto(b"question", address)
            await protocol.done
            ((_, source),) = protocol.got
            assert source == peer.getsockname()
            for to in (source, source[:2]):
                transport.sendto(b"answer", to)
                assert peer.recvfrom(100) == (b"answer", address)
        transport.close()

    run(main())


@pytest.mark.parametrize("wrong", [("127.0.0.1",), ("127.0.0.1", 70000), ("127.0.0.1", "80"), 5])
def test_a_wrong_address_ends_the_transport_as_on_the_stock_loop(loop, run, wrong):
    async def main():
        reported = []
        loop.set_exception_handler(lambda _loop, context: reported.append(context))
        transport, _ = await endpoint(loop, Recorder())
        transport.sendto(b"x", wrong)
        assert transport.is_closing()
        assert [type(context["exception"]) for context in reported] == [
            OverflowError if wrong == ("127.0.0.1", 70000) else TypeError
        ]

    run(main())


def test_an_ipv4_address_on_an_ipv6_socket_is_refused_as_on_the_stock_loop(loop, run):
    async def main():
        protocol = Recorder()
        try:
            transport, _ = await endpoint(loop, protocol, "::")
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        with plain_socket() as peer:
            transport.sendto(b"x", peer.getsockname())
            await protocol.done
        assert [type(error) for error in protocol.errors] == [socket.gaierror]
        transport.close()

    run(main())


def test_an_ipv6_address_on_an_ipv4_socket_ends_the_transport_as_on_the_stock_loop(loop, run):
    async def main():
        reported = []
        loop.set_exception_handler(lambda _loop, context: reported.append(context))
        transport, _ = await endpoint(loop, Recorder())
        transport.sendto(b"x", ("::1", 9, 0, 0))
        assert transport.is_closing()
        assert [type(context["exception"]) for context in reported] == [TypeError]

    run(main())


def test_a_refused_datagram_is_an_error_of_the_protocol_and_nothing_ends(loop, run):
    async def main():
        with plain_socket() as nobody:
            address = nobody.getsockname()
        protocol = Recorder()
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, remote_addr=address)
        transport.sendto(b"anybody there?")
        await protocol.done
        assert [type(error) for error in protocol.errors] == [ConnectionRefusedError]
        assert not transport.is_closing()
        with pytest.raises(ValueError):
            transport.sendto(b"x", ("127.0.0.1", 1))
        transport.close()

    run(main())


def test_a_datagram_that_is_too_long_is_an_error_of_the_protocol(loop, run):
    async def main():
        protocol = Recorder()
        transport, address = await endpoint(loop, protocol)
        transport.sendto(bytes(70_000), address)
        await protocol.done
        assert [error.errno for error in protocol.errors] == [90]
        transport.close()

    run(main())


def test_a_protocol_that_fails_is_reported_and_gets_the_next_datagram(loop, run):
    class Failing(Recorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            raise ZeroDivisionError

    async def main():
        reported = []
        loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
        protocol = Failing(wanted=3)
        transport, address = await endpoint(loop, protocol)
        with plain_socket() as peer:
            for _ in range(3):
                peer.sendto(b"x", address)
            await protocol.done
        await asyncio.sleep(0)
        assert [type(error) for error in reported] == [ZeroDivisionError] * 3
        transport.close()

    run(main())


def test_a_transport_that_is_closed_by_its_protocol_delivers_nothing_more(loop, run):
    class Closing(Recorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.close()

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def main():
        protocol = Closing()
        protocol.lost = loop.create_future()
        _, address = await endpoint(loop, protocol)
        with plain_socket() as peer:
            for _ in range(3):
                peer.sendto(b"x", address)
            assert await protocol.lost is None
        assert len(protocol.got) == 1
        # On a closed transport: dropped, as on a newer stock loop, and no error of the process.

    run(main())


def test_another_protocol_gets_the_rest_of_a_burst(loop, run):
    class Handing(Recorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.set_protocol(self.successor)

    async def main():
        first, second = Handing(), Recorder(wanted=2)
        first.successor = second
        transport, address = await endpoint(loop, first)
        with plain_socket() as peer:
            for letter in (b"a", b"b", b"c"):
                peer.sendto(letter, address)
            await second.done
        assert [data for data, _ in first.got] == [b"a"]
        assert [data for data, _ in second.got] == [b"b", b"c"]
        transport.close()

    run(main())


def test_a_flood_of_datagrams_does_not_starve_a_timer(loop, run):
    class Feeding(Recorder):
        """Answers itself for ever."""

        def datagram_received(self, data, addr):
            self.transport.sendto(data, addr)

    async def main():
        protocol = Feeding()
        transport, address = await endpoint(loop, protocol)
        for _ in range(100):
            transport.sendto(b"x", address)
        await asyncio.sleep(0.02)
        transport.close()

    run(main())


def test_unix_datagrams_carry_their_path(loop, run, tmp_path):
    async def main():
        protocol = Recorder()
        path = str(tmp_path / "here")
        transport, _ = await loop.create_datagram_endpoint(
            lambda: protocol, local_addr=path, family=socket.AF_UNIX
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.bind(str(tmp_path / "there"))
            peer.settimeout(5)
            peer.sendto(b"question", path)
            await protocol.done
            assert protocol.got == [(b"question", peer.getsockname())]
            transport.sendto(b"answer", peer.getsockname())
            assert peer.recv(100) == b"answer"
        transport.close()

    run(main())


async def all_arrive(transport, protocol, receiver, *address):
    """Sends more than the receiver's queue takes."""
    count = 300
    for number in range(count):
        transport.sendto(b"%06d" % number + b"x" * 1000, *address)
    got = []
    while len(got) < count:
        try:
            got.append(int(receiver.recv(2000)[:6]))
        except BlockingIOError:
            await asyncio.sleep(0.001)
    assert (got, protocol.errors, protocol.flow) == (list(range(count)), [], ["pause", "resume"])


class Flowing(Recorder):
    """Notes when it is to pause."""

    flow = ()

    def pause_writing(self):
        self.flow = [*self.flow, "pause"]

    def resume_writing(self):
        self.flow = [*self.flow, "resume"]


@pytest.mark.parametrize("connected", [False, True])
def test_unix_datagrams_wait_for_a_peer_whose_queue_is_full(loop, run, tmp_path, connected):
    async def main():
        path = str(tmp_path / "peer")
        protocol = Flowing()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(path)
            receiver.setblocking(False)
            sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            if connected:
                sender.connect(path)
            transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=sender)
            await all_arrive(transport, protocol, receiver, *([] if connected else [path]))
            transport.close()

    run(main())


def test_datagrams_wait_for_a_peer_without_a_name(our_loop):
    """On the stock loop the first send to such a peer is a fatal TypeError."""

    async def main():
        loop = asyncio.get_running_loop()
        protocol = Flowing()
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        right.setblocking(False)
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=left)
        await all_arrive(transport, protocol, right)
        transport.close()
        right.close()

    loop = our_loop()
    loop.run_until_complete(asyncio.wait_for(main(), 10))
    loop.close()
