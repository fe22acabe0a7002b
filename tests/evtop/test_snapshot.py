"""A snapshot shows every green thread and task, with what it waits for."""

import os

import hubs
import pytest
from conftest import dump, dump_until, evtop


def by_name(nodes, key="name"):
    return {node[key].rsplit(".")[-1]: node for node in nodes}


def kinds_of(nodes, key="name"):
    """What those wait for whose name says for what."""
    waiting = {name: node["wait"] for name, node in by_name(nodes, key).items() if name.startswith("waits_")}
    return {name: wait and wait["kind"] for name, wait in waiting.items()}


def dump_settled(pid, nodes, expected, key="name"):
    """A snapshot in which everybody has come to the wait in its name, or the last one before the time is over."""
    return dump_until(pid, lambda snapshot: kinds_of(snapshot[nodes], key) == expected)


@pytest.mark.parametrize("hub", hubs.GREEN, indirect=True)
def test_every_green_thread_of_eventlet_shows_what_it_waits_for(start, python, hub):
    pid = start(python, "waits_eventlet.py", 1, hub).read("ready")
    expected = {
        "waits_to_accept": "read",
        "waits_to_recv": "read",
        "waits_to_sleep": "sleep",
        "waits_for_event": "event",
        "waits_for_semaphore": "lock",
        "waits_for_room_in_a_pool": "lock",
        "waits_for_lock": "lock",
        "waits_for_rlock": "lock",
        "waits_for_held_lock": "lock",
        "waits_for_queue": "queue",
        "waits_for_threading_event": "event",
        "waits_for_green_thread": "green_thread",
    }
    snapshot = dump_settled(pid, "green_threads", expected)
    assert kinds_of(snapshot["green_threads"]) == expected
    green = by_name(snapshot["green_threads"])
    assert "listening on 127.0.0.1" in green["waits_to_accept"]["wait"]["target"]
    assert "→ 127.0.0.1" in green["waits_to_recv"]["wait"]["target"]
    assert green["waits_to_recv"]["wait"]["text"] == "recv"
    assert green["waits_to_sleep"]["wait"]["seconds"] == 1000
    # One look cannot know since when.
    assert green["waits_to_sleep"]["age_ms"] is green["waits_to_sleep"]["unchanged_ms"] is None
    edges = {(edge["from"], edge["to"]): edge["kind"] for edge in snapshot["edges"]}
    assert edges[green["waits_for_green_thread"]["id"], green["waits_to_sleep"]["id"]] == "join"
    assert edges[green["waits_for_rlock"]["id"], green["holds_rlock"]["id"]] == "lock"
    held = green["waits_for_held_lock"]
    assert held["wait"]["holders"] == {"value": [green["holds_lock_in_with"]["id"]], "trust": "inferred"}
    assert edges[held["id"], green["holds_lock_in_with"]["id"]] == "lock"
    # Who called `acquire` by hand cannot be found, and nobody is named in their stead.
    assert green["waits_for_lock"]["wait"]["holders"]["value"] == []
    assert "holders" not in green["waits_to_sleep"]["wait"]
    assert snapshot["counters"]["frames_undecodable"] == snapshot["counters"]["stacks_torn"] == 0


@pytest.mark.parametrize("hub", hubs.GREEN, indirect=True)
def test_the_kind_of_hub_and_its_driver_are_told(start, python, hub):
    pid = start(python, "waits_eventlet.py", 1, hub).read("ready")
    snapshot = dump(pid)
    [shown] = [thread["hub"]["value"] for thread in snapshot["threads"]]
    family, kind = hub.split("-")
    if family == "hub":
        assert (shown["kind"], shown["driver"]) == ("uringhub", "io_uring" if kind == "uring" else "epoll")
    else:
        assert (shown["kind"], shown["driver"]) == (f"eventlet {kind}", None)
    assert by_name(snapshot["green_threads"])["waits_to_recv"]["wait"]["kind"] == "read"


