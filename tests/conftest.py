"""What tests share: where the reference values are."""

import importlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

from resd_bench import plugins

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "tests" / "fixtures"

# Games are slow to make: tests share a cache of their own, and leave the user's alone.
os.environ.setdefault(
    "RESD_BENCH_CACHE", str(Path(tempfile.gettempdir()) / f"resd-bench-tests-{os.getuid()}")
)

# On a shared machine any single example may take long.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The folder of reference values and cases; a test fails where one it needs is missing."""
    return FIXTURES


TOY_PLUGIN = Path(__file__).resolve().parent / "toy_plugin"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A small plugin package, installed for the length of a test; no language model needed."""
    monkeypatch.syspath_prepend(str(TOY_PLUGIN))
    importlib.invalidate_caches()
    plugins.installed.cache_clear()
    module = importlib.import_module("toy_plugin")
    monkeypatch.setattr("resd_bench.run.build_policy", module.policy)
    yield module
    monkeypatch.undo()
    plugins.installed.cache_clear()
