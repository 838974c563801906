"""Which module may import which; what `--help` must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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


def test_the_harness_imports_neither_environments_nor_methods() -> None:
    assert SOURCES
    for path in SOURCES:
        tops = {name.split(".")[0] for name in imports(path)}
        assert not tops & {"resd_envs", "resd_baselines"}, path


def test_nothing_but_its_entry_imports_the_command_line() -> None:
    for path in SOURCES:
        if path.name != "__main__.py":
            assert not any(name.startswith("resd_bench.cli") for name in imports(path)), path


def test_methods_and_environments_do_not_import_each_other() -> None:
    for package, other in (("envs", "resd_baselines"), ("baselines", "resd_envs")):
        for path in (ROOT / package).rglob("*.py"):
            assert other not in {name.split(".")[0] for name in imports(path)}, path


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_no_heavy_package(module: str) -> None:
    code = (
        f"import sys, resd_bench.{module}; "
        "print([m for m in ('torch', 'transformers', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
