"""IFEval as an environment: follow instructions that a program can check.

What an instruction means is in `checkers.py`, strict and loose verdicts in `check.py`, where the
prompts come from in `prompts.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resd_bench.env import TextEnv
from resd_bench.types import CaseResult, Dialect, Feedback, Split, Task
from resd_envs.ifeval.check import check
from resd_envs.ifeval.checkers import CHECKERS
from resd_envs.ifeval.prompts import Item, own, probe
from resd_envs.ifeval.solve import solve


class IFEvalEnv(TextEnv):
    """Follow every verifiable instruction of a prompt.

    ## Description
    The forgetting probe of arXiv 2605.12741 (Table 5): the first 100 prompts of IFEval with 163
    instructions of 23 kinds are the `test` split. `train` (160) and `validation` (40) hold prompts
    of our own, so that nothing is trained on the probe.

    ## Action Space
    Any string (`Utf8Text`). Reasoning in think elements is left out before checking; of longer
    responses than 200,000 characters the beginning counts.

    ## Observation Space
    Any string (`Utf8Text`). First the prompt as published (`full`) or a list of its instructions
    (`compact`). Last the feedback.

    ## Rewards
    1 if every instruction is followed strictly, else 0. `info["score"]` is the fraction of
    instructions followed strictly. Some prompts are easy by accident: repeating the prompt succeeds
    on about one in five, and random text on one in ten.

    ## Episode End
    After one action.

    ## Information
    `task_id`, `split`, `feedback_level`; after the action `feedback`, `success`, `score`,
    `stop_reason`, and `loose_success` and `loose_score` by the loose verdicts. The ladder of
    feedback: 0 nothing, 1 that it failed, 2 how many instructions were followed, 3 which were not
    and what the response did, 4 what they ask for, 5 a response that follows all.

    ## Arguments
    - `dialect`: `full` or `compact`.
    - `feedback_level`: 0 to 5.

    ## Version History
    - v0: first version.
    """

    name = "ifeval"
    verify_seconds = 30.0
    answer_in_prompt = True
    # One in five prompts asks for something that repeating the prompt does.
    chance = 0.35

    def __init__(self, *, dialect: Dialect = "full", feedback_level: int = 3) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        self._tasks: dict[Split, Sequence[Task]] = {}

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of `split`; those of the probe in the published order."""
        if split not in self._tasks:
            items = probe() if split == "test" else own(split)
            self._tasks[split] = tuple(self._task(split, item) for item in items)
        return self._tasks[split]

    def _task(self, split: Split, item: Item) -> Task:
        data = {"instruction_ids": item.instruction_ids, "kwargs": item.kwargs}
        prompt = item.prompt if self.dialect == "full" else compact_prompt(item)
        return Task(f"ifeval/{split}/{item.id}", split, prompt, data)

    def verify(self, task: Task, action: str) -> Feedback:
        """Check every instruction strictly."""
        verdicts = check(task.data, action)
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
        return Feedback(
            reward=float(success),
            success=success,
            score=verdicts.strict_score,
            cases=cases,
            kind="" if success else "not_followed",
            shown=tuple(n for n, case in enumerate(cases) if not case.passed),
            solution=self.oracle(task),
        )

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Take one action; info also tells the loose verdicts."""
        task = self.task
        observation, reward, over, cut, info = super().step(action)
        if task is not None:
            verdicts = check(task.data, action)
            info["loose_success"] = verdicts.all_loose
            info["loose_score"] = verdicts.loose_score
        return observation, reward, over, cut, info

    def oracle(self, task: Task) -> str:
        """A response that obeys the letter of all instructions."""
        return solve(task.data["instruction_ids"], task.data["kwargs"])


def compact_prompt(item: Item) -> str:
    """The instructions alone: `write : no comma ; at least 300 words`.

    Prompts of the probe that ask for the same instructions become equal.
    """
    pairs = zip(item.instruction_ids, item.kwargs, strict=True)
    asked = [CHECKERS[name]("", given).asked for name, given in pairs]
    return f"write : {' ; '.join(asked)}"
