"""Find environments, methods and what else is plugged in, by entry point.

Built-in plugins are found exactly like third-party ones: the harness imports none by name.
Groups: `resd_bench.envs` (a callable that makes a `TextEnv`), `resd_bench.methods` (a
`MethodSpec`), `resd_bench.curricula` (a curriculum for the embedded model), `resd_bench.prompts`
(a `PromptPack`) and `resd_bench.doctor` (a function that returns checks for `doctor`).
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import gymnasium as gym

from resd_bench.agent import MethodSpec
from resd_bench.env import TextEnv
from resd_bench.extract import Grade


class UsageError(Exception):
    """A mistake of the user's: the message says what was given, what was expected, what to do."""


NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_ACCESS = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


@contextmanager
def explaining_disk() -> Iterator[None]:
    """Within the context, a disk that is full, or files that may not be used, are a UsageError."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if error.errno in NO_SPACE:
            raise UsageError(
                f"{where}{error.strerror}: make room, then use the same command again, of a run "
                "with --resume; what was on record before is kept"
            ) from None
        if error.errno in NO_ACCESS:
            raise UsageError(
                f"{where}{error.strerror}: give a place that you may read and write"
            ) from None
        raise


def near_miss(kind: str, given: str, known: Iterable[str]) -> UsageError:
    """An error for an unknown name, with the nearest right one."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return UsageError(f"unknown {kind} {given!r}. {hint}Known: {', '.join(names) or 'none'}")


@cache
def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of `group` by name, in name order."""
    return {ep.name: ep for ep in sorted(entry_points(group=group), key=lambda ep: ep.name)}


def find(group: str, kind: str, name: str) -> Any:
    """Load the plugin `name` of `group`; UsageError where there is none or it does not import."""
    known = installed(group)
    if name not in known:
        raise near_miss(kind, name, known)
    try:
        return known[name].load()
    except ImportError as error:
        raise UsageError(f"{kind} {name!r} cannot be imported: {error}") from error


def make_env(name: str, *, grade: Grade = "answer", **kwargs: Any) -> TextEnv:
    """Make the environment `name` (short name, as in `--env`), which grades as `grade` says."""
    env: TextEnv = find("resd_bench.envs", "environment", name)(**kwargs)
    if isinstance(env.unwrapped, TextEnv):
        env.unwrapped.grade = grade
    return env


def method(name: str) -> MethodSpec:
    """The method `name`."""
    spec: MethodSpec = find("resd_bench.methods", "method", name)
    return spec


def gym_id(name: str) -> str:
    """Gymnasium id of a short name: `manufactoria-has` is `resd/ManufactoriaHas-v0`."""
    match = re.fullmatch(r"(.+?)(?:-v(\d+))?", name)
    assert match is not None
    camel = "".join(part.capitalize() for part in match[1].split("-"))
    return f"resd/{camel}-v{match[2] or 0}"


def register_envs() -> None:
    """Register every installed environment with Gymnasium, without importing any of them."""
    for name, ep in installed("resd_bench.envs").items():
        if gym_id(name) not in gym.registry:
            gym.register(id=gym_id(name), entry_point=ep.value)
