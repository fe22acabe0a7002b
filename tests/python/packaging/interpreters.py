"""Throw-away Pythons to install into: plain venvs, and a prefix that stands for the system's Python."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
# What Eventlet itself needs; installed from local wheels, so that the network is asked once.
EVENTLET = ("eventlet==0.41.3", "greenlet==3.5.6", "dnspython==2.8.0")
MATURIN = "maturin==1.16.0"


@dataclass(frozen=True)
class Interpreter:
    """A Python whose site-packages a test may fill."""

    prefix: Path
    wheelhouse: Path

    @property
    def python(self) -> Path:
        return self.prefix / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.prefix / "lib" / version / "site-packages"

    def pip(self, *args: str) -> None:
        """Runs the test environment's pip on this interpreter, which has none of its own."""
        command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
        # A build backend that is a program, such as maturin, is looked up on PATH.
        env = {**os.environ, "PATH": f"{self.prefix / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        command += ["--python", str(self.python), *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=env)
        assert done.returncode == 0, f"pip {' '.join(args)}\n{done.stdout}{done.stderr}"

    def install(self, *packages: str, options: tuple[str, ...] = ()) -> None:
        self.pip("install", "--no-index", "--find-links", str(self.wheelhouse), *options, *packages)

    def files(self) -> set[str]:
        """Everything below the prefix except byte code, which Python writes as it goes."""
        found = (path.relative_to(self.prefix) for path in self.prefix.rglob("*"))
        return {str(path) for path in found if "__pycache__" not in path.parts}


def make_venv(folder: Path, wheelhouse: Path) -> Interpreter:
    venv.create(folder, with_pip=False, symlinks=True)
    return Interpreter(folder, wheelhouse)


def make_system(folder: Path, wheelhouse: Path) -> Interpreter:
    """A prefix with a Python of its own: the real standard library, and an empty site-packages.

    It stands for `/usr`: a venv made from a venv would point at the real base Python instead.
    """
    stdlib = Path(sysconfig.get_path("stdlib"))
    own_stdlib = folder / "lib" / stdlib.name
    (own_stdlib / "site-packages").mkdir(parents=True)
    for entry in stdlib.iterdir():
        if entry.name not in ("site-packages", "dist-packages", "EXTERNALLY-MANAGED"):
            (own_stdlib / entry.name).symlink_to(entry)
    (folder / "bin").mkdir()
    # A copy, since a link would lead the interpreter back to its real prefix.
    shutil.copy(Path(sys._base_executable).resolve(), folder / "bin" / "python")
    return Interpreter(folder, wheelhouse)


def make_venv_over(system: Interpreter, folder: Path) -> Interpreter:
    """A venv of `system` that also sees the packages of `system`."""
    command = [str(system.python), "-m", "venv", "--without-pip", "--system-site-packages", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return Interpreter(folder, system.wheelhouse)


@contextmanager
def only_one_process(lock: Path):
    """Lets one test worker in at a time."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def copy_project(folder: Path) -> Path:
    """The project's files as git knows them, without what builds have left."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)
    return folder


def build_wheelhouse(folder: Path) -> Path:
    """Our wheel, built as `make develop` builds it, and Eventlet's; shared by all test workers."""
    folder.mkdir(exist_ok=True)
    with only_one_process(folder / "lock"):
        if not (folder / "complete").exists():
            maturin = [str(Path(sys.executable).with_name("maturin")), "build", "--release", "--quiet"]
            env = {**os.environ, "PYO3_PYTHON": sys.executable}
            subprocess.run(
                [*maturin, "--interpreter", sys.executable, "--compatibility", "linux", "--out", str(folder)],
                cwd=PROJECT, env=env, check=True, timeout=900,
            )  # fmt: skip
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
            subprocess.run([*pip, *EVENTLET, MATURIN], check=True, timeout=300)
            (folder / "complete").touch()
    return folder
