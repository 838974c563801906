"""Measure what the embedded model can do: its success under each kind of context.

    python -m resd_bench nano probe

The table tells whether the model has, in miniature, what the method presupposes: success is rare
without context, raw feedback helps a little, a reflection more, a playbook and a solution most.
Attempts, reflections and feedback are the model's own and the environment's; the playbook and the
solution are the curriculum's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from resd_bench import plugins
from resd_bench.nano.curriculum import Curriculum, Exercise
from resd_bench.nano.documents import Prompts, numbered
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.seeds import derive, stream
from resd_bench.stats import Interval, success_interval
from resd_bench.types import Sampling, Task, user

SAMPLING = Sampling(temperature=1.0, top_p=0.95, max_new_tokens=320)
"""As runs of the embedded model sample."""


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """Success of the model under one kind of context."""

    context: str
    success: Interval
    score: float
    """Mean per-test-case accuracy."""


@dataclass
class Probe:
    """A model, the held-out tasks of an environment, and what the model said about them."""

    policy: LMPolicy
    env_name: str
    samples: int = 4
    sampling: Sampling = SAMPLING

    def __post_init__(self) -> None:
        base = self.env_name
        self.curriculum: Curriculum = plugins.find("resd_bench.curricula", "curriculum", base)
        self.prompts: Prompts = plugins.find("resd_bench.prompts", "prompt pack", "resd")
        self.env = plugins.make_env(self.env_name, dialect="compact")
        self.tasks: Sequence[Task] = self.env.tasks("test")
        self.exercises = [self.curriculum.of_task(task) for task in self.tasks]

    def ask(self, name: str, prompts: Sequence[str], n: int = 1) -> list[list[str]]:
        """What the model says to each prompt, `n` times."""
        sampling = replace(self.sampling, seed=derive(0, "probe", name))
        chats = [user(p) for p in prompts]
        answers = self.policy.sample(chats, n=n, sampling=sampling, purpose="evaluation")
        return [[completion.text for completion in group] for group in answers]

    def measure(self, context: str, prompt: Callable[[int], str]) -> ProbeRow:
        """Success when task i is posed as `prompt(i)`."""
        answers = self.ask(context, [prompt(i) for i in range(len(self.tasks))], self.samples)
        verdicts = [
            [self.env.verify(task, text) for text in group]
            for task, group in zip(self.tasks, answers, strict=True)
        ]
        wins = [[float(v.success) for v in group] for group in verdicts]
        scores = [v.score for group in verdicts for v in group]
        return ProbeRow(context, success_interval(wins), sum(scores) / len(scores))

    def rows(self) -> list[ProbeRow]:
        """The whole table."""
        first = [group[0] for group in self.ask("first attempt", [t.prompt for t in self.tasks])]
        feedback = [
            self.env.verify(t, text).at_level(3).text
            for t, text in zip(self.tasks, first, strict=True)
        ]
        asked = [
            self.prompts.reflect(
                "compact", prompt=t.prompt, response=first[i], feedback=feedback[i], playbook=""
            )
            for i, t in enumerate(self.tasks)
        ]
        reflections = [group[0] for group in self.ask("reflect", asked)]
        trial = [{"previous_trial": a, "feedback": f} for a, f in zip(first, feedback, strict=True)]
        book = [{"playbook": self.lessons(e)} for e in self.exercises]
        solved = [{"solution": self.curriculum.answer(e, {})} for e in self.exercises]
        reflected = [c | {"reflection": r} for c, r in zip(trial, reflections, strict=True)]
        contexts = {
            "attempt + feedback": trial,
            "attempt + feedback + own reflection": reflected,
            "playbook": book,
            "playbook + attempt + feedback + reflection": [
                b | r for b, r in zip(book, reflected, strict=True)
            ],
            "solution": solved,
        }
        table = [self.measure("none", lambda i: self.tasks[i].prompt)]
        for name, fields in contexts.items():
            table.append(self.measure(name, lambda i, f=fields: self.teach(i, **f[i])))  # type: ignore[misc]
        return table

    def teach(self, index: int, **known: str) -> str:
        """Task `index` with context."""
        names = ("playbook", "previous_trial", "feedback", "reflection", "solution")
        fields = dict.fromkeys(names, "") | known
        return self.prompts.teacher("compact", prompt=self.tasks[index].prompt, **fields)

    def lessons(self, exercise: Exercise) -> str:
        """A playbook of every shared lesson that bears on `exercise`, in one wording."""
        rng = stream(0, "probe", "lessons", exercise.fingerprint)
        mistakes = [
            self.curriculum.mistake(exercise, k, rng) for k in self.curriculum.priors(exercise)
        ]
        return numbered([m.lessons[0] for m in mistakes if m.shared])


def table(rows: Sequence[ProbeRow]) -> str:
    """The probe table in Markdown."""
    head = "| context | success | 95% interval | per-test-case | samples |\n|---|---|---|---|---|"
    body = [
        f"| {r.context} | {r.success.mean:.1%} | {r.success.low:.1%} to {r.success.high:.1%} "
        f"| {r.score:.1%} | {r.success.n} |"
        for r in rows
    ]
    return "\n".join([head, *body])


if __name__ == "__main__":
    print(table(Probe(LMPolicy.load(sys.argv[1]), "manufactoria-has").rows()))
