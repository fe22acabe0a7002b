"""The test harness itself: what a test may rely on when it runs a program in a process of its own."""

import isolated
import pytest


def test_program_sees_the_chosen_hub_and_no_other_choice(hub, monkeypatch):
    monkeypatch.setenv("EVENTLET_HUB", "poll")
    monkeypatch.setenv("URINGHUB_DRIVER", "nonsense")
    done = isolated.run(
        """
        import os
        print(os.environ["EVENTLET_HUB"], os.environ.get("URINGHUB_DRIVER"))
        """,
        hub=hub,
    )
    assert done.stdout.split() == [hub.eventlet_hub, str(hub.driver)]


def test_failing_program_fails_the_test_and_shows_its_output():
    with pytest.raises(AssertionError, match="(?s)exit code 1.*before.*ZeroDivisionError"):
        isolated.run("print('before')\n1 / 0")


def test_program_that_hangs_is_ended_with_its_stack_shown():
    with pytest.raises(AssertionError, match="(?s)no end after.*program.py"):
        isolated.run("import threading\nthreading.Event().wait()", timeout_s=1)
