"""The rules of ARCHITECTURE.md as tests: layers, where unsafe code may stand, sizes, stubs, README blocks."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import isolated
import pytest
from isolated import PROJECT

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

# Each layer with what its code must not name. Arrows point down: a face may use the turn and the proactor.
LAYERS = {
    "src/proactor": ("pyo3", "crate::turn", "crate::eventlet", "crate::asyncio", "crate::python"),
    "src/turn": ("pyo3", "crate::eventlet", "crate::asyncio", "crate::python"),
    # The asyncio face works where neither Eventlet nor greenlet is installed. The hub hosts its loop, not the
    # other way round.
    "src/asyncio": ("crate::eventlet::", "greenlet"),
    # evtop shares the layout of the telemetry page with the hub, and nothing else.
    "tui/src": ("pyo3", "uringhub::"),
}
# Where unsafe code may stand: the kernel's, CPython's and greenlet's boundary, the page, the remote reads.
UNSAFE = (
    "src/asyncio/attributes.rs",
    "src/asyncio/bytes.rs",
    "src/asyncio/cell.rs",
    "src/asyncio/context.rs",
    "src/asyncio/datagram.rs",
    "src/asyncio/handle.rs",
    "src/asyncio/operation.rs",
    "src/asyncio/slots.rs",
    "src/asyncio/soon.rs",
    "src/asyncio/spare.rs",
    "src/asyncio/transport.rs",
    "src/proactor/address.rs",
    "src/proactor/buffers.rs",
    "src/proactor/fork.rs",
    "src/proactor/message.rs",
    "src/proactor/sys.rs",
    "src/proactor/uring/",
    "src/export.rs",
    "src/fastcall.rs",
    "src/slabs.rs",
    "src/eventlet/arena.rs",
    "src/eventlet/greenlet.rs",
    "src/eventlet/held.rs",
    "src/eventlet/sys.rs",
    "src/eventlet/thread_bound.rs",
    "tui/src/remote/",
)
README_BLOCK_TIMEOUT_S = 60


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=PROJECT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return sorted(p for name in set(listed.split("\0")) if name and (p := PROJECT / name).is_file())


def relative(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def rust_code(path: Path) -> str:
    """The file without comments, so that prose may name what code may not."""
    return re.sub(r"//.*", "", path.read_text())


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_names_nothing_above_it(layer):
    wrong = [
        f"{relative(path)} names {name}"
        for path in tracked(f"{layer}/*.rs")
        for name in LAYERS[layer]
        if name in rust_code(path)
    ]
    assert not wrong


def test_unsafe_code_stands_only_at_the_boundaries():
    wrong = [
        relative(path)
        for path in tracked("src/*.rs", "tui/src/*.rs")
        if re.search(r"\bunsafe\s*(\{|fn|impl|extern)", rust_code(path))
        and not relative(path).startswith(UNSAFE)
    ]
    assert not wrong


def test_every_unsafe_block_says_why_it_is_sound():
    wrong = []
    for path in tracked("src/*.rs", "tui/src/*.rs"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.search(r"\bunsafe\s*(\{|impl)", line) and not line.lstrip().startswith("//"):
                if "SAFETY" not in "\n".join(lines[max(0, number - 8) : number + 1]):
                    wrong.append(f"{relative(path)}:{number + 1}")
    assert not wrong


def test_crates_deny_unsafe_code_and_undocumented_items():
    for crate in ("src/lib.rs", "tui/src/main.rs"):
        text = (PROJECT / crate).read_text()
        assert "deny(unsafe_code)" in text or "unsafe " not in text, crate
    manifest = (PROJECT / "Cargo.toml").read_text()
    for lint in ("missing_docs", "undocumented_unsafe_blocks", "unwrap_used"):
        assert re.search(rf'^{lint} = "deny"$', manifest, re.M), lint


def test_files_are_short_enough_to_read():
    sources = tracked(
        "src/*.rs", "tui/src/*.rs", "python/*.py", "python/*.pyi", "benches/*.py", "benches/*.rs"
    )
    long = {relative(p): n for p in sources if (n := len(p.read_text().splitlines())) > FILE_LINES_MAX}
    assert not long


def test_python_functions_are_short_enough_to_read():
    long = [
        f"{relative(path)}:{node.lineno} {node.name}"
        for path in tracked("python/*.py", "tests/python/*.py", "tests/suites/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert not long


def stub_signatures(body: list[ast.stmt], prefix: str = "") -> dict[str, list[str] | None]:
    """The names that a stub declares, members as `Class.member`, each with its parameters if it has any."""
    signatures: dict[str, list[str] | None] = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            signatures[prefix + node.target.id] = None
        elif isinstance(node, ast.ClassDef):
            signatures[node.name] = None
            signatures |= stub_signatures(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            spec = node.args
            names = [
                a.arg for a in [*spec.posonlyargs, *spec.args, spec.vararg, *spec.kwonlyargs, spec.kwarg] if a
            ]
            signatures[prefix + node.name] = None if node.decorator_list else names
    return signatures


def test_stubs_declare_exactly_what_the_extension_module_has():
    declared = stub_signatures(ast.parse((PROJECT / "python/uringhub/_native.pyi").read_text()).body)
    program = """
        import inspect, json
        import eventlet
        import uringhub._native as native

        def parameters(thing):
            try:
                return list(inspect.signature(thing).parameters) if callable(thing) else None
            except ValueError:
                return "a C function without a signature"

        found = {"__version__": None}
        for name, thing in vars(native).items():
            if not name.startswith("__"):
                found[name] = None if isinstance(thing, type) else parameters(thing)
            if isinstance(thing, type):
                if thing.__new__ is not object.__new__ and thing.__text_signature__:
                    found[f"{name}.__new__"] = ["cls", *parameters(thing)]
                members = {n: m for n, m in vars(thing).items() if not n.startswith("__")}
                found |= {f"{name}.{n}": parameters(m) for n, m in members.items()}
        print(json.dumps(found))
        """
    actual = json.loads(isolated.run(program).stdout)
    assert sorted(declared) == sorted(actual)
    signed = {name: names for name, names in actual.items() if not isinstance(names, str)}
    assert {name: declared[name] for name in signed} == signed


def readme_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (PROJECT / "README.md").read_text(), re.M | re.S)


@pytest.mark.parametrize("number", range(len(readme_blocks())))
def test_readme_block_runs_on_every_hub(number, hub):
    isolated.run(readme_blocks()[number], hub=hub, timeout_s=README_BLOCK_TIMEOUT_S)


def test_readme_names_only_targets_and_files_that_exist():
    text = "".join(
        (PROJECT / name).read_text() for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")
    )
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M)) <= targets
    files = re.findall(r"`((?:src|python|tests|benches|tui|requirements)/[\w./-]+\.\w+)`", text)
    assert [name for name in files if not (PROJECT / name).exists()] == []


def test_each_guard_of_a_trap_names_tests_that_exist():
    text = (PROJECT / "ARCHITECTURE.md").read_text()
    table = text.split("## Traps", 1)[1].split("\n## ", 1)[0]
    named = set(
        re.findall(r"`((?:test_)?\w+_\w+)`", "\n".join(row.split("|")[-2] for row in table_rows(table)))
    )
    sources = tracked("tests/*.rs", "tests/*.py", "src/*.rs")
    defined = set(re.findall(r"(?:def|fn) (\w+)", "\n".join(path.read_text() for path in sources)))
    assert len(named) > 20
    assert named - defined == set()


def table_rows(markdown: str) -> list[str]:
    """The rows of a Markdown table below its header."""
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    return rows[2:]
