"""Handles are used again: nothing of the last one shows, nothing is kept alive, nothing is freed too early."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest


def nothing(*_args):
    pass


class Thing:
    """Something that can be weakly referred to."""


def scheduled(loop, kind, callback, *args):
    return loop.call_soon(callback, *args) if kind == "soon" else loop.call_later(0, callback, *args)


@pytest.fixture(params=["soon", "later"])
def kind(request):
    """Which kind of handle."""
    return request.param


def turn(loop):
    loop.call_later(0.001, loop.stop)
    loop.run_forever()


def test_a_new_handle_has_nothing_of_the_one_before(loop, kind):
    first = scheduled(loop, kind, nothing, 1, 2)
    first.cancel()
    del first
    second = scheduled(loop, kind, nothing, 3)
    assert not second.cancelled()
    assert second._args == (3,)
    assert second._callback is nothing
    if kind == "later":
        assert second._scheduled
    turn(loop)


def test_what_a_handle_refers_to_goes_with_it(loop, kind):
    thing = Thing()
    gone = weakref.ref(thing)
    handle = scheduled(loop, kind, nothing, thing)
    handle_gone = weakref.ref(handle)
    del handle, thing
    turn(loop)
    assert handle_gone() is None
    assert gone() is None


def test_a_weak_reference_never_names_the_next_handle(loop, kind):
    old = weakref.ref(scheduled(loop, kind, nothing))
    turn(loop)
    handles = [scheduled(loop, kind, nothing) for _ in range(600)]
    assert old() is None
    references = [weakref.ref(handle) for handle in handles]
    turn(loop)
    del handles
    assert [reference() for reference in references] == [None] * 600


def test_a_cycle_through_a_handle_is_collected(loop, kind):
    thing = Thing()
    gone = weakref.ref(thing)
    thing.handle = scheduled(loop, kind, nothing, thing)
    turn(loop)
    del thing
    gc.collect()
    assert gone() is None


def test_code_that_runs_while_a_handle_is_freed_may_make_handles(loop, kind):
    class Rescheduling:
        left = 300

        def __del__(self):
            if Rescheduling.left and not loop.is_closed():
                Rescheduling.left -= 1
                scheduled(loop, kind, nothing, Rescheduling())

    for _ in range(20):
        scheduled(loop, kind, nothing, Rescheduling())
    while Rescheduling.left:
        turn(loop)
    turn(loop)


def test_a_chain_of_handles_of_any_length_is_freed(loop):
    handle = None
    for _ in range(100_000):
        handle = (
            asyncio.Handle(nothing, (handle,), loop) if handle is None else loop.call_soon(nothing, handle)
        )
    del handle
    loop.close()


def test_a_monitor_is_seen_when_it_comes_and_when_it_goes(loop, monkeypatch):
    seen = []
    stock = asyncio.Handle._run

    def watched(handle):
        seen.append(handle._callback)
        return stock(handle)

    for _ in range(3):
        loop.call_soon(nothing)
        turn(loop)
        assert seen == []
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.Handle, "_run", watched)
            loop.call_soon(nothing)
            turn(loop)
        assert nothing in seen
        seen.clear()
