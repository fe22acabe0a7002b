"""What an installed package costs those who do not use it, and what is left when it is gone."""

from __future__ import annotations

import isolated
from interpreters import EVENTLET

# Names of the modules that an interpreter start has imported.
MODULES = "import sys; print('\\n'.join(sorted(sys.modules)))"


def test_start_without_the_variable_imports_nothing_more(fresh_venv):
    before = isolated.run(MODULES, python=fresh_venv.python).stdout
    fresh_venv.install("uringhub")
    assert isolated.run(MODULES, python=fresh_venv.python).stdout == before
    other_hub = {"EVENTLET_HUB": "epolls"}
    assert isolated.run(MODULES, python=fresh_venv.python, env=other_hub).stdout == before


def test_start_with_the_variable_loads_neither_eventlet_nor_the_extension(fresh_venv):
    fresh_venv.install("uringhub", *EVENTLET)
    before = set(isolated.run(MODULES, python=fresh_venv.python).stdout.split())
    after = set(isolated.run(MODULES, python=fresh_venv.python, env={"EVENTLET_HUB": "uring"}).stdout.split())
    ours = {name for name in after - before if name.startswith(("uringhub", "eventlet", "greenlet"))}
    assert ours == {"uringhub", "uringhub._finder"}


def test_variable_without_eventlet_disturbs_no_program(fresh_venv):
    fresh_venv.install("uringhub")
    done = isolated.run("print('fine')", python=fresh_venv.python, env={"EVENTLET_HUB": "uring"})
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_uninstall_leaves_nothing(fresh_venv):
    before = fresh_venv.files()
    fresh_venv.install("uringhub")
    added = fresh_venv.files() - before
    assert any(name.endswith("uringhub_eventlet.pth") for name in added)
    fresh_venv.pip("uninstall", "-y", "uringhub")
    assert fresh_venv.files() - before == set()


def test_wheel_holds_what_it_needs_and_nothing_else(fresh_venv):
    before = fresh_venv.files()
    fresh_venv.install("uringhub")
    site_packages = fresh_venv.site_packages.relative_to(fresh_venv.prefix)
    added = {name.removeprefix(f"{site_packages}/") for name in fresh_venv.files() - before}
    top = {name.split("/")[0] for name in added}
    assert {name for name in top if not name.endswith(".dist-info")} == {"uringhub", "uringhub_eventlet.pth"}
    kinds = {name.rsplit(".", 1)[-1] for name in added if name.startswith("uringhub/")}
    assert kinds <= {"py", "pyi", "so", "typed"}
    assert {"uringhub/py.typed", "uringhub/_native.pyi", "uringhub/hub.py"} <= added
