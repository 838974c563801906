"""IFEval as an environment: follow instructions that a program can check.

The meaning of instructions is in `checkers.py`, strict and loose verdicts are in `check.py`, and
prompts come from `prompts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from resd_bench.env import TextEnv
from resd_bench.types import CaseResult, Dialect, Feedback, Split, Task
from resd_envs.ifeval.check import check, read
from resd_envs.ifeval.checkers import CHECKERS
from resd_envs.ifeval.echo import is_echo
from resd_envs.ifeval.prompts import Item, one_instruction, own, probe
from resd_envs.ifeval.solve import solve

ECHO = "echo"
"""Failure class of a response that repeats its prompt."""
SAYS_ECHO: Mapping[Dialect, str] = {
    "full": "The response repeats the prompt and does not answer it.",
    "compact": "copy of the prompt",
}


class IFEvalEnv(TextEnv):
    """Follow every verifiable instruction of a prompt.

    ## Description
    The forgetting probe of arXiv 2605.12741 (Table 5): the first 100 prompts of IFEval with 163
    instructions of 23 kinds are the `test` split. `train` (160) and `validation` (40) hold prompts
    of our own, so that nothing is trained on the probe.

    ## Action Space
    Any string (`Utf8Text`). Reasoning in think elements is removed before checking; of responses
    longer than 200,000 characters only the beginning counts.

    ## Observation Space
    Any string (`Utf8Text`). First the prompt as published (`full`) or a list of its instructions
    (`compact`). Last the feedback.

    ## Rewards
    1 if every instruction is followed strictly, else 0. `info["score"]` is the fraction of
    instructions followed strictly. The published checkers look only at form, so a copy of the
    prompt follows all instructions in a quarter of the probe; here it follows none (`echo`). With
    `grade` at `release` it counts, and `feedback.metrics["echo"]` marks it. Some prompts are easy
    all the same: one text for all of them succeeds on one in five, the words of the prompt in any
    order on one in four.

    ## Episode End
    After one action.

    ## Information
    `task_id`, `split`, `feedback_level`; after the action `feedback`, `success`, `score`,
    `stop_reason`, and `loose_success` and `loose_score` by the loose verdicts, which are in
    `feedback.metrics` too. The ladder of feedback: 0 nothing, 1 that it failed, 2 how many
    instructions were followed, 3 which were not and what the response did, 4 what they ask for, 5 a
    response that follows all.

    ## Arguments
    - `dialect`: `full` or `compact`.
    - `feedback_level`: 0 to 5.
    - `one`: short requests of our own with a single instruction, for small language models, in all
      three splits (128, 32 and 64) and both dialects; no topic is in two splits. As one
      instruction is less than several, one text for all of them succeeds on four in five.

    ## Version History
    - v0: first version.
    """

    name = "ifeval"
    verify_seconds = 30.0
    answer_in_prompt = True
    release_reads_reasoning = True
    # The words of one in four prompts of the probe, in any order, do what it asks for.
    chance = 0.3

    def __init__(
        self, *, dialect: Dialect = "full", feedback_level: int = 3, one: bool = False
    ) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        self.one = one
        if one:
            # One class serves both tiers, so the name belongs to the instance.
            self.name = "ifeval-one"
        self._tasks = self.shared_tasks()

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of `split`; those of the probe are in the published order."""
        if split not in self._tasks:
            items = probe() if split == "test" else own(split)
            if self.one:
                items = one_instruction(split)
            self._tasks[split] = tuple(self._task(split, item) for item in items)
        return self._tasks[split]

    def _task(self, split: Split, item: Item) -> Task:
        data = {"instruction_ids": item.instruction_ids, "kwargs": item.kwargs}
        short = self.dialect == "compact" and not self.one
        prompt = compact_prompt(item) if short else item.prompt
        return Task(f"{self.name}/{split}/{item.id}", split, prompt, data)

    def verify(self, task: Task, action: str) -> Feedback:
        """Check every instruction strictly; a copy of the prompt follows none."""
        verdicts = check(task.data, action, grade=self.grade)
        begin, end = _asked(task.data, "prompt_to_repeat"), _asked(task.data, "end_phrase")
        echo = is_echo(task.prompt, read(action, self.grade), begin=begin, end=end)
        cases = tuple(
            CaseResult(
                name,
                verdict.followed,
                "pass" if verdict.followed else "not_followed",
                "" if verdict.followed else f"{name}: {verdict.seen}",
                verdict.asked,
            )
            for name, verdict in zip(verdicts.instruction_ids, verdicts.details, strict=True)
        )
        success = verdicts.all_strict
        feedback = Feedback(
            reward=float(success),
            success=success,
            score=verdicts.strict_score,
            cases=cases,
            kind="" if success else "not_followed",
            shown=tuple(n for n, case in enumerate(cases) if not case.passed),
            solution=self.oracle(task),
            metrics={
                "echo": float(echo),
                "loose_success": float(verdicts.all_loose),
                "loose_score": verdicts.loose_score,
            },
        )
        return self._as_echo(feedback) if echo and self.grade == "answer" else feedback

    def _as_echo(self, feedback: Feedback) -> Feedback:
        """The verdict on a copy of the prompt."""
        cases = [replace(c, passed=False, kind=ECHO, detail="") for c in feedback.cases]
        cases[0] = replace(cases[0], detail=SAYS_ECHO[self.dialect])
        metrics = {"echo": 1.0, "loose_success": 0.0, "loose_score": 0.0}
        return Feedback(0.0, False, 0.0, tuple(cases), "", ECHO, (0,), feedback.solution, metrics)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Take one action; info also holds the loose verdicts."""
        observation, reward, over, cut, info = super().step(action)
        metrics: Mapping[str, float] = info["feedback"].metrics
        info["loose_success"] = bool(metrics["loose_success"])
        info["loose_score"] = metrics["loose_score"]
        return observation, reward, over, cut, info

    def oracle(self, task: Task) -> str:
        """A response that obeys the letter of all instructions."""
        return solve(task.data["instruction_ids"], task.data["kwargs"])


def _asked(data: Mapping[str, Any], name: str) -> str:
    """The text that an argument of some instruction holds; "" if none has it."""
    return next((str(given[name]) for given in data["kwargs"] if name in given), "")


def compact_prompt(item: Item) -> str:
    """The instructions alone: `write : no comma ; at least 300 words`.

    Prompts of the probe that ask for the same instructions become equal.
    """
    pairs = zip(item.instruction_ids, item.kwargs, strict=True)
    asked = [CHECKERS[name]("", given).asked for name, given in pairs]
    return f"write : {' ; '.join(asked)}"