@pytest.mark.parametrize("hub", hubs.LOOPS, indirect=True)
def test_every_task_shows_what_it_awaits(start, python, hub):
    pid = start(python, "waits_asyncio.py", hub).read("ready")
    expected = {
        "waits_for_stream": "read",
        "waits_for_line": "read",
        "waits_for_socket": "read",
        "waits_to_sleep": "sleep",
        "waits_for_lock": "lock",
        "waits_for_held_lock": "lock",
        "waits_for_gather": "gather",
        "waits_for_queue": "queue",
        "waits_for_event": "event",
        "waits_for_thread": "thread_pool",
        "waits_for_task": "task",
        "waits_in_generator": "sleep",
    }
    if hub == "uvloop":
        expected["waits_for_socket"] = "future"  # Nothing of uvloop's own sock_recv can be seen.
    snapshot = dump_settled(pid, "tasks", expected, "coroutine")
    assert kinds_of(snapshot["tasks"], "coroutine") == expected
    tasks = by_name(snapshot["tasks"], "coroutine")
    assert tasks["waits_for_held_lock"]["wait"]["holders"]["value"] == [tasks["holds_lock_in_with"]["id"]]
    assert tasks["waits_for_lock"]["wait"]["holders"]["value"] == []
    assert len(tasks["waits_for_gather"]["waits_on"]) == 2
    sleeper = by_name(snapshot["tasks"])["the sleeper"]
    assert tasks["waits_for_task"]["waits_on"] == [sleeper["id"]]
    functions = [frame["function"].rsplit(".")[-1] for frame in tasks["waits_for_stream"]["stack"]]
    assert functions[-2:] == ["inner_read", "waits_for_stream"]
    if hub != "uvloop":
        for name in ("waits_for_stream", "waits_for_line", "waits_for_socket"):
            assert tasks[name]["wait"]["fd"] is not None, name
    kinds = [thread["hub"]["value"]["kind"] for thread in snapshot["threads"] if thread["hub"]]
    assert kinds == ["uringhub" if hub.startswith("loop-") else hub]


def test_whom_a_task_waits_on_is_told_through_each_function_of_asyncio(start, python):
    snapshot = dump(start(python, "waits_children.py").read("ready"))
    waiting = {
        name: node
        for name, node in by_name(snapshot["tasks"], "coroutine").items()
        if name.startswith("waits_in")
    }
    edges = {}
    for edge in snapshot["edges"]:
        edges.setdefault(edge["from"], []).append(edge["kind"])
    seen = {name.removeprefix("waits_in_"): edges[node["id"]] for name, node in waiting.items()}
    expected = {
        "task_group": ["task_group"] * 2,
        "wait": ["wait"] * 2,
        "wait_for": ["await"],
        "shield": ["shield"],
        "shielded_gather": ["shield"] * 2,
        "gather": ["gather"] * 3,
    }
    if "waits_in_task_group" not in waiting:
        del expected["task_group"]  # Python 3.10
    assert seen == expected
    sleepers = {task["id"] for task in snapshot["tasks"] if task["coroutine"] == "sleeps"}
    for name, node in waiting.items():
        assert set(node["waits_on"]) <= sleepers, name
        assert node["wait"]["kind"] in ("task", "gather"), node["wait"]


@pytest.mark.parametrize("world", ["eventlet", "asyncio"])
def test_a_time_limit_around_a_wait_is_seen(start, python, world):
    snapshot = dump(start(python, "waits_limited.py", world).read("ready"))
    nodes = snapshot["green_threads"] if world == "eventlet" else snapshot["tasks"]
    waiting = by_name(nodes, "name" if world == "eventlet" else "coroutine").items()
    limits = {name: node["wait"].get("timeout") for name, node in waiting if name.startswith("waits_")}
    assert limits.pop("waits_without") is None
    assert len(limits) >= 2
    for name, limit in limits.items():
        assert 590 < limit["value"] <= 600, (name, limit)


def test_of_very_many_children_the_rest_is_counted(start, python):
    pid = start(python, "waits_children.py", 5000).read("ready")
    snapshot = dump(pid)
    gather = by_name(snapshot["tasks"], "coroutine")["waits_in_gather"]
    assert (len(gather["waits_on"]), gather["waits_on_more"]) == (4096, 904)
    assert snapshot["counters"]["edges_cut"] == 904
    text = evtop("--once", pid).stdout
    assert "→ … and 4992 more" in text and "904 edges of the graph" in text


@pytest.mark.parametrize("hub", ["eventlet-asyncio", "hub-uring", "hub-epoll"], indirect=True)
def test_who_waits_across_the_two_worlds_is_told(start, python, hub):
    pid = start(python, "waits_worlds.py", hub).read("ready")
    count = 1 if hub == "eventlet-asyncio" else 3

    def kinds(snapshot):
        return [node["wait"]["kind"] for node in snapshot["green_threads"] if node["wait"]]

    snapshot = dump_until(pid, lambda snapshot: kinds(snapshot).count("task") == count)
    assert kinds(snapshot).count("task") == count
    tasks = by_name(snapshot["tasks"], "coroutine")
    green = {node["id"] for node in snapshot["green_threads"]}
    bridges = [(edge["from"], edge["to"]) for edge in snapshot["edges"] if edge["kind"] == "bridge"]
    assert [to for source, to in bridges if source in green].count(tasks["sleeps"]["id"]) == 1
    if hub != "eventlet-asyncio":
        blocked = tasks["blocks_in_the_green_world"]["id"]
        assert [source for source, to in bridges if to in green] == [blocked]


