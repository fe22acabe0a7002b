"""The import hook that lets Eventlet find its `uring` hub.

`EVENTLET_HUB=uring` makes Eventlet import `eventlet.hubs.uring`, a module that it does not have. A file
copied into Eventlet's package would be lost at its next upgrade, and cannot be written where Eventlet is a
system package. So a finder on `sys.meta_path` resolves exactly that one name to `uringhub.hub`.

`uringhub_eventlet.pth` in site-packages calls `install` at interpreter start, but only when the variable
asks for it: a process without it pays one look-up in `os.environ` and imports nothing of ours. The name of
that file matters: an editable install adds its path by `uringhub.pth`, and `site` reads them in
alphabetical order.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec

ALIAS = "eventlet.hubs.uring"
TARGET = "uringhub.hub"


class _AliasLoader:
    """Loads the alias as the very module object that `uringhub.hub` is.

    With a second copy there would be two `Hub` classes, and `isinstance` and thread-local state would
    disagree about which one runs.
    """

    def create_module(self, spec: ModuleSpec):
        module = importlib.import_module(TARGET)
        # The import system stamps the alias's spec on whatever is returned here, and leaves every other
        # attribute that is already set alone.
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module) -> None:
        module.__spec__ = self._own_spec


class _AliasFinder:
    """Resolves `eventlet.hubs.uring` and declines every other name."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):
        if fullname != ALIAS:
            return None
        return ModuleSpec(ALIAS, _AliasLoader(), origin=TARGET)


def install() -> None:
    """Puts the finder on `sys.meta_path`, once.

    It goes to the end: should Eventlet ever ship a `uring` hub of its own, that one wins.
    """
    if _AliasFinder not in sys.meta_path:
        sys.meta_path.append(_AliasFinder)
