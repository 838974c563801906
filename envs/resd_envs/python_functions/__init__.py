"""Python functions: specifications with hidden tests, run in the sandbox.

`verify` grades an answer; `python_functions` and its siblings make the environments. The families
and the verifier do not depend on Gymnasium.
"""

from typing import Any

from resd_envs.python_functions.env import PythonFunctionsEnv
from resd_envs.python_functions.loader import load
from resd_envs.python_functions.problem import Case, Problem
from resd_envs.python_functions.verifier import verify


def python_functions(**options: Any) -> PythonFunctionsEnv:
    """Problems of every family, or those of a file (`path`)."""
    return PythonFunctionsEnv(**options)


def easy(**options: Any) -> PythonFunctionsEnv:
    """Families whose rules apply one after the other."""
    return PythonFunctionsEnv(tier="easy", **options)


def hard(**options: Any) -> PythonFunctionsEnv:
    """Families whose rules interact, and long chains of steps."""
    return PythonFunctionsEnv(tier="hard", **options)


def basic(**options: Any) -> PythonFunctionsEnv:
    """Short chains of steps, for very small models."""
    return PythonFunctionsEnv(tier="basic", **options)


def line(**options: Any) -> PythonFunctionsEnv:
    """Single steps, for small language models."""
    return PythonFunctionsEnv(tier="line", **options)


__all__ = [
    "Case",
    "Problem",
    "PythonFunctionsEnv",
    "basic",
    "easy",
    "hard",
    "line",
    "load",
    "python_functions",
    "verify",
]