@pytest.mark.parametrize("hub", ["hub-uring", "hub-epoll"], indirect=True)
def test_the_holder_of_a_lock_of_both_worlds_is_told_to_both(start, python, hub):
    pid = start(python, "waits_worlds.py", hub).read("ready")

    def waiters(snapshot):
        nodes = [*snapshot["green_threads"], *snapshot["tasks"]]
        return [node for node in nodes if node["wait"] and node["wait"]["kind"] == "lock"]

    snapshot = dump_until(pid, lambda snapshot: len(waiters(snapshot)) == 2)
    green = by_name(snapshot["green_threads"])
    task = by_name(snapshot["tasks"], "coroutine")["task_waits_for_lock"]
    assert {node["id"] for node in waiters(snapshot)} == {green["green_waits_for_lock"]["id"], task["id"]}
    for node in waiters(snapshot):
        assert node["wait"]["holders"]["value"] == [green["holds_lock_in_with"]["id"]]
    assert "queue get" in [node["wait"]["text"] for node in snapshot["green_threads"] if node["wait"]]


def test_greenlets_of_gevent_show_what_they_wait_for(start, python):
    pid = start(python, "waits_gevent.py").read("ready")
    expected = {"waits_to_recv": "read", "waits_to_sleep": "sleep"}
    green = by_name(dump_settled(pid, "green_threads", expected)["green_threads"])
    assert green["waits_to_sleep"]["wait"]["seconds"] == 1000
    assert (green["waits_to_recv"]["wait"]["kind"], green["waits_to_recv"]["wait"]["text"]) == (
        "read",
        "recv",
    )


@pytest.mark.parametrize(("target", "nodes"), [("many.py", "green_threads"), ("many_tasks.py", "tasks")])
def test_a_look_at_many_takes_few_reads(start, python, target, nodes):
    arguments = (1000, 0) if target == "many.py" else (1000,)
    snapshot = dump(start(python, target, *arguments).read("ready"))
    assert len(snapshot[nodes]) >= 1000
    assert {node["wait"]["kind"] for node in snapshot[nodes] if node["wait"]} >= {"sleep"}
    assert snapshot["counters"]["read_calls"] < 5 * 1000


def test_lines_are_those_of_the_source(start, python):
    target = start(python, "waits_eventlet.py")
    green = by_name(dump(target.read("ready"))["green_threads"])
    frame = next(f for f in green["waits_to_sleep"]["stack"] if f["function"].endswith("waits_to_sleep"))
    with open(frame["file"], encoding="utf-8") as source:
        assert source.read().splitlines()[frame["line"] - 1].strip() == "eventlet.sleep(1000)"


def test_the_plain_text_names_each_green_thread_once(start, python):
    pid = start(python, "waits_eventlet.py").read("ready")
    done = evtop("--once", pid)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("waits_for_queue [green thread") == 1
    assert "waits for recv on fd" in done.stdout


def test_threads_have_the_names_that_python_gave_them(start, python, tmp_path):
    program = tmp_path / "named.py"
    program.write_text(
        "import json, os, threading, time\n"
        "started = threading.Event()\n"
        "def works():\n    started.set()\n    time.sleep(1000)\n"
        "threading.Thread(target=works, name='writes the log', daemon=True).start()\n"
        "started.wait()\n"
        "print(json.dumps({'ready': os.getpid()}), flush=True)\n"
        "time.sleep(1000)\n"
    )
    pid = start(python, program).read("ready")
    assert {thread["python_name"] for thread in dump(pid)["threads"]} == {"MainThread", "writes the log"}
    assert '"writes the log": no hub' in evtop("--once", pid).stdout


def test_the_plain_text_says_once_what_many_do(start, python):
    done = evtop("--once", start(python, "waits_eventlet.py", 20).read("ready"))
    assert done.returncode == 0, done.stderr
    group = done.stdout.split("\n20 × waits_to_recv [green thread, suspended]\n")[1].split("\n\n")[0]
    lines = group.splitlines()
    assert sum("waits for recv on fd" in line for line in lines) == 8
    # Before Python 3.11 code knows its name only, not that of its class.
    assert "  … and 12 more" in lines and lines[-1].lstrip().removeprefix("GreenThread.").startswith("main (")
    assert done.stdout.count("waits_to_recv (") == 1


def test_a_file_whose_name_is_no_text_is_shown(start, python, tmp_path):
    program = os.fsencode(tmp_path) + b"/odd\xff.py"
    with open(program, "w", encoding="utf-8") as source:
        source.write(
            "import asyncio, json, os\n"
            "async def waits():\n    await asyncio.sleep(1000)\n"
            "async def main():\n"
            "    task = asyncio.ensure_future(waits())\n    await asyncio.sleep(0)\n"
            "    print(json.dumps({'ready': os.getpid()}), flush=True)\n    await task\n"
            "asyncio.run(main())\n"
        )
    pid = start(python, os.fsdecode(program)).read("ready")
    snapshot = dump(pid)
    [frame] = by_name(snapshot["tasks"], "coroutine")["waits"]["stack"][-1:]
    assert frame["file"].endswith("/odd\\xff.py") and frame["line"] == 3
    assert snapshot["counters"]["frames_undecodable"] == 0
