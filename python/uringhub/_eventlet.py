"""Puts the native operations behind eventlet's own names, once in a process.

Functions get new code (``__code__``), so that names bound before the hub was chosen (``from eventlet import sleep``)
are served too; for the most frequent ones Eventlet's modules then name the native function itself. Methods are
replaced on the class. On a thread whose hub is not one of ours every one of them runs eventlet's own code.

Source: eventlet 0.41.
"""

import functools
import importlib.machinery
import inspect
import ssl
import sys
import types

from eventlet import debug, greenthread, hubs, patcher
from eventlet.greenio import base as greenio
from eventlet.greenio import py3
from eventlet.support import greenlets

from uringhub import _leftovers, _native, _primitives

_installed = False


def install():
    """Patch eventlet; without effect when that is done already."""
    global _installed
    if _installed:
        return
    _installed = True
    _native.set_originals(
        {
            "greenlet": greenlets.greenlet,
            "GreenThread": greenthread.GreenThread,
            "IOClosed": hubs.IOClosed,
            "sleep": _recode(greenthread.sleep, _sleep),
            "trampoline": _recode(hubs.trampoline, _trampoline),
            "GreenSocket": greenio.GreenSocket,
            "sockets": list(_socket_classes()),
            **_native.bind_socket(greenio.GreenSocket),
        }
    )
    _recode(hubs.use_hub, _use_hub)
    _recode(hubs.notify_opened, _notify_opened)
    _recode(greenio.set_nonblocking, _set_nonblocking)
    _recode(debug.hub_prevent_multiple_readers, _hub_prevent_multiple_readers)
    _leftovers.add_to(greenio.GreenSocket)
    _on_import("eventlet.green.os", lambda module: _recode(module.read, _leftovers.os_read))
    _watch_closes()
    _primitives.install(_recode)
    _expose(greenthread.sleep, greenthread.spawn, greenthread.spawn_n)
    _identify_tasks()
    _on_import("eventlet.asyncio", _patch_eventlet_asyncio)
    _on_import("eventlet.wsgi", _patch_eventlet_wsgi)


def _is_own(function):
    """Whether a function is Eventlet's, and not a wrapper that somebody has put in its place."""
    return isinstance(function, types.FunctionType) and _is_eventlets(function.__globals__["__name__"])


def _is_eventlets(module_name):
    return module_name.partition(".")[0] == "eventlet"


def _recode(function, replacement):
    """Give ``function`` the body of ``replacement``; returns the function as it was."""
    if not _is_own(function):
        return function  # Somebody has put his own callable there, and it goes on being called.
    original = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    original.__kwdefaults__ = function.__kwdefaults__
    function.__globals__[f"_uringhub_{function.__name__}"] = original
    function.__globals__["_uringhub"] = _native
    function.__code__ = replacement.__code__.replace(co_name=function.__code__.co_name)
    return original


def _expose(*functions):
    """Name the native functions where Eventlet's modules name theirs, which spares every call a Python frame.

    What was bound before (``from eventlet import sleep``) is the function with new code.
    """
    native = {function: getattr(_native, function.__name__) for function in functions if _is_own(function)}
    for name, module in list(sys.modules.items()):
        if _is_eventlets(name):
            for attribute, value in list(vars(module).items()):
                if isinstance(value, types.FunctionType) and value in native:
                    setattr(module, attribute, native[value])


# The bodies below run in the globals of the module whose function they replace: `_uringhub` is the native
# module there, `_uringhub_<name>` the original. Names and defaults of the parameters are eventlet's.


def _sleep(seconds=0):
    return _uringhub.sleep(seconds)  # noqa: F821


def _trampoline(fd, read=None, write=None, timeout=None, timeout_exc=None, mark_as_closed=None):
    return _uringhub.trampoline(fd, read, write, timeout, timeout_exc, mark_as_closed)  # noqa: F821


def _use_hub(mod=None):
    _uringhub.leave_hub()  # noqa: F821
    return _uringhub_use_hub(mod)  # noqa: F821


def _notify_opened(fd):
    if not _uringhub.reopened(fd):  # noqa: F821
        _uringhub_notify_opened(fd)  # noqa: F821


