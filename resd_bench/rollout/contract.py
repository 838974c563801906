"""Validate what plug-ins return, once, at the boundary.

Two rules. Invalid tasks, which are known before an episode begins, and invalid return values of a
method are refused: UsageError, and nothing is run. An invalid return value of an environment during
an episode costs only that episode: `ContractError` is recorded as a failure of the environment,
like any other exception, and the attempt has no verdict. Numpy numbers and strings are converted
to Python's. A success with reward 0, or a negative reward, is allowed. Left out: properties that
take several calls to test (determinism, leaks, disjoint splits), which `envs check` tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.types import CaseResult, Completion, Feedback, Metrics, Split, Task

MOST_REWARD = 1e6
"""Rewards beyond this size, of either sign, are refused: training squares them in float32."""
_SHOWN_CHARS = 60


class ContractError(UsageError):
    """An environment returned an invalid value: its name, the value, what was expected."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """The validated return value of a step."""

    observation: str
    over: bool
    cut: bool
    info: Mapping[str, Any]
    """At the end of an episode it has `feedback`, a `Feedback` that is validated too."""


def checked_tasks(env: TextEnv, split: Split) -> tuple[Task, ...]:
    """The tasks of a split; UsageError if one is not a `Task`, or two share an id."""
    name, where = name_of(env), f"tasks({split!r})"
    given = env.tasks(split)
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise UsageError(f"{name}: {where} is {_shown(given)}: expected a list of tasks")
    tasks, seen = tuple(given), set[str]()
    for number, task in enumerate(tasks):
        if problem := _wrong_task(task, split):
            raise UsageError(f"{name}: {where}, number {number}: {problem}")
        if task.id in seen:
            raise UsageError(
                f"{name}: {where}: the id {_shown(task.id)} names two tasks: fix the environment "
                "(`envs check`)"
            )
        seen.add(task.id)
    return tasks


def _wrong_task(task: Any, split: Split) -> str | None:
    if not isinstance(task, Task):
        return f"{_shown(task)} is not a Task"
    if not isinstance(task.id, str) or not task.id:
        return f"its id is {_shown(task.id)}: expected text that is not empty"
    if not _is_unicode(task.id):
        return f"its id is {_shown(task.id)}, which holds a lone surrogate: expected text"
    if not isinstance(task.prompt, str):
        return f"the prompt of {task.id!r} is {_shown(task.prompt)}: expected text"
    if not isinstance(task.data, Mapping):
        return f"the data of {task.id!r} is {_shown(task.data)}: expected a mapping"
    if task.split != split:
        return f"{task.id!r} of {split} says it is of {_shown(task.split)}"
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def name_of(env: gym.Env[Any, Any]) -> str:
    """The name of an environment in messages."""
    return str(getattr(env.unwrapped, "name", type(env.unwrapped).__name__))


def checked_reset(env: gym.Env[Any, Any], returned: Any) -> tuple[str, Mapping[str, Any]]:
    """Validated observation and info of a reset."""
    observation, info = _unpacked(env, "reset", returned, 2)
    return _text(env, "the first observation", observation), _info(env, info)


def checked_step(env: gym.Env[Any, Any], returned: Any) -> _Answer:
    """The validated return value of a step."""
    observation, reward, over, cut, info = _unpacked(env, "step", returned, 5)
    text = _text(env, "the observation", observation)
    _number(env, "the reward", reward, MOST_REWARD)
    ends = _flag(env, "terminated", over), _flag(env, "truncated", cut)
    info = _info(env, info)
    if any(ends):
        if not isinstance(info.get("feedback"), Feedback):
            raise ContractError(f"{name_of(env)}: the episode ended without info['feedback']")
        info = {**info, "feedback": checked_feedback(env, info["feedback"])}
    return _Answer(text, *ends, info)


def checked_feedback(env: gym.Env[Any, Any], given: Feedback) -> Feedback:
    """A verdict whose fields have the declared types and ranges."""
    cases = _list(env, "feedback.cases", given.cases)
    shown = _list(env, "feedback.shown", given.shown)
    return Feedback(
        reward=_number(env, "feedback.reward", given.reward, MOST_REWARD),
        success=_flag(env, "feedback.success", given.success),
        score=_share(env, "feedback.score", given.score),
        cases=tuple(_case(env, case) for case in cases),
        shown=tuple(_index(env, place, len(cases)) for place in shown),
        text=_text(env, "feedback.text", given.text),
        kind=_text(env, "feedback.kind", given.kind),
        solution=_text(env, "feedback.solution", given.solution),
        metrics=_metrics(env, given.metrics),
    )


def _metrics(env: gym.Env[Any, Any], given: Any) -> dict[str, float]:
    if not isinstance(given, Mapping):
        raise _error(env, "feedback.metrics", given, "numbers by name")
    return {
        _text(env, "a name in feedback.metrics", name): _number(
            env, f"feedback.metrics[{_shown(name)}]", value, MOST_REWARD
        )
        for name, value in given.items()
    }


def _case(env: gym.Env[Any, Any], case: Any) -> CaseResult:
    if not isinstance(case, CaseResult):
        raise _error(env, "one of feedback.cases", case, "a CaseResult")
    return CaseResult(
        name=_text(env, "a case's name", case.name),
        passed=_flag(env, "a case's passed", case.passed),
        kind=_text(env, "a case's kind", case.kind),
        detail=_text(env, "a case's detail", case.detail),
        expected=_text(env, "a case's expected", case.expected),
    )


def _index(env: gym.Env[Any, Any], place: Any, count: int) -> int:
    if isinstance(place, bool) or not isinstance(place, int | np.integer) or not 0 <= place < count:
        raise _error(env, "one of feedback.shown", place, f"a place among its {count} cases")
    return int(place)


def _unpacked(env: gym.Env[Any, Any], call: str, returned: Any, count: int) -> Sequence[Any]:
    if not isinstance(returned, tuple | list) or len(returned) != count:
        raise _error(env, f"what {call} returned", returned, f"a tuple of {count}")
    return returned


def _info(env: gym.Env[Any, Any], value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _error(env, "the info", value, "a mapping")
    return value


def _text(env: gym.Env[Any, Any], what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _error(env, what, value, "text")
    return str(value)


def _flag(env: gym.Env[Any, Any], what: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise _error(env, what, value, "True or False")
    return bool(value)


def _number(env: gym.Env[Any, Any], what: str, value: Any, most: float) -> float:
    is_number = isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating)
    if not is_number or not -most <= value <= most:
        raise _error(env, what, value, f"a number from {-most:g} to {most:g}")
    return float(value)


def _share(env: gym.Env[Any, Any], what: str, value: Any) -> float:
    if not 0 <= (found := _number(env, what, value, MOST_REWARD)) <= 1:
        raise _error(env, what, value, "a share, from 0 to 1")
    return found


def _list(env: gym.Env[Any, Any], what: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, tuple | list):
        raise _error(env, what, value, "a tuple")
    return value


def _error(env: gym.Env[Any, Any], what: str, value: Any, expected: str) -> ContractError:
    return ContractError(f"{name_of(env)}: {what} is {_shown(value)}: expected {expected}")


def _shown(value: Any) -> str:
    """A short form of any value in ASCII, on one line."""
    known = value.item() if isinstance(value, np.generic) else value
    if isinstance(known, str | bytes):
        return ascii(known[:_SHOWN_CHARS])
    if isinstance(known, bool | float | None) or (type(known) is int and abs(known) < 10**18):
        return repr(known)
    return f"of type {type(value).__name__}"


def checked_completions(given: Any, prompts: int, n: int) -> list[list[Completion]]:
    """What a method's `act` returned; UsageError if it is not `n` completions per prompt."""
    sizes = [len(own) if isinstance(own, list | tuple) else -1 for own in _items(given)]
    if sizes != [n] * prompts:
        raise UsageError(
            f"the method's act() was asked for {n} completions of each of {prompts} prompts and "
            f"gave {_shown(given) if not sizes else sizes[:8]}: expected a list of lists"
        )
    for one in (one for own in given for one in own):
        if not isinstance(one, Completion) or not isinstance(one.text, str):
            raise UsageError(f"the method's act() gave {_shown(one)}: expected a Completion")
    return [list(own) for own in given]


def _items(given: Any) -> Sequence[Any]:
    return given if isinstance(given, list | tuple) else []


def checked_metrics(given: Any, method: str) -> Metrics:
    """What a method's `learn` returned; UsageError if it is not a mapping of names to numbers."""
    if not isinstance(given, Mapping):
        raise UsageError(f"{method}: learn() gave {_shown(given)}: expected metrics by name")
    for key, value in given.items():
        if not isinstance(key, str) or not isinstance(value, int | float | np.number | np.bool_):
            raise UsageError(
                f"{method}: learn() gave the metric {_shown(key)} as {_shown(value)}: expected "
                "a number"
            )
    return dict(given)


def checked_context(given: Any, method: str) -> Mapping[str, Any]:
    """What a method's `context` returned; UsageError if it is not a mapping."""
    if not isinstance(given, Mapping):
        raise UsageError(f"{method}: context() gave {_shown(given)}: expected a mapping")
    return given


def commonest(errors: Sequence[str]) -> str:
    """The most common error, on one line, and how often it occurs."""
    [(error, count)] = Counter(errors).most_common(1)
    return f"{' '.join(error.split())[:300]} ({count} of {len(errors)})"
