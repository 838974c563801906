"""Which module may import which; what `--help` must not load."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

SOURCES = sorted((ROOT / "resd_bench").rglob("*.py"))
LIGHT = ("types", "budget", "seeds", "agent", "env", "plugins", "config", "rollout", "cli")


def imports(path: Path) -> set[str]:
    """Every module a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def strings(path: Path) -> list[str]:
    """Every string a file holds, docstrings left out: `import_module` could be given any."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone
    ]


def test_the_harness_imports_neither_environments_nor_methods() -> None:
    assert SOURCES
    for path in SOURCES:
        tops = {name.split(".")[0] for name in imports(path)}
        assert not tops & {"resd_envs", "resd_baselines"}, path


@pytest.mark.slow
def test_the_harness_names_neither_in_a_string_that_could_be_imported() -> None:
    for path in SOURCES:
        for text in strings(path):
            assert not re.search(r"\bresd_(envs|baselines)\b", text), (path, text)


def test_an_import_inside_a_function_or_by_a_string_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        'def f():\n    """Docstring."""\n    from resd_envs.finer import score\n'
        '    import_module("resd_baselines.sft")\n    return f"resd_envs.{f}"\n'
    )
    assert "resd_envs.finer" in imports(path)
    assert strings(path) == ["resd_baselines.sft", "resd_envs."]


WITHOUT_PLUGINS = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("resd_envs", "resd_baselines"):
            raise ModuleNotFoundError(f"{name} is not installed", name=name)

sys.meta_path.insert(0, Absent())
import resd_bench
for module in pkgutil.walk_packages(resd_bench.__path__, "resd_bench."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            # A private module of interop may need the package that it is named after.
            if module.name != f"resd_bench.interop._{error.name}":
                raise
from resd_bench.cli import main
sys.exit(main(["envs", "list"]) or main(["methods", "list"]))
"""


@pytest.mark.slow
def test_the_harness_imports_and_lists_without_the_packages_of_plugins() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PLUGINS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "resd_envs" in done.stdout  # each is listed with why it cannot be made


@pytest.mark.slow
def test_nothing_but_its_entry_imports_the_command_line() -> None:
    for path in SOURCES:
        if path.name != "__main__.py":
            assert not any(name.startswith("resd_bench.cli") for name in imports(path)), path
        if path.name != "cli.py" and "commands" not in path.parts:
            assert not any(name.startswith("resd_bench.commands") for name in imports(path)), path


def test_methods_and_environments_do_not_import_each_other() -> None:
    for package, other in (("envs", "resd_baselines"), ("baselines", "resd_envs")):
        for path in (ROOT / package).rglob("*.py"):
            assert other not in {name.split(".")[0] for name in imports(path)}, path


@pytest.mark.slow
@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_no_heavy_package(module: str) -> None:
    code = (
        f"import sys, resd_bench.{module}; "
        "print([m for m in ('torch', 'transformers', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
