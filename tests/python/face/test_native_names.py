"""Eventlet's names for what is native: the functions behind them, and what somebody else put there."""

import isolated
import pytest
from programs.own_process import in_own_process


@pytest.mark.parametrize("hub", isolated.OURS, ids=lambda hub: hub.name)
def test_modules_name_the_native_functions_and_early_names_go_on_working(hub):
    program = """
        import inspect

        import eventlet
        from eventlet import greenthread, sleep, spawn

        eventlet.hubs.get_hub()
        from uringhub import _native

        assert eventlet.sleep is greenthread.sleep is _native.sleep is not sleep
        assert eventlet.spawn is greenthread.spawn is _native.spawn is not spawn
        assert str(inspect.signature(eventlet.sleep)) == str(inspect.signature(sleep)) == "(seconds=0)"
        order = []

        def run(name, pause):
            order.append(name)
            pause(seconds=0)
            order.append(name)

        threads = [spawn(run, "early", sleep), eventlet.spawn(run, name="late", pause=eventlet.sleep)]
        for thread in threads:
            thread.wait()
        assert order == ["early", "late", "early", "late"]
        """
    isolated.run(program, hub=hub)


@pytest.mark.parametrize("hub", isolated.OURS, ids=lambda hub: hub.name)
def test_a_wrapper_that_stood_there_before_the_hub_goes_on_being_called(hub):
    program = """
        import eventlet
        from eventlet import greenthread

        calls = []
        original = greenthread.sleep

        def sleep(seconds=0):
            calls.append(seconds)
            original(seconds)

        greenthread.sleep = eventlet.sleep = sleep
        eventlet.hubs.get_hub()
        eventlet.sleep(0.001)
        assert eventlet.sleep is sleep
        assert calls == [0.001]
        """
    isolated.run(program, hub=hub)


@in_own_process()
def test_wrong_calls_are_refused_and_what_is_slept_must_be_a_number():
    import eventlet

    eventlet.hubs.get_hub()
    for wrong in (lambda: eventlet.sleep(0, 0), lambda: eventlet.sleep(second=0), lambda: eventlet.spawn()):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError):
        eventlet.sleep("1")


@in_own_process()
def test_a_link_runs_while_what_ended_the_green_thread_is_handled():
    import sys

    import eventlet
    import eventlet.debug

    eventlet.debug.hub_exceptions(False)

    def fail():
        raise KeyError("lost")

    seen = []
    thread = eventlet.spawn(fail)
    thread.link(lambda ended: seen.append(sys.exc_info()[0]))
    with pytest.raises(KeyError, match="lost") as raised:
        thread.wait()
    assert seen == [KeyError]
    assert any(entry.name == "fail" for entry in raised.traceback)
    assert sys.exc_info() == (None, None, None)
