"""Which room may import which: a table, read from the sources, lazy imports counted."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.places import ROOT

TOPS = {
    "resd_bench": ROOT / "resd_bench",
    "resd_envs": ROOT / "envs" / "resd_envs",
    "resd_baselines": ROOT / "baselines" / "resd_baselines",
}
FACE = {
    *("agent", "budget", "config", "env", "errors", "objective", "packaged_models", "parsing"),
    *("plugins", "options", "seeds", "testing", "types"),
    *("cli", "__init__", "__main__"),
}
"""Modules in the root of `resd_bench`: what a plug-in's author imports, and the command line."""

LOWEST = {
    "types",
    "errors",
    "seeds",
    "budget",
    "objective",
    "parsing",
    "options",
    "stats",
    "machine",
}
"""Rooms that import nothing of ours but each other."""
MAY_NOT: Mapping[str, set[str]] = {
    "policy": {"config", "records", "jobs", "report", "reproduce", "sweep"},
    "distributed": {"config", "records", "jobs", "policy", "report", "reproduce", "sweep"},
    "rollout": {"config", "records", "jobs", "policy", "report", "reproduce", "sweep"},
    "sandbox": {"config", "records", "jobs", "policy", "report", "reproduce", "sweep"},
    "models": {"config", "records", "jobs", "report", "reproduce", "sweep"},
    "files": {"config", "records", "jobs", "policy", "report", "reproduce", "sweep"},
    "records": {"report", "policy", "jobs", "reproduce", "sweep"},
    "report": {"policy", "jobs", "sweep"},
    "reproduce": {"policy", "jobs"},
    "packaged_models": {"nano"},
}
LAZY = {
    "resd_bench": "help on the command line does without everything",
    "resd_bench.__main__": "Ctrl-C during the imports of the command line is answered",
    "resd_bench.check.supervisor": "runs in a child process that must start fast",
    "resd_bench.config": "Gymnasium, which help and lists of names do without",
    "resd_bench.distributed.join": "a single process needs no torch for this",
    "resd_bench.files.terminal": "rich, which a list of names does without",
    "resd_bench.jobs.export": "torch, for weights that are written only where there are any",
    "resd_bench.jobs.setup": "torch: planning and looking at runs do without",
    "resd_bench.planning.architecture": "torch, for models that no table names",
    "resd_bench.plugins": "Gymnasium, which help and lists of names do without",
    "resd_bench.policy.parallel.place": "a single process needs no accelerate",
    "resd_bench.sandbox.zygote": "runs in a child process without this package",
    "resd_bench.sweep.content": "runs in a child process, so that the sweep stays without threads",
    "resd_bench.testing": "torch, which environments and methods are tested without",
    "resd_bench.tracing.tracer": "torch, where token losses are asked for",
}
"""Modules that import modules of ours inside functions, and why; commands all may."""


class Edge(NamedTuple):
    """An import of a module of ours by another."""

    source: str
    target: str
    kind: str
    """`top`, `lazy` (inside a function) or `type` (for type checkers only)."""


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by name."""
    found = {}
    for top, base in TOPS.items():
        for path in sorted(base.rglob("*.py")):
            parts = [top, *path.relative_to(base).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Import statements, and the modules of ours that they name."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules() else node.module for name in inner]
        yield from ((node, name) for name in names if name in modules())


@cache
def edges() -> tuple[Edge, ...]:
    """Every import between modules of ours."""
    found = []
    for source, path in modules().items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside: dict[int, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inside |= {id(inner): "lazy" for inner in ast.walk(node)}
            elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                inside |= {id(inner): "type" for inner in ast.walk(node)}
        for node, target in imports(tree):
            if target != source:
                found.append(Edge(source, target, inside.get(id(node), "top")))
    return tuple(found)


def room(module: str) -> str:
    """The folder or module in the root that a module of `resd_bench` belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


def ours(kinds: set[str]) -> Iterator[Edge]:
    return (edge for edge in edges() if edge.source.startswith("resd_bench") and edge.kind in kinds)


def test_the_sources_are_read() -> None:
    assert len(modules()) > 200
    assert len(edges()) > 1000
    assert {edge.kind for edge in edges()} == {"top", "lazy", "type"}


def test_the_root_holds_only_the_face() -> None:
    assert {path.stem for path in TOPS["resd_bench"].glob("*.py")} == FACE


def test_the_harness_imports_no_plugin_by_name() -> None:
    assert [e for e in ours({"top", "lazy", "type"}) if not e.target.startswith("resd_bench")] == []


def test_the_lowest_rooms_import_nothing_but_each_other() -> None:
    assert [
        edge
        for edge in ours({"top", "lazy"})
        if room(edge.source) in LOWEST and room(edge.target) not in LOWEST
    ] == []


def test_no_room_imports_one_that_it_may_not() -> None:
    assert [
        edge
        for edge in ours({"top", "lazy"})
        if room(edge.target) in MAY_NOT.get(room(edge.source), ())
    ] == []


def test_only_the_command_line_imports_commands() -> None:
    assert [
        edge
        for edge in ours({"top", "lazy"})
        if room(edge.target) == "commands" and room(edge.source) not in ("cli", "commands")
    ] == []


def test_imports_inside_functions_have_a_reason() -> None:
    lazy = {e.source for e in ours({"lazy"}) if room(e.source) not in ("cli", "commands")}
    assert lazy == set(LAZY)


def test_there_is_no_import_circle() -> None:
    """Lazy imports count; those for type checkers do not."""
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for edge in edges():
        if edge.kind != "type":
            graph[edge.source].add(edge.target)
    left = dict(graph)
    # Whoever imports nothing that is left is on no circle.
    while free := [name for name, targets in left.items() if not targets & set(left)]:
        for name in free:
            del left[name]
    # Nor is whoever nobody imports that is left.
    while top := set(left) - {target for name in left for target in left[name]}:
        for name in top:
            del left[name]
    assert left == {}


def rooms() -> dict[str, set[str]]:
    """Which rooms each room of `resd_bench` imports."""
    found: dict[str, set[str]] = {}
    for edge in ours({"top", "lazy"}):
        if room(edge.source) != room(edge.target):
            found.setdefault(room(edge.source), set()).add(room(edge.target))
    return found


def test_no_room_is_reached_both_ways() -> None:
    graph = rooms()
    assert len(graph) > 15
    assert [(a, b) for a in graph for b in graph[a] if a in graph.get(b, ())] == []


if __name__ == "__main__":
    for name, targets in sorted(rooms().items()):
        print(f"{name:16}", *sorted(targets))
