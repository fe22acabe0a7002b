"""The asyncio loop: ``uringhub.new_event_loop()``, ``uringhub.run()``, ``uringhub.EventLoopPolicy``.

Scheduling, waiting, descriptors and socket transports are native (``uringhub._native.LoopCore``). What is
left (connecting, servers, signals, pipes, sendfile, TLS) is inherited from the running Python's own Unix
loop, so that it does what this Python's documentation says.

Source: CPython, ``asyncio/base_events.py``, ``selector_events.py``, ``unix_events.py``.
"""

import _socket
import asyncio
import contextvars
import errno
import functools
import selectors
import sys
import threading
from asyncio import base_events, constants, events, selector_events, sslproto, trsock

from uringhub import _native, handles, processes
from uringhub.transports import DatagramTransport, StreamTransport

_current_thread = threading.get_ident
_main_thread = threading.main_thread

#: So many connections are accepted in one turn: more of them wait in the kernel, not as objects.
_ACCEPTED_AT_ONCE = 64
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Registrations:
    """What a selector would say of the loop's descriptors, for those who look at ``loop._selector``."""

    def __init__(self, loop):
        self._loop = loop

    def get_key(self, fileobj):
        """The registration of a descriptor.

        :raises KeyError: nobody watches it.
        """
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        try:
            reader, writer = self._loop._watchers(fd)
        except RuntimeError:  # Another thread wants the repr of a transport.
            raise KeyError(f"{fileobj!r} is watched on another thread, if at all") from None
        mask = selectors.EVENT_READ * bool(reader) | selectors.EVENT_WRITE * bool(writer)
        if not mask:
            raise KeyError(f"{fileobj!r} is not registered")
        return selectors.SelectorKey(fileobj, fd, mask, (reader or None, writer or None))

    def close(self):
        """Nothing is held."""
        self._loop = None


def _watch_closes():
    """Have the loops let go of a socket before it is closed, by whatever thread: what polls a file keeps it open."""
    socket_class = trsock.socket.socket
    original = socket_class.__dict__.get("_real_close")
    if original is None:
        return  # Eventlet's green one, whose closes the hub watches.

    @functools.wraps(original)
    def _real_close(self, *args, **kwargs):
        _native.closing_in_loops(self.fileno())
        return original(self, *args, **kwargs)

    socket_class._real_close = _real_close


