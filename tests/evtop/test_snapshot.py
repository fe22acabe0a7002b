"""A snapshot shows every green thread and task, with what it waits for."""

import hubs
import pytest
from conftest import dump, evtop


def by_name(nodes, key="name"):
    return {node[key].rsplit(".")[-1]: node for node in nodes}


@pytest.mark.parametrize("hub", hubs.GREEN, indirect=True)
def test_every_green_thread_of_eventlet_shows_what_it_waits_for(start, python, hub):
    pid = start(python, "waits_eventlet.py", 1, hub).read("ready")
    snapshot = dump(pid)
    green = by_name(snapshot["green_threads"])
    kinds = {name: node["wait"]["kind"] for name, node in green.items() if name.startswith("waits_")}
    assert kinds == {
        "waits_to_accept": "read",
        "waits_to_recv": "read",
        "waits_to_sleep": "sleep",
        "waits_for_event": "event",
        "waits_for_semaphore": "lock",
        "waits_for_lock": "lock",
        "waits_for_rlock": "lock",
        "waits_for_queue": "queue",
        "waits_for_threading_event": "event",
        "waits_for_green_thread": "green_thread",
    }
    assert "listening on 127.0.0.1" in green["waits_to_accept"]["wait"]["target"]
    assert "→ 127.0.0.1" in green["waits_to_recv"]["wait"]["target"]
    assert green["waits_to_recv"]["wait"]["text"] == "recv"
    assert green["waits_to_sleep"]["wait"]["seconds"] == 1000
    edges = {(edge["from"], edge["to"]): edge["kind"] for edge in snapshot["edges"]}
    assert edges[green["waits_for_green_thread"]["id"], green["waits_to_sleep"]["id"]] == "join"
    assert edges[green["waits_for_rlock"]["id"], green["holds_rlock"]["id"]] == "lock"
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
    snapshot = dump(pid)
    tasks = by_name(snapshot["tasks"], "coroutine")
    kinds = {name: node["wait"]["kind"] for name, node in tasks.items() if name.startswith("waits_")}
    assert kinds == {
        "waits_for_stream": "read",
        "waits_to_sleep": "sleep",
        "waits_for_lock": "lock",
        "waits_for_gather": "gather",
        "waits_for_queue": "queue",
        "waits_for_event": "event",
        "waits_for_thread": "thread_pool",
        "waits_for_task": "task",
        "waits_in_generator": "sleep",
    }
    assert len(tasks["waits_for_gather"]["waits_on"]) == 2
    sleeper = by_name(snapshot["tasks"])["the sleeper"]
    assert tasks["waits_for_task"]["waits_on"] == [sleeper["id"]]
    functions = [frame["function"].rsplit(".")[-1] for frame in tasks["waits_for_stream"]["stack"]]
    assert functions[-2:] == ["inner_read", "waits_for_stream"]
    kinds = [thread["hub"]["value"]["kind"] for thread in snapshot["threads"] if thread["hub"]]
    assert kinds == ["uringhub" if hub.startswith("loop-") else hub]


@pytest.mark.parametrize("hub", ["eventlet-asyncio", "hub-uring", "hub-epoll"], indirect=True)
def test_who_waits_across_the_two_worlds_is_told(start, python, hub):
    pid = start(python, "waits_worlds.py", hub).read("ready")
    snapshot = dump(pid)
    tasks = by_name(snapshot["tasks"], "coroutine")
    green = {node["id"] for node in snapshot["green_threads"]}
    kinds = [node["wait"]["kind"] for node in snapshot["green_threads"] if node["wait"]]
    assert kinds.count("task") == (1 if hub == "eventlet-asyncio" else 2)
    bridges = [(edge["from"], edge["to"]) for edge in snapshot["edges"] if edge["kind"] == "bridge"]
    assert [to for source, to in bridges if source in green].count(tasks["sleeps"]["id"]) == 1
    if hub != "eventlet-asyncio":
        blocked = tasks["blocks_in_the_green_world"]["id"]
        assert [source for source, to in bridges if to in green] == [blocked]


def test_greenlets_of_gevent_show_what_they_wait_for(start, python):
    pid = start(python, "waits_gevent.py").read("ready")
    green = by_name(dump(pid)["green_threads"])
    assert green["waits_to_sleep"]["wait"]["seconds"] == 1000
    assert (green["waits_to_recv"]["wait"]["kind"], green["waits_to_recv"]["wait"]["text"]) == (
        "read",
        "recv",
    )


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
