"""Serve one workload on one implementation: `python benches/servers/serve.py epolls echo`.

Prints one JSON line with port and driver when it listens, then serves until it is killed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import resource
import sys

if __name__ == "__main__":
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from servers.implementations import IMPLEMENTATIONS, Implementation

WORKLOADS = ("echo", "echo-timeout", "echo-tls", "churn", "wsgi", "demo")
LOOP_WORKLOADS = ("echo-streams", "echo-sockets", "echo-udp", "echo-unix", "aiohttp", "uvicorn")
HELLO = b"Hello, world!\n"
TEN_KIB = b"0123456789abcdef" * 640


def wsgi_app(environ, start_response):
    """`/` is a short text, `/10k` a body of 10 KiB."""
    body = TEN_KIB if environ["PATH_INFO"] == "/10k" else HELLO
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]


def announce(port: int, driver: str, **more) -> None:
    """Tell the runner where to connect and what is in use."""
    print(json.dumps({"port": port, "driver": driver, **more}), flush=True)


def start_under_its_environment(implementation: Implementation) -> None:
    """Start over when a variable is missing: hub and import hook read them at start-up."""
    wanted = implementation.environment
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **wanted})


def install_policy(module: str | None) -> None:
    """Make `asyncio.new_event_loop()` return loops of `module`."""
    if module is not None:
        import asyncio

        asyncio.set_event_loop_policy(importlib.import_module(module).EventLoopPolicy())


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "implementation", choices=[name for name, one in IMPLEMENTATIONS.items() if one.library != "native"]
    )
    parser.add_argument("workload", choices=WORKLOADS + LOOP_WORKLOADS)
    parser.add_argument("--recv-bytes", type=int, default=4096)
    parser.add_argument("--certificate", help="PEM file with certificate and key, for echo-tls")
    args = parser.parse_args()
    implementation = IMPLEMENTATIONS[args.implementation]
    start_under_its_environment(implementation)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    install_policy(implementation.policy)
    module = importlib.import_module(f"servers.on_{implementation.library}")
    if implementation.library == "asyncio":
        module.serve(args, implementation.loop)
    else:
        module.serve(args)


if __name__ == "__main__":
    main()
