"""Find environments, methods and other plugins by entry point.

Built-in plugins are found exactly like third-party ones: the harness imports none by name.
Groups: `resd_bench.envs` (a callable that makes a `TextEnv`), `resd_bench.methods` (a
`MethodSpec`), `resd_bench.engines` (an `EngineSpec`), `resd_bench.curricula` (a curriculum for
the embedded model), `resd_bench.prompts` (a `PromptPack`) and `resd_bench.doctor` (a function that
returns checks for `doctor`). Gymnasium is imported only when an environment is made: help and
lists of names do without.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from resd_bench.agent import MethodSpec
from resd_bench.errors import UsageError, near_miss
from resd_bench.parsing import Grade

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from resd_bench.env import TextEnv


@dataclass(frozen=True, slots=True)
class Check:
    """A check of `doctor`; entry points of `resd_bench.doctor` return lists of them."""

    name: str
    ok: bool
    detail: str
    """What was found."""
    remedy: str = ""
    """What to do if it is not `ok`, and what that is needed for."""
    required: bool = False
    """Whether everything depends on it."""


LISTINGS = {
    "resd_bench.envs": "resd-bench envs list --names",
    "resd_bench.methods": "resd-bench methods list",
}
"""The command that lists all plug-ins of a group."""


@cache
def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of `group` by name, in name order."""
    from importlib.metadata import entry_points

    return {ep.name: ep for ep in sorted(entry_points(group=group), key=lambda ep: ep.name)}


def find(group: str, kind: str, name: str) -> Any:
    """Load the plugin `name` of `group`; UsageError if it does not exist or cannot be imported."""
    known = installed(group)
    if name not in known:
        raise near_miss(kind, name, known, LISTINGS.get(group, ""))
    try:
        return known[name].load()
    except ImportError as error:
        raise UsageError(f"{kind} {name!r} cannot be imported: {error}") from error


def is_for_every_process(group: str, name: str) -> bool:
    """Whether another process finds this plugin too, as one that a notebook added is not."""
    from importlib.metadata import entry_points

    return bool(entry_points(group=group, name=name))


def make_env(name: str, *, grade: Grade = "answer", **kwargs: Any) -> TextEnv:
    """Make the environment `name` (short name, as in `--env`), graded according to `grade`."""
    from resd_bench.env import TextEnv

    env: TextEnv = find("resd_bench.envs", "environment", name)(**kwargs)
    if isinstance(env.unwrapped, TextEnv):
        env.unwrapped.grade = grade
    return env


def refused_options(name: str, error: Exception) -> UsageError:
    """What a user should know of an environment that did not accept its options."""
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown is None:
        return UsageError(f"environment {name}: {error}. Check --set env.NAME=VALUE")
    return UsageError(
        f"environment {name}: it has no option {unknown[1]!r}. Check --set env.NAME=VALUE; "
        f"`resd-bench envs info {name}` names its arguments"
    )


def method(name: str) -> MethodSpec:
    """The method `name`."""
    spec: MethodSpec = find("resd_bench.methods", "method", name)
    return spec


def learns(name: str) -> bool:
    """Whether the method `name` trains; one that is not installed any more is taken to have."""
    try:
        return method(name).learns
    except UsageError:
        return True


def gym_id(name: str) -> str:
    """Gymnasium id of a short name: `manufactoria-has` is `resd/ManufactoriaHas-v0`."""
    match = re.fullmatch(r"(.+?)(?:-v(\d+))?", name)
    assert match is not None
    camel = "".join(part.capitalize() for part in match[1].split("-"))
    return f"resd/{camel}-v{match[2] or 0}"


def register_envs() -> None:
    """Register every installed environment with Gymnasium, without importing any of them."""
    import gymnasium as gym

    for name, ep in installed("resd_bench.envs").items():
        if gym_id(name) not in gym.registry:
            gym.register(id=gym_id(name), entry_point=ep.value)
