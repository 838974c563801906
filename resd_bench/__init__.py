"""Benchmarks for language-model agents that learn when success is rare and feedback is rich.

`make_env`, `resolve`, `run` and `load` are what a program needs: see docs/python.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec

# As type checkers know it from `typing`, whose import would be most of the time this file takes.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    from resd_bench.config import resolve
    from resd_bench.jobs.run import run
    from resd_bench.plugins import make_env
    from resd_bench.records.find_runs import find_runs as load

__version__ = "0.1.0"
__all__ = ["__version__", "load", "make_env", "resolve", "run"]

_WHERE = {
    "load": ("resd_bench.records.find_runs", "find_runs"),
    "make_env": ("resd_bench.plugins", "make_env"),
    "resolve": ("resd_bench.config", "resolve"),
    "run": ("resd_bench.jobs.run", "run"),
}


def __getattr__(name: str) -> Any:
    """A public function, imported when it is asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _WHERE[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})


class _WhenImported:
    """Registers our environments as soon as Gymnasium is imported, which help does without."""

    searching = False

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As the other finders, which it asks; None for every other module."""
        if name != "gymnasium" or self.searching:
            return None
        self.searching = True
        try:
            spec = find_spec(name)
        finally:
            self.searching = False
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _then_register(spec.loader.exec_module)  # type: ignore[method-assign, assignment]
        return spec


def _then_register(load: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def load_and_register(module: ModuleType) -> None:
        from resd_bench.plugins import register_envs

        load(module)
        register_envs()

    return load_and_register


if "gymnasium" in sys.modules:
    from resd_bench.plugins import register_envs

    register_envs()
else:
    sys.meta_path.insert(0, _WhenImported())
