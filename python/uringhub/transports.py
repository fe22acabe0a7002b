"""Transports of sockets: the stock ones, with receiving and sending at once done natively.

Source: CPython, ``asyncio/selector_events.py``.
"""

import collections
import errno
import os
import socket
import sys
from _thread import get_ident
from asyncio import protocols, selector_events

from uringhub import _native, readers

_StockStream = selector_events._SelectorSocketTransport
_StockDatagram = selector_events._SelectorDatagramTransport

# What the stock transport of this Python keeps unsent bytes in.
_Buffer = getattr(_StockStream, "_buffer_factory", collections.deque)

# Before, the stock transport drops a datagram of no bytes.
_SENDS_EMPTY = sys.version_info >= (3, 13)

_INTERNET = (socket.AF_INET, socket.AF_INET6)


class _Sending:
    """A transport with a native half, which is to send no more at once when the transport closes."""

    __slots__ = ()

    def _is_elsewhere(self):
        """Whether another thread runs the loop: the garbage collector may close a transport on any thread."""
        loop = self._loop
        runs_in = None if loop is None else loop._thread_id
        return runs_in is not None and runs_in != get_ident() and not loop.get_debug()

    def close(self):
        """Close once everything is sent."""
        if self._is_elsewhere():
            self._loop.call_soon_threadsafe(self.close)
            return
        super().close()
        self._update()

    def abort(self):
        """Close at once."""
        if self._is_elsewhere():
            self._loop.call_soon_threadsafe(self.abort)
            return
        super().abort()

    def _force_close(self, exc):
        super()._force_close(exc)
        self._update()


class StreamTransport(_Sending, _StockStream):
    """A connected stream socket.

    While nothing waits to be sent, ``write`` sends at once without entering Python code. What comes is
    received by one multishot operation. Everything else is the stock transport of this Python.
    """

    __slots__ = ("_stream",)

    def __init__(self, loop, sock, protocol, waiter=None, extra=None, server=None):
        self._stream = _native.Stream(loop, sock.fileno())
        super().__init__(loop, sock, protocol, waiter, extra, server)
        # Most connections never need one, and an empty deque is as large as the rest of the transport.
        self._buffer = ()
        # All connections of a server have one address here.
        self._extra["sockname"] = loop._shared_name(self._extra["sockname"])
        if sock.proto == 0 and sock.family in _INTERNET:
            # socket.socket() leaves the protocol to the kernel, and the stock transport wants it named.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._update()

    def set_protocol(self, protocol):
        """Give what comes from now on to another protocol."""
        super().set_protocol(protocol)
        # The native side receives; the stock way of it would only take room.
        self._read_ready_cb = None
        readers.adopt(protocol)
        self._stream.set_entry(*self._entry())

    def _entry(self):
        """What the native side calls."""
        protocol = self._protocol
        if isinstance(protocol, protocols.BufferedProtocol):
            return protocol, True
        # Or by its methods a buffered protocol, though not by its class.
        return protocol, not hasattr(protocol, "data_received") and hasattr(protocol, "get_buffer")

    def _add_reader(self, _fd, _callback, *_args):
        if self.is_reading():
            self._stream.start(self, *self._entry())

    # Sending ----------------------------------------------------------------------------------------------

    def _update(self):
        """Tells the native side whether a write may be sent at once."""
        self._stream.direct = not (
            self._buffer or self._eof or self._conn_lost or self._closing or self._empty_waiter is not None
        )

    def _want_buffer(self):
        if type(self._buffer) is tuple:
            self._buffer = _Buffer()

    def _write_slowly(self, data):
        self._want_buffer()
        super().write(data)
        self._update()

    def _write_rest(self, data, sent):
        """The socket took only ``sent`` bytes: the rest waits until it takes more."""
        self._want_buffer()
        if isinstance(self._buffer, bytearray):
            self._buffer += memoryview(data)[sent:]
        else:
            self._buffer.append(memoryview(data)[sent:])
        self._stream.direct = False
        if self._is_elsewhere():
            self._loop.call_soon_threadsafe(self._send_rest)
        else:
            self._send_rest()

    def _send_rest(self):
        if self._buffer and not self._conn_lost:
            self._loop._add_writer(self._sock_fd, self._write_ready)
            self._maybe_pause_protocol()

    def writelines(self, list_of_data):
        """Write several pieces."""
        self._want_buffer()
        super().writelines(list_of_data)
        self._update()

    def write_eof(self):
        """Close the sending half once everything is sent."""
        super().write_eof()
        self._update()

    def _write_ready(self):
        super()._write_ready()
        self._update()

    def _make_empty_waiter(self):
        waiter = super()._make_empty_waiter()
        self._update()
        return waiter

    def _reset_empty_waiter(self):
        super()._reset_empty_waiter()
        self._update()

    # Closing ----------------------------------------------------------------------------------------------

    def _fatal_error(self, exc, message="Fatal error on transport"):
        if isinstance(exc, BrokenPipeError) and self._stream.was_reset():
            exc = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        super()._fatal_error(exc, message)

    def _call_connection_lost(self, exc):
        # Nothing may be in flight when the socket is closed, or the peer would see no end.
        self._stream.detach()
        super()._call_connection_lost(exc)

    def __del__(self):
        if self._sock is not None:
            self._stream.detach()
        super().__del__()


