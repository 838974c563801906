"""Text environments on the Gymnasium interface.

A single-turn environment implements `tasks` and `verify`; a multi-turn one implements `tasks`,
`opening` and `reply`. Seeding, task choice, the feedback level and the Gymnasium five-tuple are
handled here, and so is reading an action: its visible answer, and whether it was cut off. Any
Python string is a legal action.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from resd_bench.parsing import Grade, visible_answer
from resd_bench.types import (
    SPLITS,
    Answer,
    CaseResult,
    Dialect,
    Feedback,
    FeedbackLevel,
    Split,
    Stop,
    Task,
    TurnFeedback,
    was_cut_off,
)

TRUNCATED = "truncated"
"""Failure class of an answer that hit its token limit."""
CUT_OFF: Mapping[Dialect, str] = {
    "full": "The answer was cut off at the length limit before it was complete.",
    "compact": "answer : cut off",
}
CONTEXT_FULL = "The context was full before there was a further answer."


class Utf8Text(gym.Space[str]):
    """All Python strings; `gymnasium.spaces.Text` would reject blanks and most of Unicode."""

    def __init__(self, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=None, dtype=None, seed=seed)

    def sample(self, mask: None = None, probability: None = None) -> str:
        """A short random string, which may contain lone surrogates and control characters."""
        length = int(self.np_random.integers(0, 24))
        return "".join(chr(int(c)) for c in self.np_random.integers(0, 0x3000, size=length))

    def contains(self, x: Any) -> bool:
        return isinstance(x, str)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Utf8Text)

    def __repr__(self) -> str:
        return "Utf8Text()"


@dataclass(frozen=True, slots=True)
class Reply:
    """An environment's answer to one action."""

    observation: str = ""
    """Shown to the model next, after a notice if the action was cut off; ignored if the episode
    ends, because then the feedback text is shown."""
    feedback: Feedback | None = None
    """The verdict, which ends the episode; None while it continues."""
    turn: TurnFeedback | None = None
    """What there is to say about this action; an environment of several turns says of each whether
    it changed anything. None: it does not say."""


