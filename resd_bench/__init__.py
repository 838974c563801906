"""Benchmarks for language-model agents that learn when success is rare and feedback is rich."""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resd_bench.plugins import make_env

__version__ = "0.1.0"
__all__ = ["__version__", "make_env"]


def __getattr__(name: str) -> Any:
    """`make_env`, imported when it is asked for."""
    if name != "make_env":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from resd_bench.plugins import make_env

    return make_env


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
