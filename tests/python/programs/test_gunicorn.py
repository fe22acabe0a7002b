"""gunicorn 25.3 with two eventlet workers: reloads and a graceful stop under load lose no request."""

import contextlib
import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import isolated
from programs.own_process import PYTHON_TESTS, require_hub


class Gunicorn:
    """A running master, its listener's address and what it wrote."""

    def __init__(self, hub, log):
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = listener.getsockname()
        self.log = log
        command = [sys.executable, "-m", "gunicorn", "programs.gunicorn_app:application", "-k", "eventlet"]
        command += ["-w", "2", "-b", f"fd://{listener.fileno()}", "--graceful-timeout", "20"]
        command += ["-c", "python:programs.gunicorn_config"]
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                command,
                env=isolated.environment(
                    hub,
                    # A home of its own: gunicorn keeps its control socket there.
                    {"PYTHONWARNINGS": "ignore", "PYTHONPATH": str(PYTHON_TESTS), "HOME": str(log.parent)},
                ),
                cwd=PYTHON_TESTS,
                pass_fds=[listener.fileno()],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        listener.close()

    def get(self, token):
        """One request on a connection of its own; returns the worker's pid."""
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", f"/?{token}", headers={"Connection": "close"})
            response = connection.getresponse()
            assert response.status == 200, response.status
            pid, echoed = response.read().decode().split()
            assert echoed == token, (echoed, token)
            return int(pid)

    def workers(self):
        """The pids that answer now; 40 requests in a row reach both workers."""
        return {self.get(f"who{number}") for number in range(40)}

    def children(self):
        """The pids of the processes that the master has, whether they answer or not."""
        pid = self.process.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def told(self):
        """Everything that gunicorn wrote."""
        return self.log.read_text(errors="replace")


@contextlib.contextmanager
def gunicorn(hub, tmp_path):
    """A master that is up and answers; killed with its workers at the end, whatever happened."""
    server = Gunicorn(hub, tmp_path / "gunicorn.log")
    try:
        server.workers()
        yield server
    except BaseException:
        print(server.told())
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


class Load:
    """Four threads that keep requesting until told to stop; every failure is kept."""

    def __init__(self, server):
        self.server, self.over, self.failures, self.answered = server, False, [], 0
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(4)]

    def run(self, number):
        """Bounded: 20,000 requests at most."""
        for step in range(5000):
            if self.over:
                return
            try:
                self.server.get(f"load{number}-{step}")
                self.answered += 1
            except Exception as e:
                self.failures.append(f"request {number}-{step}: {e!r}")
                return

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        for thread in self.threads:
            thread.join(40)


def test_reloads_under_load_lose_no_request(hub, tmp_path):
    require_hub(hub)
    with gunicorn(hub, tmp_path) as server, Load(server) as load:
        old = server.workers()
        for reload_ in range(3):
            os.kill(server.process.pid, signal.SIGHUP)
            deadline = time.monotonic() + 30  # a worker looks once a second whether it is to stop
            while time.monotonic() < deadline:  # until only new workers answer
                new = server.workers()
                if not new & old and len(new) == 2:
                    break
            else:
                raise AssertionError(f"reload {reload_}: the old workers {old & new} still answer")
            old = new
        load.over = True
        for thread in load.threads:
            thread.join(40)
        assert not load.failures, load.failures
        assert load.answered > 50, load.answered
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.told(), server.told()


def refused(address):
    """Whether nobody listens any more; a connection that is let in is given back at once."""
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False


def test_graceful_stop_completes_every_request_that_is_being_served(hub, tmp_path):
    """1. 20 uploads are being served. 2. SIGTERM. 3. Nobody listens any more. 4. The uploads end whole."""
    require_hub(hub)
    first, second = b"a" * 5000, b"b" * 50_000
    with gunicorn(hub, tmp_path) as server:
        clients = []
        for _ in range(20):
            client = http.client.HTTPConnection(*server.address, timeout=30)
            client.putrequest("POST", "/")
            client.putheader("Content-Length", str(len(first) + len(second)))
            client.endheaders(first)
            response = client.getresponse()
            assert response.readline() == b"being served\n"
            clients.append((client, response))
        server.process.terminate()
        assert any(refused(server.address) for _ in range(100_000)), "gunicorn goes on listening"
        for client, _ in clients:
            client.send(second)
        expected = hashlib.sha256(first + second).hexdigest().encode()
        assert [response.read() for _, response in clients] == [expected] * len(clients)
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.told(), server.told()


def test_workers_stay_up_when_clients_vanish(hub, tmp_path):
    require_hub(hub)
    with gunicorn(hub, tmp_path) as server:
        deadline = time.monotonic() + 10
        while len(before := server.children()) < 2:
            assert time.monotonic() < deadline, before
            time.sleep(0.05)
        for number in range(60):
            client = socket.create_connection(server.address, timeout=10)
            if number % 3:
                client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"[: number * 3])
            if number % 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        server.workers()
        assert server.children() == before
        server.process.terminate()
        assert server.process.wait(30) == 0