_native.set_stream_class(StreamTransport)


class DatagramTransport(_Sending, _StockDatagram):
    """A datagram socket.

    On internet sockets all that has come is received after one wait, and ``sendto`` sends at once, while nothing
    waits to be sent, without entering Python code. Everything else is the stock transport of this Python.
    """

    __slots__ = ("_datagrams",)

    def __init__(self, loop, sock, protocol, address=None, waiter=None, extra=None):
        super().__init__(loop, sock, protocol, address, waiter, extra)
        connected = bool(self._extra["peername"])
        is_internet = sock.family in _INTERNET
        self._datagrams = (
            _native.Datagrams(loop, self._sock_fd, sock.family, connected) if is_internet else None
        )
        self._update()

    def _update(self):
        """Tells the native side that something changed, and whether a datagram may be sent at once."""
        if self._datagrams is not None:
            self._datagrams.interrupt()
            self._datagrams.direct = not (self._buffer or self._conn_lost or self._closing)

    def _sendto_slowly(self, data, addr=None):
        if self._sock is None:
            selector_events.logger.warning("socket.sendto() on a closed transport: the datagram is dropped")
            return
        is_datagram = isinstance(data, (bytes, bytearray, memoryview)) and (len(data) or _SENDS_EMPTY)
        if addr is None and is_datagram and not self._conn_lost and not self._extra["peername"]:
            # Connected to a peer without a name (a socket pair), or not at all, which the kernel will say.
            if self._buffer or not self._send_one(data, None):
                self._put_back((bytes(data), None), self._buffer.append)
                self._loop._add_writer(self._sock_fd, self._sendto_ready)
                self._maybe_pause_protocol()
        else:
            super().sendto(data, addr)
        self._update()

    def _send_one(self, data, addr):
        """Send a datagram; False if the socket does not take it now."""
        try:
            if addr is None:
                self._sock.send(data)
            else:
                self._sock.sendto(data, addr)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._protocol.error_received(error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal write error on datagram transport")
        return True

    def _put_back(self, entry, put):
        put(entry)
        if hasattr(self, "_buffer_size"):
            self._buffer_size += len(entry[0])

    def _take_first(self):
        entry = self._buffer.popleft()
        if hasattr(self, "_buffer_size"):
            self._buffer_size -= len(entry[0])
        return entry

    def _sendto_ready(self):
        # The stock transport takes an address for granted where the peer has no name.
        while self._buffer and not self._extra["peername"]:
            entry = self._take_first()
            if not self._send_one(*entry):
                self._put_back(entry, self._buffer.appendleft)
                return
        super()._sendto_ready()
        self._update()

    def _read_ready(self):
        if self._datagrams is None:
            super()._read_ready()
        elif not self._conn_lost:
            self._datagrams.receive(self)

    def set_protocol(self, protocol):
        """Give what comes from now on to another protocol."""
        super().set_protocol(protocol)
        if hasattr(self, "_datagrams"):
            self._update()

    def pause_reading(self):
        """Leave what comes in the socket."""
        super().pause_reading()
        self._update()


_native.set_datagram_class(DatagramTransport)
