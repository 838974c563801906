"""What the reflections of a run say, judged by the curriculum: a manipulation check.

    python -m resd_bench nano check-reflections RUN

The method that wrote them knows no curriculum; this reads what it left (`context/` and the
episodes) after the run. Left out: which causes an attempt of several turns has, and an answer that
no set of known mistakes explains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from resd_bench import plugins
from resd_bench.errors import UsageError
from resd_bench.nano.curriculum import Curriculum, Exercise, Mistake
from resd_bench.parsing import visible_answer
from resd_bench.records.run_files import RunFiles
from resd_bench.seeds import stream

_DRAWS = 64
"""Drawn of each mistake to meet all its places."""
MOST_ANSWERS = 60_000
"""Answers of one task that an attempt is compared with; beyond, its causes are not judged."""

Made = tuple[Mistake, ...]


@dataclass(frozen=True, slots=True)
class JudgedReflection:
    """One reflection, as it was shown."""

    exchanged: bool
    """Another text stands for what the model said."""
    cause: bool | None
    """It names a cause that the attempt has, or that cause's lesson; None: not known."""
    right: bool
    """It states a right lesson that bears on the task."""
    wrong: bool
    """It states a wrong lesson that bears on the task."""


@dataclass
class TaskKnowledge:
    """What the curriculum knows of one task."""

    curriculum: Curriculum
    exercise: Exercise
    mistakes: Mapping[str, Sequence[Mistake]] = field(init=False)
    """Every mistake an answer can make, by misconception; several have several places."""

    def __post_init__(self) -> None:
        rng = stream(0, "check reflections", self.exercise.fingerprint)
        draw = self.curriculum.mistake
        self.mistakes = {
            key: list(dict.fromkeys(draw(self.exercise, key, rng) for _ in range(_DRAWS)))
            for key in self.curriculum.priors(self.exercise)
        }

    @cached_property
    def answers(self) -> Mapping[str, Made]:
        """The mistakes of every answer the curriculum can write; the fewest, if several sets do."""
        options = [(None, *places) for places in self.mistakes.values()]
        right = self.curriculum.answer(self.exercise, {})
        several = len(self.curriculum.chat(self.exercise, right)) > 1
        if several or prod(map(len, options)) > MOST_ANSWERS:
            return {}
        sets = [tuple(m for m in chosen if m is not None) for chosen in product(*options)]
        found: dict[str, Made] = {}
        for made in sorted(sets, key=len):
            text = self.curriculum.answer(self.exercise, {m.key: m for m in made})
            found.setdefault(text.strip(), made)
        return found

    def mistakes_of(self, attempt: str) -> Made | None:
        """The mistakes that explain an answer; None where no set of them does."""
        return self.answers.get(attempt.strip())

    def judge(self, text: str, attempt: str, exchanged: bool) -> JudgedReflection:
        """What a reflection on `attempt` says."""
        said = {line.partition(":")[2].strip() for line in text.splitlines()}
        every = [mistake for places in self.mistakes.values() for mistake in places]
        made = self.mistakes_of(attempt)
        return JudgedReflection(
            exchanged,
            None if made is None else any({m.symptom, *m.lessons} & said for m in made),
            any(said.intersection(m.lessons) for m in every),
            any(said.intersection(m.wrong) for m in every),
        )


def check_run(folder: Path) -> list[JudgedReflection]:
    """Every reflection that the run in `folder` showed.

    UsageError where the run kept no texts, or its environment has no curriculum.
    """
    run = RunFiles.at(folder)
    env = str(run.settings()["env"])
    contexts = run.numbered("context")
    if not any(context.get("reflections") for context in contexts.values()):
        raise UsageError(
            f"{folder} holds no reflection: give a run of a method that reflects, as `run` wrote "
            "it (kept records have no texts)"
        )
    curriculum: Curriculum = plugins.find("resd_bench.curricula", "curriculum", env)
    tasks = {task.id: task for task in plugins.make_env(env, dialect="compact").tasks("train")}
    known: dict[str, TaskKnowledge] = {}
    failures = _failures(run.stream("episodes.jsonl"))
    judged = []
    for update, context in sorted(contexts.items()):
        for said in context.get("reflections") or ():
            name = str(said["task"])
            if name not in known:
                known[name] = TaskKnowledge(curriculum, curriculum.of_task(tasks[name]))
            attempt = next(failures.get((update, name), iter(())), "")
            judged.append(known[name].judge(str(said["text"]), attempt, "own" in said))
    return judged


def _failures(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[int, str], Iterator[str]]:
    """Failed answers by update and task, in order; "" for an episode of several turns."""
    found: dict[tuple[int, str], list[str]] = {}
    for row in rows:
        if not row["success"]:
            turns = row["turns"]
            text = visible_answer(turns[0]["response"]) if len(turns) == 1 else ""
            found.setdefault((row["update"], row["task"]), []).append(text)
    return {key: iter(texts) for key, texts in found.items()}


def table(runs: Mapping[str, Sequence[JudgedReflection]]) -> str:
    """What reflections say, in Markdown: the model's own, and those that stand for them."""
    lines = [
        "| run | reflections | number | a cause of the attempt | a right lesson for the task "
        "| a wrong lesson for the task | attempts understood |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, judged in runs.items():
        for label, exchanged in (("the model's own", False), ("exchanged", True)):
            if part := [one for one in judged if one.exchanged is exchanged]:
                known = [one.cause for one in part if one.cause is not None]
                shares = [
                    _share(known),
                    _share([one.right for one in part]),
                    _share([one.wrong for one in part]),
                    _share([one.cause is not None for one in part]),
                ]
                lines.append(f"| {name} | {label} | {len(part)} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _share(found: Sequence[bool]) -> str:
    return f"{sum(found) / len(found):.0%}" if found else "–"
