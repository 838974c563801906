"""A public name stands for one thing: no two modules that are read together define the same."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

from tests.test_layers import FACE, TOPS

OFTEN: Mapping[str, str] = {
    "ENGINE": "what the entry point of an engine names, in each engine's file",
    "main": "what a program does that is started on its own",
    "any_text": "the same property of environments and of methods",
    "errors": "a property of methods, and the console for errors",
    "weights": "a property of engines, and the weights of an adapter",
    "check_engine": "in `testing` of a specification, in `check` of an installed engine",
}
"""Names that may stand in several modules, and why."""


def package(module: str) -> str:
    """The modules read together: the harness with the methods, or one environment's package."""
    return module.split(".")[1] if module.startswith("resd_envs.") else "harness"


def read_together(a: str, b: str) -> bool:
    """Whether a reader of one module meets the names of the other."""
    if {package(a), package(b)} & {"games"} and "harness" not in (package(a), package(b)):
        return True
    face = {f"resd_bench.{name}" for name in FACE}
    return package(a) == package(b) or bool({a, b} & face)


def public_names(source: str) -> Iterator[str]:
    """The names that a module defines at its top, but those with an underscore."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
        else:
            continue
        yield from (name for name in found if not name.startswith("_"))


def repeated(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Names with the modules read together that define them. Commands may share their names."""
    where: dict[str, list[str]] = {}
    for module, source in sources.items():
        if not module.startswith("resd_bench.commands"):
            for name in dict.fromkeys(public_names(source)):
                where.setdefault(name, []).append(module)
    pairs = {
        name: [pair for pair in combinations(modules, 2) if read_together(*pair)]
        for name, modules in where.items()
    }
    return {
        name: sorted({m for pair in both for m in pair}) for name, both in pairs.items() if both
    }


def sources() -> dict[str, str]:
    """Every module of ours by its dotted name."""
    return {
        dotted(top, folder, path): path.read_text()
        for top, folder in TOPS.items()
        for path in sorted(folder.rglob("*.py"))
    }


def dotted(top: str, folder: Path, path: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join([top, *parts]).removesuffix(".__init__")


def test_a_public_name_is_defined_in_one_module() -> None:
    assert {n: m for n, m in repeated(sources()).items() if n not in OFTEN} == {}


def test_every_exception_is_needed() -> None:
    assert OFTEN.keys() <= repeated(sources()).keys()


def test_a_repeated_name_is_found_within_a_package_and_against_the_face() -> None:
    found = repeated(
        {
            "resd_bench.types": "class Task: ...",
            "resd_bench.stats.a": "def mean(): ...\n_private = 1",
            "resd_baselines.b": "mean = 1\n_private = 2",
            "resd_envs.finer.env": "SIZES = 1\nclass Task: ...",
            "resd_envs.ifeval.env": "SIZES: int = 2",
        }
    )
    assert found == {
        "mean": ["resd_baselines.b", "resd_bench.stats.a"],
        "Task": ["resd_bench.types", "resd_envs.finer.env"],
    }
