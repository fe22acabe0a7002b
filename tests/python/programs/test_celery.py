"""Celery -P eventlet on Redis: 1,000 tasks, all results right."""

import os
import signal
import subprocess
import sys
import uuid

import isolated
from programs.own_process import PYTHON_TESTS, require_hub

CLIENT = """
    import celery
    from programs import celery_tasks as tasks

    name = tasks.hub_name.delay().get(timeout=40)
    results = celery.group(tasks.collatz.s(n) for n in range(1, 1001)).apply_async().get(timeout=60)

    def steps(value):
        count = 0
        while value != 1:
            value = value // 2 if value % 2 == 0 else 3 * value + 1
            count += 1
        return count

    assert results == [[n, steps(n)] for n in range(1, 1001)]
    print(name, len(results))
    """


def test_celery_worker_of_green_threads_completes_a_thousand_tasks(hub, redis, tmp_path):
    require_hub(hub)
    env = {
        "URINGHUB_TEST_REDIS": f"redis://{redis.host}:{redis.port}/0",
        "URINGHUB_TEST_QUEUE": f"uringhub-{uuid.uuid4()}",
        "PYTHONPATH": str(PYTHON_TESTS),
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "celery", "-A", "programs.celery_tasks", "worker", "-P", "eventlet"]
    command += ["-c", "100", "--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            command,
            env=isolated.environment(hub, env),
            cwd=tmp_path,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        # The client needs no hub: it is an ordinary program on the other side of Redis.
        done = isolated.run(CLIENT, env=env, timeout_s=90)
        module, count = done.stdout.split()
        assert module.startswith("uringhub" if hub.is_ours else "eventlet.hubs.epolls") and count == "1000"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0, "the worker did not stop warmly"
        assert "Traceback" not in log.read_text(), log.read_text()
    except BaseException:
        print(log.read_text())
        raise
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
