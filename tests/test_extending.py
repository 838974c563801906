"""What docs/extending.md says to write works exactly as written there."""

from __future__ import annotations

import importlib.util
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from resd_bench.testing import check_agent, check_engine, check_env
from tests.places import ROOT

TEXT = (ROOT / "docs" / "extending.md").read_text()
SOURCES = [ROOT / "pyproject.toml", *sorted((ROOT / "resd_bench").rglob("*.py"))]


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", TEXT, re.M | re.S)
    return [textwrap.dedent(text) for _, text in found]


@pytest.fixture
def modules(tmp_path: Path) -> Iterator[dict[str, ModuleType]]:
    """The modules that the document shows, by what each defines."""
    made: dict[str, ModuleType] = {}
    for number, text in enumerate(blocks("python")):
        path = tmp_path / f"extending_{number}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        made |= dict.fromkeys(vars(module), module)
    yield made
    for name in [name for name in sys.modules if name.startswith("extending_")]:
        del sys.modules[name]


def test_the_environment_and_the_method_pass_their_checks(modules: dict[str, ModuleType]) -> None:
    check_env(modules["BackwardsEnv"].BackwardsEnv())
    check_agent(modules["IMITATE"].IMITATE)


@pytest.mark.slow
def test_the_engine_passes_its_check(modules: dict[str, ModuleType]) -> None:
    check_engine(modules["ENGINE"].ENGINE)


def test_the_lines_around_a_change_are_those_of_the_files() -> None:
    lines = {line for path in SOURCES for line in path.read_text().splitlines()}
    changes = [line for text in blocks("diff") for line in text.splitlines()]
    kept = [line[1:] for line in changes if line[:1] in (" ", "-")]
    assert len(kept) >= 6
    assert [line for line in kept if line not in lines] == []


def test_the_files_it_names_exist() -> None:
    new = {"backwards.py", "imitate.py", "plain.py"}
    named = re.findall(r"`((?:\w+/)+[\w.]+\.(?:py|yaml))`", TEXT)
    missing = [
        name
        for name in named
        if Path(name).name not in new
        and not (ROOT / name).exists()
        and not (ROOT / "resd_bench" / name).exists()
    ]
    assert named
    assert missing == []
