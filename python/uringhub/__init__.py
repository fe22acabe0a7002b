"""An io_uring core for Eventlet and asyncio, in one thread.

Importing this package makes `eventlet.hubs.use_hub("uring")` and `EVENTLET_HUB=uring` work. It loads
neither Eventlet nor the extension module: the latter comes with the first use of a name that needs it, so
that the import hook costs an interpreter start next to nothing.
"""

from uringhub import _finder

_finder.install()

_LOOP_NAMES = ("EventLoopPolicy", "install", "new_event_loop", "run")
_WORLDS_NAMES = ("await_",)

__all__ = ["__version__", *_LOOP_NAMES, *_WORLDS_NAMES]


def __getattr__(name: str):
    if name == "__version__":
        from uringhub._native import __version__

        return __version__
    if name in _LOOP_NAMES:
        from uringhub import loop

        return getattr(loop, name)
    if name in _WORLDS_NAMES:
        from uringhub import _worlds

        return getattr(_worlds, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
