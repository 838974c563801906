"""Measure what the embedded model can do: its success under each kind of context.

    python -m resd_bench nano probe

The table shows whether the model has, in miniature, what the method presupposes: success is rare
without context, raw feedback helps a little, a reflection more, a playbook and a solution most.
Attempts, reflections and feedback are the model's own and the environment's; true reflections, the
playbook and the solution are the curriculum's. A true reflection names what the model's documents
would name, on the attempts whose mistakes are known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym

from resd_bench import plugins
from resd_bench.budget import Ledger
from resd_bench.nano.check_reflections import TaskKnowledge
from resd_bench.nano.curriculum import Curriculum, Exercise
from resd_bench.nano.documents import Author, Dials, Prompts, numbered, reflection_text
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.seeds import derive, stream
from resd_bench.stats import Interval, success_interval
from resd_bench.types import Group, PromptDialect, Sampling, Task, user

SAMPLING = Sampling(temperature=1.0, top_p=0.95, max_new_tokens=320)
"""The sampling of runs with the embedded model."""

OTHERS_REFLECTION = "attempt + feedback + another task's reflection"
TRUE_REFLECTION = "attempt + feedback + true reflection"
EVERYTHING = "playbook + attempt + feedback + reflection"
PROBE_CONTEXTS = (
    *("none", "feedback", "attempt", "attempt + feedback"),
    *("attempt + feedback + own reflection", OTHERS_REFLECTION, TRUE_REFLECTION),
    *("playbook", EVERYTHING, "solution"),
)
"""Rows of the table. What another task's reflection adds is not due to what a reflection says. Of
true reflections there is no row where no attempt is understood."""
Context = Mapping[str, str]
"""What a teacher prompt shows besides the task, by section."""


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """Success of the model under one kind of context."""

    context: str
    success: Interval
    score: float
    """Mean per-test-case accuracy."""


class WithContext(gym.Wrapper[str, str, str, str]):
    """An environment whose first observation adds context, task by task."""

    def __init__(
        self,
        env: gym.Env[str, str],
        prompts: Prompts,
        told: Mapping[str, Context],
        dialect: PromptDialect = "compact",
    ) -> None:
        super().__init__(env)
        self._prompts, self._told, self._dialect = prompts, told, dialect

    def reset(self, **given: Any) -> tuple[str, dict[str, Any]]:
        """The opening, in a teacher prompt if there is any context for the task."""
        opening, info = self.env.reset(**given)
        if known := self._told.get(info["task_id"]):
            names = ("playbook", "previous_trial", "feedback", "reflection", "solution")
            fields = dict.fromkeys(names, "") | dict(known)
            opening = self._prompts.teacher(self._dialect, prompt=opening, **fields)
        return opening, info


@dataclass
class Probe:
    """Measures a model on the held-out tasks of an environment."""

    policy: LMPolicy
    env_name: str
    samples: int = 4
    sampling: Sampling = SAMPLING
    dials: Dials = field(default_factory=Dials)
    """Of the model: how many causes a true reflection names."""

    def __post_init__(self) -> None:
        name = self.env_name
        self.curriculum: Curriculum = plugins.find("resd_bench.curricula", "curriculum", name)
        self.prompts: Prompts = plugins.find("resd_bench.prompts", "prompt pack", "resd")
        self.tasks: Sequence[Task] = plugins.make_env(name, dialect="compact").tasks("test")
        self.exercises = [self.curriculum.of_task(task) for task in self.tasks]

    def attempt(
        self, name: str, told: Mapping[str, Context], n: int, tasks: Sequence[Task] = ()
    ) -> list[Group]:
        """Attempt each of `tasks` (all) `n` times, with what is `told` by task id.

        `name` seeds sampling.
        """
        envs = EnvPool(
            lambda: WithContext(
                plugins.make_env(self.env_name, dialect="compact"), self.prompts, told
            ),
            isolated=False,
        )
        try:
            return roll_out(
                self.policy.sample,
                envs,
                tasks or self.tasks,
                n=n,
                sampling=self._sampling(name),
                purpose="evaluation",
                ledger=Ledger(),
                seed=derive(0, "probe"),
            )
        finally:
            envs.close()

    def measure(self, context: str, told: Sequence[Context | None] = ()) -> ProbeRow:
        """Success when each task is posed with its part of `told`; tasks with None are left out."""
        pairs = list(zip(self.tasks, told, strict=True)) if told else []
        by_id = {task.id: fields for task, fields in pairs if fields is not None}
        tasks = [task for task in self.tasks if task.id in by_id or not told]
        verdicts = [
            [trajectory.feedback for trajectory in group.trajectories]
            for group in self.attempt(context, by_id, self.samples, tasks)
        ]
        wins = [[float(v.success) for v in group] for group in verdicts]
        scores = [v.score for group in verdicts for v in group]
        return ProbeRow(context, success_interval(wins), sum(scores) / len(scores))

    def rows(self, only: Collection[str] = PROBE_CONTEXTS) -> list[ProbeRow]:
        """The table, with those rows of `CONTEXTS` that are wanted and can be measured."""
        told = self._told(only)
        return [
            self.measure(c, told[c])
            for c in PROBE_CONTEXTS
            if c in told and (not told[c] or any(told[c]))
        ]

    def _told(self, only: Collection[str]) -> dict[str, Sequence[Context | None]]:
        """What each kind of context tells of each task."""
        trials = self.trials()
        book = [{"playbook": self.lessons(e)} for e in self.exercises]
        reflected = [
            trial | {"reflection": reflection}
            for trial, reflection in zip(trials, self._reflections(trials), strict=True)
        ]
        others = [one["reflection"] for one in (*reflected[1:], reflected[0])]
        told: dict[str, Sequence[Context | None]] = {
            "none": (),
            "feedback": [{"feedback": trial["feedback"]} for trial in trials],
            "attempt": [{"previous_trial": trial["previous_trial"]} for trial in trials],
            "attempt + feedback": trials,
            "attempt + feedback + own reflection": reflected,
            OTHERS_REFLECTION: [
                trial | {"reflection": other} for trial, other in zip(trials, others, strict=True)
            ],
            "playbook": book,
            EVERYTHING: [known | trial for known, trial in zip(book, reflected, strict=True)],
            "solution": [{"solution": self.curriculum.answer(e, {})} for e in self.exercises],
        }
        if TRUE_REFLECTION in only:
            told[TRUE_REFLECTION] = self._true_reflections(trials)
        return {context: fields for context, fields in told.items() if context in only}

    def trials(self) -> list[dict[str, str]]:
        """The model's first attempt at each task, and the feedback on it."""
        first = [group.trajectories[0] for group in self.attempt("first attempt", {}, 1)]
        return [
            {
                "previous_trial": self.prompts.attempt(trajectory.turns),
                "feedback": trajectory.feedback.text,
            }
            for trajectory in first
        ]

    def _reflections(self, trials: Sequence[Context]) -> list[str]:
        """The model's reflections on its own attempts."""
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

    def _true_reflections(self, trials: Sequence[Context]) -> list[Context | None]:
        """Trials with what a right reflection says; None where the mistakes are not known."""
        author = Author(self.curriculum, self.prompts, self.dials)
        found: list[Context | None] = []
        for exercise, trial in zip(self.exercises, trials, strict=True):
            made = TaskKnowledge(self.curriculum, exercise).mistakes_of(trial["previous_trial"])
            causes = author.visible_causes(exercise, {m.key: m for m in made or ()})
            text = reflection_text([(m.lessons[0], m) for m in causes])
            found.append({**trial, "reflection": text} if causes else None)
        return found

    def _sampling(self, name: str) -> Sampling:
        return replace(self.sampling, seed=derive(0, "probe", name))

    def lessons(self, exercise: Exercise) -> str:
        """A playbook of every shared lesson relevant to `exercise`, in one wording each."""
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
