"""`EVENTLET_HUB=uring` finds our hub wherever Eventlet and we are installed."""

from __future__ import annotations

import os
import sys

import isolated
import pytest
from interpreters import EVENTLET, copy_project, make_system, make_venv_over

URING = {"EVENTLET_HUB": "uring"}

# Serves one echo on whatever hub Eventlet picked, then says which it was.
ECHO = """
import sys
import eventlet
from eventlet.hubs import get_hub

listener = eventlet.listen(("127.0.0.1", 0))

def serve():
    connection, _ = listener.accept()
    connection.sendall(connection.recv(64))

eventlet.spawn(serve)
client = eventlet.connect(listener.getsockname())
client.sendall(b"ping")
with eventlet.Timeout(10):
    assert client.recv(64) == b"ping"
print(sys.modules[type(get_hub()).__module__].__file__)
"""


def hub_file(python, *, env=None, python_args=(), program=ECHO) -> str:
    done = isolated.run(program, python=python, env=URING if env is None else env, python_args=python_args)
    return done.stdout.strip()


def test_eventlet_installed_first(fresh_venv):
    fresh_venv.install(*EVENTLET)
    fresh_venv.install("uringhub")
    assert hub_file(fresh_venv.python) == str(fresh_venv.site_packages / "uringhub" / "hub.py")


def test_eventlet_installed_afterwards_and_again(fresh_venv):
    fresh_venv.install("uringhub")
    fresh_venv.install(*EVENTLET)
    assert hub_file(fresh_venv.python).endswith("uringhub/hub.py")
    fresh_venv.install(*EVENTLET, options=("--force-reinstall",))
    assert hub_file(fresh_venv.python).endswith("uringhub/hub.py")


def test_eventlet_only_in_the_system_of_a_venv(tmp_path, wheelhouse):
    system = make_system(tmp_path / "system", wheelhouse)
    system.install(*EVENTLET)
    venv = make_venv_over(system, tmp_path / "venv")
    venv.install("uringhub")
    where = isolated.run("import eventlet; print(eventlet.__file__)", python=venv.python).stdout
    assert where.startswith(str(system.site_packages))
    assert hub_file(venv.python) == str(venv.site_packages / "uringhub" / "hub.py")


def test_we_only_in_the_system_of_a_venv(tmp_path, wheelhouse):
    system = make_system(tmp_path / "system", wheelhouse)
    system.install("uringhub")
    venv = make_venv_over(system, tmp_path / "venv")
    venv.install(*EVENTLET)
    assert hub_file(venv.python) == str(system.site_packages / "uringhub" / "hub.py")


def test_editable_install_by_pip(fresh_venv, tmp_path):
    source = copy_project(tmp_path / "source")
    fresh_venv.install(*EVENTLET, "maturin")
    # The quickest profile: what is under test is where files go, not what they hold.
    profile = "--config-settings=build-args=--profile dev"
    fresh_venv.pip("install", "--no-build-isolation", "--no-index", profile, "-e", str(source))
    assert hub_file(fresh_venv.python) == str(source / "python" / "uringhub" / "hub.py")


def test_editable_install_by_maturin():
    """The test environment itself has one."""
    assert hub_file(sys.executable).endswith("python/uringhub/hub.py")
    assert "site-packages" not in hub_file(sys.executable)


def test_alias_is_the_very_module_of_the_hub():
    program = """
        import sys
        import eventlet.hubs.uring as alias
        import uringhub.hub as hub
        assert alias is hub and sys.modules["eventlet.hubs.uring"] is hub
        assert hub.__name__ == hub.__spec__.name == "uringhub.hub"
        assert hub.Hub.__module__ == "uringhub.hub"
        assert sys.modules[hub.Hub.__module__].__file__ == hub.__file__ == hub.__spec__.origin
        """
    isolated.run(program, env=URING)


def test_hub_imported_under_its_own_name_first_is_the_alias():
    isolated.run(
        """
        import uringhub.hub as hub
        import eventlet.hubs.uring as alias
        assert alias is hub
        """
    )


@pytest.mark.parametrize("name", ["uring", "uringhub.hub", "uringhub.hub:Hub"])
def test_use_hub_by_name_after_importing_uringhub(name):
    program = f"""
        import uringhub
        from eventlet import hubs
        hubs.use_hub({name!r})
        import sys
        assert type(hubs.get_hub()).__module__ == "uringhub.hub"
        """
    isolated.run(program)


def test_full_module_name_in_the_variable_needs_no_hook():
    assert hub_file(sys.executable, env={"EVENTLET_HUB": "uringhub.hub"}).endswith("uringhub/hub.py")


def test_isolated_mode_keeps_the_hook():
    assert hub_file(sys.executable, python_args=("-I",)).endswith("uringhub/hub.py")


def test_without_site_the_full_module_name_still_works():
    """`-S` reads no `.pth` file, so only the name that needs no hook resolves."""
    paths = os.pathsep.join(p for p in sys.path if p.endswith("site-packages"))
    python_path = {"PYTHONPATH": f"{paths}{os.pathsep}{isolated.PROJECT / 'python'}"}
    no_hook = isolated.run(
        ECHO, env=URING | python_path, python_args=("-S",), check=False, python=sys.executable
    )
    assert "No module named 'eventlet.hubs.uring'" in no_hook.stderr
    full_name = {"EVENTLET_HUB": "uringhub.hub"} | python_path
    assert hub_file(sys.executable, env=full_name, python_args=("-S",)).endswith("uringhub/hub.py")


def test_missing_greenlet_is_the_error_that_the_user_sees(fresh_venv):
    fresh_venv.install("uringhub")
    done = isolated.run("import uringhub.hub", python=fresh_venv.python, env=URING, check=False)
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named 'eventlet'" in done.stderr or "greenlet" in done.stderr
