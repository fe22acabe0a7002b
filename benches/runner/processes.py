"""Builds the native programs, starts servers, runs the load client."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

from servers.implementations import Implementation

from runner.machine import REPOSITORY, cores
from runner.rows import Row

BENCHES = REPOSITORY / "benches"
START_LIMIT_S = 15
#: A run that takes longer than its window by this much is stuck.
RUN_MARGIN_S = 60


class Running(NamedTuple):
    """A server that listens."""

    pid: int
    address: str
    driver: str
    #: Second port of the demo.
    tcp_address: str | None


class Unavailable(Exception):
    """An implementation or a tool that this machine does not offer; the text says why."""


def target_directory() -> pathlib.Path:
    """Where the native programs are built."""
    base = os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target"
    return pathlib.Path(base).resolve() / "benches"


def build(*packages: str) -> None:
    """Build programs of the `benches` workspace in release mode; all when none is named."""
    command = ["cargo", "build", "--release", "--quiet", "--manifest-path", str(BENCHES / "Cargo.toml")]
    command += ["--target-dir", str(target_directory())]
    for package in packages:
        command += ["--package", package]
    subprocess.run(command, check=True)


def program(name: str) -> str:
    """Path of a built program."""
    return str(target_directory() / "release" / name)


def pin(cpus: set[int]):
    """For `preexec_fn`: keep server and load client off each other's core."""
    return lambda: os.sched_setaffinity(0, cpus)


def make_certificate(directory: pathlib.Path) -> pathlib.Path:
    """Certificate and key for localhost in one PEM file."""
    if shutil.which("openssl") is None:
        raise Unavailable("openssl is not installed")
    path = directory / "localhost.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += [
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-keyout",
        f"{path}.key",
        "-out",
        f"{path}.crt",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(pathlib.Path(f"{path}.crt").read_text() + pathlib.Path(f"{path}.key").read_text())
    return path


def server_command(implementation: Implementation, row: Row, certificate: str | None) -> list[str]:
    """The command line that serves a row."""
    if implementation.program is not None:
        return [program(implementation.program), str(row.recv_bytes)]
    command = [sys.executable, str(BENCHES / "servers" / "serve.py"), implementation.name, row.workload]
    command += ["--recv-bytes", str(row.recv_bytes)]
    return command + (["--certificate", certificate] if certificate else [])


@contextlib.contextmanager
def server(implementation: Implementation, row: Row, certificate: str | None = None):
    """A running server, killed at the end."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", **implementation.environment}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            server_command(implementation, row, certificate),
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            env=environment,
            text=True,
            preexec_fn=pin(cores()[0]),
        )
        try:
            ready, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
            line = process.stdout.readline() if ready else ""
            if not line:
                process.kill()
                process.wait()
                raise Unavailable(_last_line(errors) or f"no answer within {START_LIMIT_S} s")
            yield _running(implementation, process.pid, json.loads(line))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _running(implementation: Implementation, pid: int, announced: dict) -> Running:
    driver = announced["driver"]
    if implementation.driver not in (None, driver):
        raise Unavailable(f"the server runs {driver}, asked for was {implementation.driver}")
    tcp = f"127.0.0.1:{announced['tcp_port']}" if "tcp_port" in announced else None
    address = announced.get("address", f"127.0.0.1:{announced['port']}")
    return Running(pid, address, driver, tcp)


def _last_line(errors) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip()]
    return lines[-1] if lines else ""


def load(row: Row, address: str, *arguments: str, certificate: str | None = None) -> dict:
    """Run the load client; its report."""
    command = [program("load"), row.mode, "--address", address, "--size", str(row.size)]
    command += ["--connections", str(row.connections), "--idle", str(row.idle), "--path", row.path]
    if certificate is not None:
        command += ["--tls-certificate", certificate]
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=RUN_MARGIN_S + row.seconds,
        preexec_fn=pin(cores()[1]),
    )
    if done.returncode != 0:
        raise RuntimeError(f"{row.name}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def micro(implementation: Implementation, names: list[str]) -> dict[str, float]:
    """One process of `micro.py` or `micro_asyncio.py`: CPU microseconds per operation by workload."""
    script = "micro_asyncio.py" if implementation.library == "asyncio" else "micro.py"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", **implementation.environment}
    done = subprocess.run(
        [sys.executable, str(BENCHES / script), implementation.name, *names],
        capture_output=True,
        text=True,
        env=environment,
        timeout=RUN_MARGIN_S * 3,
        preexec_fn=pin(cores()[0]),
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Unavailable(lines[-1])
    return json.loads(done.stdout)
