"""Manufactoria: programs for a factory of robots that accept the right tapes.

`verify` grades an answer; `has` and its siblings make the environments. The machine, the problems
and the verifier do not depend on Gymnasium.
"""

from typing import Any

from resd_envs.manufactoria.env import ManufactoriaHasEnv
from resd_envs.manufactoria.problems import Problem, make_problem
from resd_envs.manufactoria.verifier import verify


def has(**options: Any) -> ManufactoriaHasEnv:
    """The paper's 742 training and 132 test problems, in the paper's order."""
    return ManufactoriaHasEnv(**options)


def has_l2(**options: Any) -> ManufactoriaHasEnv:
    """HAS problems with words of two symbols or a total count of two."""
    return ManufactoriaHasEnv(length=2, **options)


def has_l3(**options: Any) -> ManufactoriaHasEnv:
    """HAS problems with words of three symbols or a total count of three."""
    return ManufactoriaHasEnv(length=3, **options)


def has_l4(**options: Any) -> ManufactoriaHasEnv:
    """HAS problems with words of four symbols or a total count of four."""
    return ManufactoriaHasEnv(length=4, **options)


def has_l5(**options: Any) -> ManufactoriaHasEnv:
    """Words of five symbols, which the paper does not have, and total counts of five."""
    return ManufactoriaHasEnv(length=5, **options)


__all__ = [
    "ManufactoriaHasEnv",
    "Problem",
    "has",
    "has_l2",
    "has_l3",
    "has_l4",
    "has_l5",
    "make_problem",
    "verify",
]
