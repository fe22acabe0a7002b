"""The tasks of the Celery test; the broker's address comes from the environment."""

import os

import celery

redis_url = os.environ["URINGHUB_TEST_REDIS"]
app = celery.Celery("uringhub_tasks", broker=redis_url, backend=redis_url)
app.conf.task_default_queue = os.environ["URINGHUB_TEST_QUEUE"]
app.conf.result_expires = 600
app.conf.worker_prefetch_multiplier = 4
app.conf.broker_connection_retry_on_startup = True


@app.task
def collatz(number):
    """Waits in green ways that differ from task to task, then computes."""
    import eventlet

    if number % 3 == 0:
        eventlet.sleep(number % 7 / 1000)
    elif number % 3 == 1:
        with eventlet.Timeout(0.002, False):
            eventlet.sleep(1)
    steps, value = 0, number
    while value != 1:
        value = value // 2 if value % 2 == 0 else 3 * value + 1
        steps += 1
    return [number, steps]


@app.task
def hub_name():
    """Which hub the worker runs on."""
    from eventlet import hubs

    return type(hubs.get_hub()).__module__
