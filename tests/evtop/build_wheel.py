"""Builds evtop's manylinux wheel, installs it into an empty venv and has it look at a process: `make evtop-wheel`."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
TARGET = ROOT / "tests" / "evtop" / "targets" / "waits_asyncio.py"


def build(bin_directory):
    """The wheel; maturin finds zig as the `ziglang` package of the first python3 on PATH."""
    environment = {**os.environ, "PATH": f"{bin_directory}:{os.environ['PATH']}"}
    before = set(DIST.glob("evtop-*.whl"))
    command = [
        "maturin",
        "build",
        "--release",
        "--zig",
        "--compatibility",
        "manylinux2014",
        "--out",
        str(DIST),
    ]
    subprocess.run(command, cwd=ROOT / "tui", env=environment, check=True)
    wheels = sorted(DIST.glob("evtop-*.whl"), key=lambda path: path.stat().st_mtime)
    print(f"{'rebuilt' if wheels[-1] in before else 'built'} {wheels[-1].name}")
    return wheels[-1]


def smoke(wheel):
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        binaries = pathlib.Path(directory) / "bin"
        install = [binaries / "python", "-m", "pip", "install", "--quiet", "--no-index", wheel]
        subprocess.run(install, check=True)
        evtop = binaries / "evtop"
        print(subprocess.check_output([evtop, "--version"], text=True).strip())
        with subprocess.Popen([sys.executable, TARGET], stdout=subprocess.PIPE, text=True) as target:
            try:
                pid = json.loads(target.stdout.readline())["ready"]
                snapshot = json.loads(subprocess.check_output([evtop, "dump", str(pid), "--json"]))
            finally:
                target.kill()
        assert any(task["coroutine"] == "waits_for_lock" for task in snapshot["tasks"])
        print(f"{len(snapshot['tasks'])} tasks seen by the installed wheel")


if __name__ == "__main__":
    smoke(build(pathlib.Path(sys.executable).parent))
