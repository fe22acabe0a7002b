"""Context variables cross ``spawn_for_awaitable`` and ``await green_thread``.

The old limitation: the context starts empty in both directions.
"""

from __future__ import annotations

import pytest

INTO_A_TASK = """
variable = contextvars.ContextVar("variable", default="empty")
variable.set("set in a green thread")
async def main():
    await asyncio.sleep(0)
    value = variable.get()
    variable.set("changed in the task")
    return value
assert run(main()) == "set in a green thread"
assert variable.get() == "set in a green thread"
"""

INTO_A_GREEN_THREAD = """
variable = contextvars.ContextVar("variable", default="empty")
def green():
    eventlet.sleep(0.001)
    value = variable.get()
    variable.set("changed in the green thread")
    return value
async def main():
    variable.set("set in the task")
    values = [await eventlet.spawn(green), await eventlet.spawn_after(0.001, green)]
    pool = eventlet.GreenPool()
    values.append(await pool.spawn(green))
    assert variable.get() == "set in the task"
    return values
assert run(main()) == ["set in the task"] * 3
"""

PROGRAMS = {"into a task": INTO_A_TASK, "into a green thread": INTO_A_GREEN_THREAD}


@pytest.mark.parametrize("name", PROGRAMS)
def test_context_crosses(name, lifted):
    lifted(PROGRAMS[name])


@pytest.mark.parametrize("name", PROGRAMS)
def test_stock_hub_does_not_hold_it(name, limited):
    limited(PROGRAMS[name])


def test_each_task_keeps_its_context_while_others_block(lifted):
    lifted("""
    variable = contextvars.ContextVar("variable")
    async def main():
        async def work(number):
            variable.set(number)
            for _ in range(5):
                eventlet.sleep(0.001)
                assert variable.get() == number
                await asyncio.sleep(0)
                assert variable.get() == number
        await asyncio.gather(*[work(n) for n in range(10)])
    run(main())
    """)


def test_green_thread_of_a_green_thread_starts_empty_as_on_every_hub(lifted):
    lifted("""
    variable = contextvars.ContextVar("variable", default="empty")
    run(asyncio.sleep(0))
    variable.set("set")
    assert eventlet.spawn(variable.get).wait() == "empty"
    """)
