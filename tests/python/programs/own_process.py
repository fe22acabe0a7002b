"""Turns a function into a test that runs in an interpreter of its own, once per hub.

Monkey-patching, forking and the choice of a hub are decisions of a whole process, so each body gets its
own. In the pytest process `@in_own_process()` makes a test of a function; in the child the same decorator
hands the function back unchanged, and `python own_process.py FILE FUNCTION PATCHED` calls it.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path

PYTHON_TESTS = Path(__file__).resolve().parent.parent
PROJECT = PYTHON_TESTS.parent.parent
IN_CHILD = "URINGHUB_TEST_BODY" in os.environ

if str(PYTHON_TESTS) not in sys.path:
    sys.path.append(str(PYTHON_TESTS))

import isolated  # noqa: E402


@functools.cache
def _import_failure() -> str | None:
    """Why `uringhub.hub` cannot be imported by a fresh interpreter; None when it can."""
    probe = subprocess.run(
        [sys.executable, "-c", "import uringhub.hub"], capture_output=True, text=True, timeout=60
    )
    return probe.stderr.strip().splitlines()[-1] if probe.returncode else None


def require_hub(hub: isolated.HubChoice) -> None:
    """Skips while this tree has no hub yet; fails when it has one that cannot be imported."""
    import pytest

    if not hub.is_ours or (failure := _import_failure()) is None:
        return
    if (PROJECT / "python" / "uringhub" / "hub.py").exists():
        pytest.fail(f"uringhub.hub does not import ({failure}); build it: make develop")
    pytest.skip(f"this tree has no uringhub.hub yet: {failure}")


def in_own_process(
    patched: bool = False,
    timeout_s: float = 40,
    hubs: tuple[isolated.HubChoice, ...] = isolated.ALL_HUBS,
    silent: bool = True,
    env: dict[str, str] | None = None,
    needs=(),
):
    """Decorates a test body that takes no arguments.

    patched: `eventlet.monkey_patch()` is the child's first act. silent: a traceback on stderr fails the
    test, since that is how a hub reports what it could not deliver to anyone. env: further variables for
    the child.
    needs: the `services.Service`s the body speaks to.
    """

    def decorate(function):
        if IN_CHILD:
            return function
        import pytest
        import services

        path = inspect.getsourcefile(function)

        @pytest.mark.parametrize("hub", [pytest.param(hub, id=hub.name) for hub in hubs])
        def test(hub):
            require_hub(hub)
            for service in needs:
                services.require(service)
            run_body(hub, path, function.__name__, patched, timeout_s, silent, env)

        test.__name__, test.__doc__ = function.__name__, function.__doc__
        test.__module__ = function.__module__
        test.pytestmark += getattr(function, "pytestmark", [])
        return test

    return decorate


def run_body(hub, path, name, patched, timeout_s, silent, env) -> subprocess.CompletedProcess[str]:
    """Runs the body `name` of the file `path` in a child on `hub`; a failed assertion there fails here."""
    done = isolated.run(
        Path(__file__).resolve(), str(path), name, str(int(patched)),
        hub=hub, timeout_s=timeout_s, cwd=PROJECT,
        env={"URINGHUB_TEST_BODY": name, "PYTHONWARNINGS": "ignore", **(env or {})},
    )  # fmt: skip
    shown = f"on {hub.name}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
    assert not silent or "Traceback" not in done.stderr, shown
    return done


def check_hub_as_asked() -> None:
    """The process really runs on the hub that its environment names."""
    from eventlet import hubs

    module, asked = type(hubs.get_hub()).__module__, os.environ["EVENTLET_HUB"]
    expected = "uringhub" if asked == "uring" else f"eventlet.hubs.{asked}"
    assert module == expected or module.startswith(expected + "."), f"asked for {asked}, runs on {module}"


def _child(path: str, name: str, patched: str) -> None:
    sys.path[0] = str(PYTHON_TESTS)
    import eventlet

    if patched == "1":
        eventlet.monkey_patch()
    spec = importlib.util.spec_from_file_location("body", path)
    body = importlib.util.module_from_spec(spec)
    sys.modules["body"] = body
    spec.loader.exec_module(body)
    check_hub_as_asked()
    getattr(body, name)()


if __name__ == "__main__":
    _child(*sys.argv[1:4])