class TextEnv(gym.Env[str, str], ABC):
    """Tasks and answers as text, with `info["feedback"]` (see `resd_bench.types.Feedback`).

    Arguments:
        dialect: wording of the prompts, `full` or `compact`.
        feedback_level: 0 to 5, see `FeedbackLevel`.

    Information: always `task_id`, `split` and `feedback_level`; after a step also `turn` where the
    environment says something about the action (`TurnFeedback`); after the last one `feedback`,
    `success`, `score` and `stop_reason`. Never gold below level 4.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012
    name: str = "text"
    """Short name, as in `--env`; set per instance if one class has several tiers."""
    max_turns: ClassVar[int] = 1
    answer_in_prompt: ClassVar[bool] = False
    """Whether the answer is part of the prompt by design; the leak audit then allows it."""
    verify_seconds: float | None = None
    """Longest wall time, including restarts, that answering any action may take; None promises
    nothing. Must be below the run's `step_seconds`. If it is declared, an action that is not
    answered within `step_seconds` counts as a failure of kind `timeout`, otherwise as an error."""
    concurrent: ClassVar[bool] = False
    """Whether steps of several such environments may run at once, each in a thread: worth it where
    they wait for other processes, as those do that run programs."""
    chance: float = 0.0
    """Success rate of answers that ignore the task; `envs check` allows it."""
    release_reads_reasoning: ClassVar[bool] = False
    """Whether the paper's released verifier of this task reads reasoning too. With `grade` at
    `release`, `verify` then gets the whole response and must read it as that verifier does."""
    grade: Grade = "answer"
    """Which part of an action is graded, as in `--grade`; set by whoever makes the environment."""

    def __init__(self, *, dialect: Dialect = "full", feedback_level: int = 3) -> None:
        if dialect not in ("full", "compact"):
            raise ValueError(f"unknown dialect {dialect!r}: give 'full' or 'compact'")
        self.dialect: Dialect = dialect
        self.feedback_level = FeedbackLevel(feedback_level)
        self.observation_space = Utf8Text()
        self.action_space = Utf8Text()
        self.task: Task | None = None
        self._turn = 0
        self._by_id: dict[Split, dict[str, Task]] = {}

    def shared_tasks(self, *settings: Hashable) -> dict[Split, Sequence[Task]]:
        """Where an environment keeps its tasks by split: one place for all that have the same.

        A run makes an environment for every episode, and each would make all tasks again. The place
        is common to instances of one class, name and dialect, and of equal `settings`: everything
        else that the tasks depend on. Nothing may change tasks that are in it.
        """
        return _shared_tasks(type(self), self.name, self.dialect, settings)

    @abstractmethod
    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of `split`, in the same order on every machine."""

    def files_of(self, tasks: Sequence[Task]) -> Sequence[Path]:
        """Files outside the package that episodes of `tasks` are played from, made if missing.

        They are part of a run's content: resuming with different ones is refused.
        """
        return ()

    def verify(self, task: Task, action: str) -> Feedback:
        """Verify a single-turn answer, with everything the verifier knows; pure and deterministic.

        `step` passes the visible answer, and afterwards adds to the feedback if it was cut off.
        """
        raise NotImplementedError

    def opening(self, task: Task) -> str:
        """The first observation of an episode."""
        return task.prompt

    def reply(self, task: Task, action: str) -> Reply:
        """Answer one action; the default is the single-turn episode."""
        return Reply(feedback=self.verify(task, action))

    def give_up(self, task: Task) -> Feedback:
        """The verdict on an episode that ran out of turns."""
        return Feedback(0.0, False, 0.0, kind="turn_limit")

    def oracle(self, task: Task) -> str:
        """An action that solves `task`; for checkers and tests only."""
        raise NotImplementedError(f"{type(self).__name__} has no oracle")

    def reference(self, task: Task) -> str:
        """A reference solution of `task` as text, "" where there is none.

        For methods that say that they see it (`MethodSpec.sees_reference`). The default is what the
        oracle does; of several turns, all that it does.
        """
        try:
            return self.oracle(task)
        except NotImplementedError:
            return ""

    def find(self, task_id: str, split: Split | None = None) -> Task:
        """The task called `task_id`, in `split` or in whichever has it.

        KeyError with the nearest id if there is none, or if several splits have one.
        """
        if split is not None:
            self._split(split)
        found = [t for s in SPLITS if split in (None, s) and (t := self._of(s, task_id))]
        if len(found) > 1:
            splits = " and ".join(task.split for task in found)
            raise KeyError(f"{self.name} has a task {task_id!r} in {splits}: say which split")
        if not found:
            raise KeyError(self._no_task(task_id, split))
        return found[0]

    def _split(self, name: str) -> Split:
        """`name` as a split; KeyError where it is not one."""
        for split in SPLITS:
            if split == name:
                return split
        raise KeyError(f"{self.name} has no split {name!r}: give {', '.join(SPLITS)}")

    def _of(self, split: Split, task_id: str) -> Task | None:
        if split not in self._by_id:
            self._by_id[split] = {task.id: task for task in self.tasks(split)}
        return self._by_id[split].get(task_id)

    def _no_task(self, task_id: str, split: Split | None) -> str:
        known = [name for own in self._by_id.values() for name in own]
        near = difflib.get_close_matches(task_id, known, n=1)
        where = "" if split is None else f" in {split}"
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{self.name} has no task {task_id!r}{where}{hint}"

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Pose the task of `options={"task": id, "split": split}`, or a random one of the split.

        Without a split, the id must occur in one split only, and a random task is a training task.
        ValueError for other options; KeyError for a task or split that does not exist.
        """
        super().reset(seed=seed)
        given = options or {}
        if unknown := sorted(map(str, given.keys() - {"task", "split"})):
            raise ValueError(f"unknown option {unknown[0]!r} of reset: give task, split or both")
        wanted, split = given.get("task"), given.get("split")
        if wanted is None:
            pool = tuple(self.tasks(self._split("train" if split is None else split)))
            self.task = pool[int(self.np_random.integers(len(pool)))]
        else:
            self.task = self.find(str(wanted), split)
        self._turn = 0
        return self.opening(self.task), self._info(self.task)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Take one action; the last observation is the feedback text.

        An action may be an `Answer`, which says why it ended; for other strings nothing is assumed.
        """
        if self.task is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        task, cut = self.task, was_cut_off(action)
        self._turn += 1
        reply = self.reply(task, self._read(action))
        feedback, truncated = reply.feedback, False
        if feedback is None and self._turn >= self.max_turns:
            feedback, truncated = self.give_up(task), True
        info = self._info(task) | self._turn_info(reply)
        if feedback is None:
            told = [CUT_OFF[self.dialect], reply.observation] if cut else [reply.observation]
            return "\n".join(filter(None, told)), 0.0, False, False, info
        self.task = None
        if self._reads_reasoning:
            feedback = self._count_reasoning(task, action, feedback)
        if cut:
            feedback = told_cut_off(feedback, self.dialect)
        feedback = feedback.at_level(self.feedback_level)
        stop = Stop.TURNS if truncated else Stop.LENGTH if cut else Stop.EOS
        info |= {
            "feedback": feedback,
            "success": feedback.success,
            "score": feedback.score,
            "stop_reason": stop.value,
        }
        return feedback.text, float(feedback.reward), not truncated, truncated, info

    @property
    def _reads_reasoning(self) -> bool:
        return self.grade == "release" and self.release_reads_reasoning

    def _read(self, action: str) -> Answer:
        """The part of an action that is graded, and why the action ended."""
        text = action if self._reads_reasoning else visible_answer(action)
        return Answer(text, Stop.LENGTH if was_cut_off(action) else Stop.EOS)

    def _count_reasoning(self, task: Task, action: str, feedback: Feedback) -> Feedback:
        """`feedback` with `reasoning_success`: 1 if the reasoning succeeds but the answer fails."""
        answer = visible_answer(action)
        alone = feedback.success and answer != action and not self.verify(task, answer).success
        return replace(feedback, metrics={**feedback.metrics, "reasoning_success": float(alone)})

    def _info(self, task: Task) -> dict[str, Any]:
        level = int(self.feedback_level)
        return {"task_id": task.id, "split": task.split, "feedback_level": level}

    def _turn_info(self, reply: Reply) -> dict[str, Any]:
        """What there is to say about the turn, at the environment's level of feedback."""
        if reply.turn is None:
            return {}
        shown = self.feedback_level >= FeedbackLevel.FAILURES
        return {"turn": reply.turn if shown else replace(reply.turn, text="")}


