"""What tests share: where the reference values are, a toy plug-in, and how slow a test may be."""

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

from resd_bench import plugins
from tests.places import ROOT, TOY_PLUGIN

FIXTURES = ROOT / "tests" / "fixtures"

# Games are slow to make: tests share a cache of their own, and leave the user's alone.
os.environ.setdefault(
    "RESD_BENCH_CACHE", str(Path(tempfile.gettempdir()) / f"resd-bench-tests-{os.getuid()}")
)

# Our modules are compiled once, and not by each of the many processes that tests start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# On a shared machine any single example may take long.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _no_terminal_width() -> Iterator[None]:
    """Output is as in a pipe, whatever width this terminal has or another package has set."""
    # Not the fixture `monkeypatch`: requested here, it would end after those of the tests.
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        yield


MOST_CPU_S = 5.0
"""Processor seconds of a test that is not marked slow, children included."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no process is left with it at the end."""
    items.sort(key=lambda item: "slow" not in item.keywords)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that takes long and does not say so."""
    began = os.times()
    yield
    ended = os.times()
    # A child that ends now may have been busy in earlier tests: it cannot have been for longer.
    most = (ended.elapsed - began.elapsed) * (os.cpu_count() or 1)
    spent = min(sum(ended[:4]) - sum(began[:4]), most)
    if problem := too_slow(spent, marked="slow" in item.keywords):
        pytest.fail(problem)


def too_slow(spent: float, *, marked: bool) -> str | None:
    """What is wrong with a test that has `spent` this many processor seconds."""
    if marked or spent <= MOST_CPU_S:
        return None
    return f"it took {spent:.1f} processor seconds: mark it slow, or make it faster"


class _Busy:
    """Cores of which none is idle."""

    def count(self) -> float:
        return 0.0


@pytest.fixture(scope="session", autouse=True)
def no_second_process() -> Iterator[None]:
    """No run evaluates in a second process unless it is told to, whichever cores are idle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resd_bench.jobs.run.IdleCores", _Busy)
        yield


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The folder of reference values and cases; a test fails where one it needs is missing."""
    return FIXTURES


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A small plugin package, installed for the length of a test; no language model needed."""
    monkeypatch.syspath_prepend(str(TOY_PLUGIN))
    importlib.invalidate_caches()
    plugins.installed.cache_clear()
    module = importlib.import_module("toy_plugin")
    monkeypatch.setattr("resd_bench.jobs.setup.build_policy", module.policy)
    yield module
    monkeypatch.undo()
    plugins.installed.cache_clear()
