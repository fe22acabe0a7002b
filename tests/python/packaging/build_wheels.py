"""Builds a manylinux wheel for every CPython 3.10-3.13 found here, and serves one echo from each.

    python tests/python/packaging/build_wheels.py [--out dist] [VERSION...]

Each wheel is checked by auditwheel, installed into a fresh venv of its interpreter beside Eventlet, and runs
a green echo server with EVENTLET_HUB=uring on both drivers. An interpreter that is not here is named and
left out; a wheel that does not work is an error.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import isolated
from interpreters import EVENTLET
from test_import import ECHO

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
PLATFORM = "manylinux2014"
BIN = Path(sys.executable).parent


def find(version: str) -> str | None:
    script = isolated.PROJECT / "tests" / "suites" / "interpreter"
    done = subprocess.run([str(script), version], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def build(python: str, out: Path) -> Path:
    """The wheel for one interpreter; maturin refuses to name it manylinux if it is not."""
    before = set(out.glob("*.whl"))
    target = isolated.PROJECT / "target" / "wheels-build"
    # maturin finds zig as the `ziglang` package of the first python3 on PATH.
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "CARGO_TARGET_DIR": str(target), "PYO3_PYTHON": python, "PATH": path}
    command = [str(BIN / "maturin"), "build", "--release", "--zig", "--compatibility", PLATFORM, "--quiet"]
    subprocess.run(
        [*command, "--interpreter", python, "--out", str(out)], env=env, cwd=isolated.PROJECT, check=True
    )
    (wheel,) = set(out.glob("*.whl")) - before
    return wheel


def smoke(python: str, wheel: Path) -> None:
    """Installs the wheel into a fresh venv and runs it on both drivers."""
    with tempfile.TemporaryDirectory(prefix="wheel-") as folder:
        subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
        inside = Path(folder, "bin", "python")
        pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--python", str(inside)]
        subprocess.run([*pip, "install", str(wheel), *EVENTLET], check=True)
        for hub in isolated.OURS:
            done = isolated.run(ECHO, python=inside, hub=hub)
            assert done.stdout.startswith(folder), done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", default=VERSIONS)
    parser.add_argument("--out", type=Path, default=isolated.PROJECT / "dist")
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    for wheel in options.out.glob("*.whl"):
        wheel.unlink()
    for version in options.versions:
        python = find(version)
        if python is None:
            print(f"CPython {version}: not found here, no wheel", flush=True)
            continue
        wheel = build(python, options.out)
        show = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
        audit = subprocess.run(show, check=True, capture_output=True, text=True).stdout
        assert PLATFORM in audit or "manylinux_2_17" in audit, audit
        smoke(python, wheel)
        size_kib = wheel.stat().st_size // 1024
        print(f"CPython {version}: {wheel.name}, {size_kib} KiB, serves on both drivers", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