@cache
def _shared_tasks(
    kind: type[TextEnv], name: str, dialect: Dialect, settings: tuple[Hashable, ...]
) -> dict[Split, Sequence[Task]]:
    return {}


def context_full(level: int) -> Feedback:
    """The verdict, at a level of feedback, if no further action could be sampled."""
    case = CaseResult("answer", False, TRUNCATED, CONTEXT_FULL)
    failure = Feedback(0.0, False, 0.0, (case,), kind=TRUNCATED, shown=(0,))
    return failure.at_level(level)


def told_cut_off(feedback: Feedback, dialect: Dialect) -> Feedback:
    """`feedback` on an answer that hit its token limit: a failure says so.

    It does not say that the answer was malformed. If a case passed, the answer could be read, and
    the failing cases are shown after that notice; otherwise nothing else is.
    """
    if feedback.success:
        return feedback
    cases = list(feedback.cases) or [CaseResult("answer", False)]
    shown = feedback.shown
    if any(case.passed for case in cases):
        shown = shown or tuple(n for n, case in enumerate(cases) if not case.passed)[:1]
    else:
        cases = [replace(case, kind=TRUNCATED, detail="") for case in cases]
        shown = (0,)
    for place in shown[:1]:
        detail = f"{CUT_OFF[dialect]}\n{cases[place].detail}".rstrip("\n")
        cases[place] = replace(cases[place], detail=detail)
    return replace(feedback, kind=TRUNCATED, cases=tuple(cases), shown=shown)