class Loop(_native.LoopCore, asyncio.SelectorEventLoop):
    """An asyncio event loop on io_uring completions, or on epoll where io_uring cannot be had.

    :raises ValueError: ``URINGHUB_DRIVER`` is none of auto, uring, epoll.
    :raises OSError: the driver that was asked for cannot be had; the message names cause and remedy.
    """

    def __init__(self):
        super().__init__(Registrations(self))
        self._follow_closes()

    # Running ----------------------------------------------------------------------------------------------

    def run_forever(self):
        """Run until :meth:`stop`."""
        self._check_closed()
        self._check_running()
        self._set_coroutine_origin_tracking(self._debug)
        outer_loop = events._get_running_loop()
        outer_hooks = sys.get_asyncgen_hooks()
        try:
            self._thread_id = _current_thread()
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
            )
            events._set_running_loop(self)
            self._enter()
            if self._has_own_turn():
                self._run_once()
                while not self._stopping:
                    self._run_once()
            else:
                self._run_turns()
        finally:
            self._stopping = False
            self._thread_id = None
            # A worker thread may end: nothing of the loop is left in the kernel under its name.
            self._leave(threading.current_thread() is not _main_thread())
            events._set_running_loop(outer_loop if outer_loop is not self else None)
            self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*outer_hooks)

    def _has_own_turn(self):
        """Whether somebody has put a ``_run_once`` of his own in place, to watch or to drive the turns."""
        return "_run_once" in self.__dict__ or type(self)._run_once is not _native.LoopCore._run_once

    def close(self):
        """Give up the driver and all that is scheduled; the loop must not be running."""
        super().close()
        self._close()

    @property
    def _ready(self):
        return self._ready_handles()

    @_ready.setter
    def _ready(self, _handles):
        """The base class makes its own queue; there is no use for it."""

    @property
    def _scheduled(self):
        return sorted(self._scheduled_handles(), key=lambda handle: handle._when)

    @_scheduled.setter
    def _scheduled(self, _handles):
        """The base class makes its own heap; there is no use for it."""

    # Debug mode -------------------------------------------------------------------------------------------

    def _make_in_debug(self, method, callback, args, context):
        if method == "call_soon":
            self._check_thread()
        if method != "add_reader":
            self._check_callback(callback, method)
        handle = handles.Handle(callback, args, self, context)
        _trim(handle)
        return handle

    def _make_timer_in_debug(self, when, callback, args, context):
        self._check_thread()
        self._check_callback(callback, "call_at")
        timer = handles.TimerHandle(when, callback, args, self, context)
        _trim(timer)
        timer._scheduled = True
        return timer

    def _run_in_debug(self, handle):
        try:
            self._current_handle = handle
            begin = self.time()
            handle._run()
            duration = self.time() - begin
            if duration >= self.slow_callback_duration:
                base_events.logger.warning(
                    "Executing %s took %.3f seconds", base_events._format_handle(handle), duration
                )
        finally:
            self._current_handle = None

    # Transports -------------------------------------------------------------------------------------------

    def _accept_connection(self, protocol_factory, sock, sslcontext=None, server=None, backlog=100, *limits):
        """Accepts what has come, each connection without a task of its own; those behind TLS need one."""
        if sslcontext is not None or self._debug:
            return super()._accept_connection(protocol_factory, sock, sslcontext, server, backlog, *limits)
        for _ in range(min(backlog, _ACCEPTED_AT_ONCE)):
            if sock.fileno() < 0:
                return None  # The last connection's protocol has closed the server.
            try:
                connection, peer = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return None
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._rest_from_accepting(error, protocol_factory, sock, sslcontext, server, backlog, *limits)
                return None
            connection.setblocking(False)
            # As if it were a task: what the factory sets is seen by this connection alone.
            contextvars.copy_context().run(self._admit, protocol_factory, connection, peer, server)
        return None

    def _rest_from_accepting(self, error, protocol_factory, sock, *serving):
        """The listener stays readable while there is no descriptor for its connections: look again later."""
        message = "socket.accept() out of system resource"
        context = {"message": message, "exception": error, "socket": trsock.TransportSocket(sock)}
        self.call_exception_handler(context)
        self._remove_reader(sock.fileno())
        delay = constants.ACCEPT_RETRY_DELAY
        self.call_later(delay, self._start_serving, protocol_factory, sock, *serving)

    def _admit(self, protocol_factory, connection, peer, server):
        try:
            self._make_socket_transport(
                connection, protocol_factory(), extra={"peername": peer}, server=server
            )
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            # The stock loop says so in debug mode, in which this is not reached, and only then.
            connection.close()

    def _make_socket_transport(self, sock, protocol, waiter=None, *, extra=None, server=None):
        if self._has_own_methods(sock):
            return super()._make_socket_transport(sock, protocol, waiter, extra=extra, server=server)
        self._ensure_fd_no_transport(sock)
        return StreamTransport(self, sock, protocol, waiter, extra, server)

    _last_name = None

    def _shared_name(self, name):
        """An address that equals this one, the same object as for the last transport if that has it too."""
        if name != self._last_name:
            self._last_name = name
        return self._last_name

    def _make_ssl_transport(
        self,
        rawsock,
        protocol,
        sslcontext,
        waiter=None,
        *,
        server_side=False,
        server_hostname=None,
        extra=None,
        server=None,
        **timeouts,
    ):
        self._ensure_fd_no_transport(rawsock)
        ssl_protocol = sslproto.SSLProtocol(
            self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts
        )
        StreamTransport(self, rawsock, ssl_protocol, extra=extra, server=server)
        return ssl_protocol._app_transport

    def _make_datagram_transport(self, sock, protocol, address=None, waiter=None, extra=None):
        if self._has_own_methods(sock):
            return super()._make_datagram_transport(sock, protocol, address, waiter, extra)
        self._ensure_fd_no_transport(sock)
        return DatagramTransport(self, sock, protocol, address, waiter, extra)

    async def _make_subprocess_transport(
        self, protocol, args, shell, stdin, stdout, stderr, bufsize, extra=None, **kwargs
    ):
        transport = processes.SubprocessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, extra=extra, **kwargs
        )
        try:
            await transport._connected
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            # Its pipes could not be connected, or nobody wants it any more: the child is ended.
            transport.close()
            await transport._wait()
            raise
        return transport

    def _create_task_of_base(self, coro, **kwargs):
        task = asyncio.SelectorEventLoop.create_task(self, coro, **kwargs)
        if self._task_factory is None:
            _trim(task)
        return task

    # Sockets ----------------------------------------------------------------------------------------------

    def _has_own_methods(self, sock):
        """Whether a socket sends or receives by methods of its own class, a wrapper's too, which then are called."""
        return _overrides(type(sock))

    def _by_its_methods(self, name, sock, argument):
        return getattr(asyncio.SelectorEventLoop, name)(self, sock, argument)

    def _check_socket(self, sock):
        base_events._check_ssl_socket(sock)
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        fd = sock.fileno()
        if fd in self._transports.data:
            self._ensure_fd_no_transport(sock)
        return fd


@functools.lru_cache(maxsize=64)
def _overrides(cls):
    # Monkey-patched, the first is Eventlet's green socket, which is no subclass of the second.
    base = next((base for base in (trsock.socket.socket, _socket.socket) if issubclass(cls, base)), None)
    if base is None:
        plain = ("asyncio.trsock", "eventlet.greenio.base")
        return not any(each.__module__ in plain for each in cls.__mro__)
    names = ("recv", "recv_into", "recvfrom", "send", "sendmsg", "sendto")
    return any(getattr(cls, name) is not getattr(base, name) for name in names)


def _trim(made):
    """The last frame of where a handle or task was made is ours."""
    if made._source_traceback:
        del made._source_traceback[-1]


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new loop; it becomes nobody's current loop by itself.

    Under the uring hub, that is a loop that waits through the hub, for a green thread to run: the hub's own
    loop (``hub.loop``) is there already.
    """
    if _native.has_hub():
        return asyncio.SelectorEventLoop()
    return Loop()


class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """Makes this package's loops: ``asyncio.set_event_loop_policy(uringhub.EventLoopPolicy())``."""

    def _loop_factory(self):
        return new_event_loop()


def install() -> None:
    """Make all loops of this process this package's, where the policy decides."""
    asyncio.set_event_loop_policy(EventLoopPolicy())


def run(main, *, debug=None, loop_factory=new_event_loop):
    """Run a coroutine on a new loop and return its result, as :func:`asyncio.run` does.

    :raises RuntimeError: a loop is running in this thread already.
    """
    if events._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    if sys.version_info >= (3, 11):
        with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
            return runner.run(main)
    return _run_without_runner(main, debug, loop_factory)


def _run_without_runner(main, debug, loop_factory):
    """Python 3.10 has no ``asyncio.Runner``."""
    if not asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    loop = loop_factory()
    try:
        asyncio.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            asyncio.runners._cancel_all_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


_watch_closes()

# Imported for its place in the class hierarchy only.
_ = selector_events
