"""Measure what the embedded model can do: its success under each kind of context.

    python -m resd_bench nano probe

The table tells whether the model has, in miniature, what the method presupposes: success is rare
without context, raw feedback helps a little, a reflection more, a playbook and a solution most.
Attempts, reflections and feedback are the model's own and the environment's; the playbook and the
solution are the curriculum's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym

from resd_bench import plugins
from resd_bench.budget import Ledger
from resd_bench.nano.curriculum import Curriculum, Exercise
from resd_bench.nano.documents import Prompts, numbered
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.seeds import derive, stream
from resd_bench.stats import Interval, success_interval
from resd_bench.types import Group, Sampling, Task, user

SAMPLING = Sampling(temperature=1.0, top_p=0.95, max_new_tokens=320)
"""As runs of the embedded model sample."""

Context = Mapping[str, str]
"""What the teacher prompt shows besides the task, by section."""


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """Success of the model under one kind of context."""

    context: str
    success: Interval
    score: float
    """Mean per-test-case accuracy."""


class Told(gym.Wrapper[str, str, str, str]):
    """An environment whose first observation tells more, task by task."""

    def __init__(
        self, env: gym.Env[str, str], prompts: Prompts, told: Mapping[str, Context]
    ) -> None:
        super().__init__(env)
        self._prompts, self._told = prompts, told

    def reset(self, **given: Any) -> tuple[str, dict[str, Any]]:
        """The opening in a teacher prompt, where anything is known about the task."""
        opening, info = self.env.reset(**given)
        if known := self._told.get(info["task_id"]):
            names = ("playbook", "previous_trial", "feedback", "reflection", "solution")
            fields = dict.fromkeys(names, "") | dict(known)
            opening = self._prompts.teacher("compact", prompt=opening, **fields)
        return opening, info


@dataclass
class Probe:
    """A model, the held-out tasks of an environment, and what the model does on them."""

    policy: LMPolicy
    env_name: str
    samples: int = 4
    sampling: Sampling = SAMPLING

    def __post_init__(self) -> None:
        name = self.env_name
        self.curriculum: Curriculum = plugins.find("resd_bench.curricula", "curriculum", name)
        self.prompts: Prompts = plugins.find("resd_bench.prompts", "prompt pack", "resd")
        self.tasks: Sequence[Task] = plugins.make_env(name, dialect="compact").tasks("test")
        self.exercises = [self.curriculum.of_task(task) for task in self.tasks]

    def attempt(self, name: str, told: Mapping[str, Context], n: int) -> list[Group]:
        """Attempt every task `n` times, with what is `told` by task id; `name` seeds sampling."""
        envs = EnvPool(
            lambda: Told(plugins.make_env(self.env_name, dialect="compact"), self.prompts, told),
            isolated=False,
        )
        try:
            return roll_out(
                self.policy.sample,
                envs,
                self.tasks,
                n=n,
                sampling=self._sampling(name),
                purpose="evaluation",
                ledger=Ledger(),
                seed=derive(0, "probe"),
            )
        finally:
            envs.close()

    def measure(self, context: str, told: Sequence[Context] = ()) -> ProbeRow:
        """Success when each task is posed with its part of `told`."""
        by_id = {task.id: fields for task, fields in zip(self.tasks, told, strict=False)}
        verdicts = [
            [trajectory.feedback for trajectory in group.trajectories]
            for group in self.attempt(context, by_id, self.samples)
        ]
        wins = [[float(v.success) for v in group] for group in verdicts]
        scores = [v.score for group in verdicts for v in group]
        return ProbeRow(context, success_interval(wins), sum(scores) / len(scores))

    def rows(self) -> list[ProbeRow]:
        """The whole table."""
        trials = self._trials()
        book = [{"playbook": self.lessons(e)} for e in self.exercises]
        solved = [{"solution": self.curriculum.answer(e, {})} for e in self.exercises]
        reflected = [
            trial | {"reflection": reflection}
            for trial, reflection in zip(trials, self._reflections(trials), strict=True)
        ]
        everything = [known | trial for known, trial in zip(book, reflected, strict=True)]
        return [
            self.measure("none"),
            self.measure("attempt + feedback", trials),
            self.measure("attempt + feedback + own reflection", reflected),
            self.measure("playbook", book),
            self.measure("playbook + attempt + feedback + reflection", everything),
            self.measure("solution", solved),
        ]

    def _trials(self) -> list[dict[str, str]]:
        """A first attempt of the model at each task, and the feedback on it."""
        first = [group.trajectories[0] for group in self.attempt("first attempt", {}, 1)]
        return [
            {
                "previous_trial": self.prompts.attempt(trajectory.turns),
                "feedback": trajectory.feedback.text,
            }
            for trajectory in first
        ]

    def _reflections(self, trials: Sequence[Context]) -> list[str]:
        """What the model says about its own attempts."""
        asked = [
            self.prompts.reflect(
                "compact",
                prompt=exercise.prompt,
                response=trial["previous_trial"],
                feedback=trial["feedback"],
                playbook="",
            )
            for exercise, trial in zip(self.exercises, trials, strict=True)
        ]
        answers = self.policy.sample(
            [user(text) for text in asked],
            n=1,
            sampling=self._sampling("reflect"),
            purpose="evaluation",
        )
        return [group[0].text for group in answers]

    def _sampling(self, name: str) -> Sampling:
        return replace(self.sampling, seed=derive(0, "probe", name))

    def lessons(self, exercise: Exercise) -> str:
        """A playbook of every shared lesson that bears on `exercise`, in one wording."""
        rng = stream(0, "probe", "lessons", exercise.fingerprint)
        mistakes = [
            self.curriculum.mistake(exercise, k, rng) for k in self.curriculum.priors(exercise)
        ]
        return numbered([m.lessons[0] for m in mistakes if m.shared])


def probe_table(rows: Sequence[ProbeRow]) -> str:
    """The probe table in Markdown."""
    head = "| context | success | 95% interval | per-test-case | samples |\n|---|---|---|---|---|"
    body = [
        f"| {r.context} | {r.success.mean:.1%} | {r.success.low:.1%} to {r.success.high:.1%} "
        f"| {r.score:.1%} | {r.success.n} |"
        for r in rows
    ]
    return "\n".join([head, *body])
