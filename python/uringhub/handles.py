"""The handles of ``loop.call_soon`` and ``loop.call_at``.

They are ``asyncio.Handle`` and ``asyncio.TimerHandle`` in every respect: same slots, same ``repr``, and a
``_run`` that monitors may replace on the stock classes. Only making, cancelling and running them is native.
"""

import asyncio
from asyncio import format_helpers

from uringhub import _native


class Handle(asyncio.Handle):
    """What ``call_soon`` returns."""

    __slots__ = ()


class TimerHandle(asyncio.TimerHandle):
    """What ``call_later`` and ``call_at`` return."""

    __slots__ = ("_key",)


def _report(handle, exception):
    """Hand a callback's exception to the loop's exception handler, worded as the stock loop does."""
    callback = format_helpers._format_callback_source(handle._callback, handle._args)
    context = {
        "message": f"Exception in callback {callback}",
        "exception": exception,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    handle._loop.call_exception_handler(context)


_native.set_handle_classes(Handle, TimerHandle, _report)
