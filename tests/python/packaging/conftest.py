"""Fixtures for tests that install the package."""

from __future__ import annotations

from pathlib import Path

import pytest
from interpreters import Interpreter, build_wheelhouse, make_venv


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory, worker_id) -> Path:
    """A folder of wheels: ours and Eventlet's."""
    base = tmp_path_factory.getbasetemp()
    # With several workers each has a base folder of its own below the shared one.
    shared = base if worker_id == "master" else base.parent
    return build_wheelhouse(shared / "wheelhouse")


@pytest.fixture
def fresh_venv(tmp_path, wheelhouse) -> Interpreter:
    """A venv with nothing in it."""
    return make_venv(tmp_path / "venv", wheelhouse)