def _set_nonblocking(fd):
    _uringhub.wrapped(fd)  # noqa: F821
    return _uringhub_set_nonblocking(fd)  # noqa: F821


def _hub_prevent_multiple_readers(state=True):
    from eventlet.hubs import hub

    hub.g_prevent_multiple_readers = state


def _kill(g, *throw_args):
    return _uringhub_kill_in_task(g, throw_args)  # noqa: F821


def _kill_in_task(green, throw_args):
    task = _native.leave_task()
    try:
        return greenthread._uringhub_kill(green, *throw_args)
    finally:
        _native.enter_task(task)


def _spawn_for_awaitable(coroutine):
    return _uringhub_spawn(coroutine)  # noqa: F821


def _patch_eventlet_asyncio(module):
    def spawn_for_awaitable(awaitable):
        if not isinstance(hubs.get_hub(), _native.Core):
            return module._uringhub_spawn_for_awaitable(awaitable)
        from uringhub import _worlds

        return _worlds.spawn_for_awaitable(awaitable)

    def spawn(run):
        # The call that made the first hub, by asking for it, still runs eventlet's own code.
        if not isinstance(hubs.get_hub(), _native.Core):
            return greenthread.spawn(run)
        return spawn_for_awaitable(inspect.getclosurevars(run).nonlocals["coroutine"])

    _recode(module.spawn_for_awaitable, _spawn_for_awaitable)
    module._uringhub_spawn = spawn_for_awaitable
    module.spawn = spawn


def _identify_tasks():
    """Have whoever looks at the running greenlet give a task the same one at each of its steps.

    Eventlet does, and SQLAlchemy and awaitlet, which make greenlets that switch back to the one they were made
    in. Most have the function in their own namespace.
    """
    original = greenlets.greenlet.getcurrent
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", {})
        if isinstance(names.get("getcurrent"), types.BuiltinFunctionType):
            if names["getcurrent"]() is original():
                module.getcurrent = _native.getcurrent
    greenthread._uringhub_kill_in_task = _kill_in_task
    _recode(greenthread.kill, _kill)


def _patch_eventlet_wsgi(module):
    from uringhub import _wsgi

    _wsgi.patch(module)


class _PatchingLoader:
    """Loads a module as its own loader does, then patches it."""

    def __init__(self, loader, patch):
        self._loader = loader
        self._patch = patch

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._patch(module)


class _PatchingFinder:
    def __init__(self, name, patch):
        self._name = name
        self._patch = patch

    def find_spec(self, name, path=None, target=None):
        if name != self._name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = _PatchingLoader(spec.loader, self._patch)
        return spec


def _on_import(name, patch):
    """Call ``patch(module)`` when the module is imported, or now if it is already."""
    if name in sys.modules:
        patch(sys.modules[name])
    else:
        sys.meta_path.insert(0, _PatchingFinder(name, patch))


def _watch_closes():
    """Have the hub cancel what is in flight on a socket or pipe before its descriptor is closed.

    With an operation in flight the kernel keeps the file, so that close would send no FIN. The hooks are on
    the method through which every close of a Python socket goes (its own, a file's made from it, ``with``), on
    that by which a socket gives its number away, and on that by which a green pipe closes.
    """
    for cls in _socket_classes():
        _hook(cls, "_real_close", lambda socket: _native.closing(socket.fileno()))
        _hook(cls, "detach", lambda socket: _native.leaving(socket.fileno()))
    _hook(py3.GreenFileIO, "close", lambda pipe: None if pipe._closed else _native.closing(pipe._fileno))


def _socket_classes():
    """The classes of Python's own sockets: eventlet works with a copy of the module."""
    classes = {patcher.original("socket").socket}
    classes.update(cls for cls in ssl.SSLSocket.__mro__ if cls.__module__ == "socket")
    return classes


def _hook(cls, name, before):
    """Have ``before`` called before a method of a class."""
    original = cls.__dict__.get(name)
    if original is None or hasattr(original, "uringhub"):
        return

    @functools.wraps(original)
    def hooked(self, *args, **kwargs):
        before(self)
        return original(self, *args, **kwargs)

    hooked.uringhub = True
    setattr(cls, name, hooked)
