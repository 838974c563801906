"""Manufactoria-HAS as an environment: prompts, tiers and splits.

The meaning of a program is in `machine.py`, the tapes that it must accept are in `problems.py`, and
grading is in `verifier.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files

from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.types import Dialect, Feedback, Split, Task, was_cut_off
from resd_envs.manufactoria.problems import (
    Problem,
    Spec,
    compact_prompt,
    has_split,
    length_of,
    make_problem,
    words,
)
from resd_envs.manufactoria.verifier import (
    TAG,
    answers_exhaustively,
    oracle_program,
    verify,
)

LENGTHS = (2, 3, 4, 5)
"""Tiers besides the whole set."""

VALIDATION_SIZE = 64
L5_TRAIN_SIZE = 640
L5_TEST_SIZE = 128
L5_TRAIN_PERCENT = 85


class ManufactoriaHasEnv(TextEnv):
    """Write a program that accepts exactly the tapes that have a property.

    ## Description
    A robot carries a tape of red, blue, yellow and green symbols through a factory of nodes that
    pull symbols from its front, paint symbols at its back and route. The factory must accept
    exactly the tapes that contain a word (`contains_substring`), contain it with gaps
    (`contains_ordered`), or have a minimum number of symbols of each colour (`contains_count`).
    The problems, their order and their split are those of arXiv 2605.12741 (742 train, 132 test);
    test inputs are drawn again by the same recipe. `validation` holds 64 problems with words of
    five symbols, which are in no other split of any tier.

    ## Action Space
    Any string (`Utf8Text`). The program is the last fenced block; a block may be tagged
    `manufactoria`.

    ## Observation Space
    Any string (`Utf8Text`). First the prompt: a manual of the language and the criterion (`full`),
    or one line such as `substring R B Y G` (`compact`). Last the feedback.

    ## Rewards
    1 if every test passes, else 0. `info["score"]` is the fraction of tests passed; a program that
    rejects everything scores about 0.65. The tests let some wrong programs pass, as the released
    ones do; `feedback.metrics["exhaustive_success"]` is the stricter verdict: 1 if the program is
    also right on every tape of up to six symbols. A single program for all problems passes for up
    to one in twenty, and is right for one.

    ## Episode End
    After one action.

    ## Information
    `task_id`, `split`, `feedback_level`; after the action `feedback`, `success`, `score`,
    `stop_reason`. The ladder of feedback: 0 nothing, 1 that it failed, 2 how many tests passed and
    the class of error, 3 up to two failing tapes with what the program did, 4 also the expected
    verdict. Since a verdict is accept or reject, level 3 implies the expected one of each shown
    tape: a failing tape that was accepted should have been rejected. No level shows a program.

    ## Arguments
    - `dialect`: `full` or `compact`, the wording of prompts and feedback.
    - `feedback_level`: 0 to 5.
    - `length`: None for the whole set; 2, 3 or 4 for its problems whose word has that length or
      whose counts add up to it; 5 for longer words than the paper has (640 train, 128 test; counts
      of five stay on the side of the split where the paper has them).

    ## Version History
    - v0: first version.
    """

    name = "manufactoria-has"
    verify_seconds = 30.0
    release_reads_reasoning = True
    # The tests let the best single program pass for six of the 132 problems.
    chance = 0.05

    def __init__(
        self, *, dialect: Dialect = "full", feedback_level: int = 3, length: int | None = None
    ) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        if length is not None and (type(length) is not int or length not in LENGTHS):
            raise UsageError(f"length {length!r} is not a tier: give None, 2, 3, 4 or 5")
        self.length = length
        if length is not None:
            # One class serves all tiers, so the name belongs to the instance.
            self.name = f"manufactoria-has-l{length}"

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of `split`; training and test tasks of the whole set in the paper's order."""
        return _tasks(self.name, self.length, split, self.dialect)

    def verify(self, task: Task, action: str) -> Feedback:
        """Run the answer's program on every test, and one that passes on every short tape."""
        problem = task.data["problem"]
        feedback = verify(
            action,
            problem,
            dialect=self.dialect,
            truncated=was_cut_off(action),
            grade=self.grade,
        )
        right = feedback.success and answers_exhaustively(action, problem, grade=self.grade)
        return replace(feedback, metrics={"exhaustive_success": float(right)})

    def oracle(self, task: Task) -> str:
        """A fenced program that solves `task`."""
        return f"```{TAG}\n{oracle_program(task.data['problem'])}\n```"


@cache
def _tasks(name: str, length: int | None, split: Split, dialect: Dialect) -> tuple[Task, ...]:
    """The tasks, made once: an evaluation has an environment per episode."""
    return tuple(
        _task(
            f"{name}/{split}/{number:04d}", make_problem(spec.family, spec.params), split, dialect
        )
        for number, spec in enumerate(_panel(length)[split])
    )


def _task(beginning: str, problem: Problem, split: Split, dialect: Dialect) -> Task:
    return Task(
        id=f"{beginning}-{problem.id}",
        split=split,
        prompt=prompt(problem, dialect),
        data={"problem": problem},
    )


def prompt(problem: Problem, dialect: Dialect) -> str:
    """How `problem` is posed."""
    if dialect == "compact":
        return compact_prompt(problem.family, problem.params)
    return _manual().format(criteria=problem.criteria)


@cache
def _manual() -> str:
    text = files("resd_envs.manufactoria").joinpath("prompts/full.md").read_text(encoding="utf-8")
    if text.count("{criteria}") != 1:
        raise UsageError("prompts/full.md must hold the field {criteria} exactly once")
    return text


@cache
def _panel(length: int | None) -> Mapping[Split, Sequence[Spec]]:
    """Which problems each split of a tier has."""
    train, test = has_split()
    if length == 5:
        train, test = _longer(train, test)
    elif length is not None:
        train, test = _of_length(train, length), _of_length(test, length)
    return {"train": train, "validation": _longer_words()[:VALIDATION_SIZE], "test": test}


def _of_length(specs: Iterable[Spec], length: int) -> tuple[Spec, ...]:
    return tuple(spec for spec in specs if length_of(spec) == length)


@cache
def _longer_words() -> tuple[Spec, ...]:
    """All problems with words of five symbols, in the order of their content hashes."""
    specs = words("contains_ordered", 5, 5) + words("contains_substring", 5, 5)
    return tuple(sorted(specs, key=lambda spec: spec.hash))


def _longer(
    train: Iterable[Spec], test: Iterable[Spec]
) -> tuple[tuple[Spec, ...], tuple[Spec, ...]]:
    """Training and test problems of five symbols, divided by content hash."""
    sides = list(_of_length(train, 5)), list(_of_length(test, 5))
    for spec in _longer_words()[VALIDATION_SIZE:]:
        sides[_bucket(spec) >= L5_TRAIN_PERCENT].append(spec)
    for side in sides:
        side.sort(key=lambda spec: spec.hash)
    return tuple(sides[0][:L5_TRAIN_SIZE]), tuple(sides[1][:L5_TEST_SIZE])


def _bucket(spec: Spec) -> int:
    """0 to 99, from the end of the hash, on which the order does not depend."""
    return int(spec.hash[-8:], 16) % 100
