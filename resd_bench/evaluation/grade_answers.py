"""Grade saved answers: JSON lines in, the same lines with verdicts out.

A line names a task and gives an answer: `{"task": ID, "answer": TEXT}`, or for several turns
`{"task": ID, "answers": [TEXT, ...]}`, with `"split"` if several splits have a task of that id;
lines of a run's `episodes.jsonl` work too. `"stop": "length"` in a line or a turn says that its
answer was truncated. Left out: sampling answers, see `eval`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resd_bench.env import TextEnv, context_full
from resd_bench.errors import UsageError
from resd_bench.records.jsonl import parse_objects
from resd_bench.rollout.contract import checked_step
from resd_bench.types import SPLITS, Answer, Feedback, Split, Stop

_EXPECTED = 'expected {"task": ID, "answer": TEXT} or {"task": ID, "answers": [TEXT, ...]}'


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One line of the input."""

    row: Mapping[str, Any]
    """The line itself, which the verdict is added to."""
    task_id: str
    actions: Sequence[Answer]
    cut_off: bool
    """Whether it ended at the token limit; then no further action is expected."""
    split: Split | None = None
    """Split of the task; None to search all splits for its id."""


def read_answers(lines: Iterable[bytes], source: str) -> Iterator[_Attempt]:
    """The answers of a JSONL text; blank lines are skipped, UsageError names an invalid one."""
    for line in parse_objects(lines, source, _EXPECTED, strict=True):
        yield _attempt(line.row, line.where)


def _attempt(row: Mapping[str, Any], where: str) -> _Attempt:
    said, cut_off = _said(row, where), row.get("stop") == Stop.LENGTH
    if not (said or cut_off) or not all(isinstance(text, str) for text, _ in said):
        raise UsageError(f"{where}: the answer is not text: {_EXPECTED}")
    task_id = row.get("task", row.get("task_id"))
    if not isinstance(task_id, str):
        raise UsageError(f"{where} names no task: {_EXPECTED}")
    split = row.get("split")
    if split not in (None, *SPLITS):
        raise UsageError(f"{where}: split {split!r} is unknown: give {', '.join(SPLITS)}")
    actions = [Answer(text, Stop.LENGTH if cut else Stop.EOS) for text, cut in said]
    return _Attempt(row, task_id, actions, cut_off, split)


def _said(row: Mapping[str, Any], where: str) -> list[tuple[Any, bool]]:
    """The answers of a line, each with whether it was truncated."""
    texts, turns = row.get("answers"), row.get("turns")
    if "answer" in row:
        texts = [row["answer"]]
    if isinstance(texts, list):
        last = len(texts) - 1
        return [(t, n == last and row.get("stop") == Stop.LENGTH) for n, t in enumerate(texts)]
    if texts is None and isinstance(turns, list):
        known = [turn if isinstance(turn, dict) else {} for turn in turns]
        return [(turn.get("response"), turn.get("stop") == Stop.LENGTH) for turn in known]
    raise UsageError(f"{where} has no answer: {_EXPECTED}")


def grade(env: TextEnv, answers: Iterable[_Attempt]) -> Iterator[dict[str, Any]]:
    """Each line with its verdict; if there is none, `success` is null and `error` says why.

    UsageError for a task that the environment does not have.
    """
    for answer in answers:
        try:
            env.find(answer.task_id, answer.split)
        except KeyError as error:
            raise UsageError(f"{error.args[0]}; see `envs info {env.name}`") from None
        yield {**answer.row, **_mark(env, answer)}


def _mark(env: TextEnv, answer: _Attempt) -> dict[str, Any]:
    try:
        feedback, turns, stop = _play(env, answer)
    except Exception as error:
        return _row(None, 0, "error", f"{type(error).__name__}: {error}")
    if feedback is None and answer.cut_off:
        feedback, stop = context_full(env.feedback_level), Stop.LENGTH.value
    if feedback is None:
        return _row(None, turns, "error", f"the episode continues after {turns} answers: give more")
    return _row(feedback, turns, stop, "")


def _play(env: TextEnv, answer: _Attempt) -> tuple[Feedback | None, int, str]:
    """The verdict, the number of turns and why the episode stopped."""
    env.reset(seed=0, options={"task": answer.task_id, "split": answer.split})
    for turn, action in enumerate(answer.actions, start=1):
        told = checked_step(env, env.step(action))
        if told.over or told.cut:
            return told.info["feedback"], turn, str(told.info.get("stop_reason", ""))
    return None, len(answer.actions), ""


def _row(feedback: Feedback | None, turns: int, stop: str, error: str) -> dict[str, Any]:
    return {
        "success": feedback.success if feedback else None,
        "score": feedback.score if feedback else None,
        "reward": feedback.reward if feedback else None,
        "kind": feedback.kind if feedback else "environment_error",
        "feedback": feedback.text if feedback else "",
        "metrics": dict(feedback.metrics) if feedback else {},
        "turns_taken": turns,
        "stop": stop,
        "error": error,
    }
