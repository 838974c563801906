"""The lesson audit: what a method wrote in a run, against the answers and the verifier.

Two questions. Is task text or a gold answer copied into a lesson, a reflection or a curation? A
text is taken to be copied where it has half of the word n-grams by which an answer, or a prompt, is
told from those of other tasks. Does the verifier accept a solution when given the very text that a
teacher is shown as correct? Left out: paraphrased gold, answers of a word or two, which stand
anywhere by chance, and solutions of several turns, which are no text that could be graded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from resd_bench import plugins
from resd_bench.config import RunConfig
from resd_bench.env import TextEnv
from resd_bench.parsing import visible_answer
from resd_bench.records.checkpoints import CorruptCheckpoint, checkpoint_files, load_checkpoint
from resd_bench.records.run_files import EPISODES, RunFiles
from resd_bench.rollout.contract import checked_step
from resd_bench.types import Split, Task, env_dialect

LessonKind = Literal["gold answer", "task text", "wrong solution"]
_WORDS = 8
"""Length of an n-gram in words and marks; a shorter answer is one n-gram."""
FEWEST_WORDS = 4
FEWEST_CHARS = 16
"""An answer shorter than either stands anywhere by chance."""
_COMMON = 0.2
"""An n-gram of so many tasks tells none of them."""
COPIED = 0.5
"""Share of its telling n-grams from which on an answer or a prompt counts as copied."""
MOST_TASKS = 400
"""Tasks of a split that are looked at, evenly spread."""
MOST_SOLUTIONS = 256
"""Successes that are graded again, the latest."""
_WORD = re.compile(r"\w+|[^\w\s]")
Gram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """A text that a method wrote or shows."""

    where: str
    """`playbook entry err-00001, update 3`."""
    text: str
    task: str = ""
    """The task it is about, "" for none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be."""

    kind: LessonKind
    where: str
    task: str
    split: Split
    share: float
    """Share of the telling n-grams that were found; 0 for a wrong solution."""
    text: str

    def __str__(self) -> str:
        if self.kind == "wrong solution":
            return f"{self.where}: the verifier does not accept it for {self.task}: {self.text!r}"
        what = f"{self.share:.0%} of the {self.kind} of {self.split} task {self.task}"
        return f"{self.where} has {what}: {self.text!r}"


@dataclass(frozen=True, slots=True)
class Audit:
    """What was looked at, and what was found."""

    texts: int = 0
    """Different texts that the method wrote."""
    secrets: int = 0
    """Answers and prompts that can be told from others."""
    solutions: int = 0
    """Solutions that were graded again."""
    left_out: Sequence[str] = ()
    """What could not be looked at, and why."""
    findings: Sequence[Finding] = ()

    def lines(self) -> list[str]:
        """The audit in words, the findings first."""
        looked = (
            f"{self.texts} texts against {self.secrets} answers and prompts, {self.solutions} "
            f"solutions graded again: {len(self.findings)} found"
        )
        return [looked, *map(str, self.findings), *self.left_out]


def audit(folder: Path) -> Audit:
    """Audit the run in `folder`; UsageError if it is not one or its files are damaged."""
    files = RunFiles.at(folder)
    config = files.config()
    env = plugins.make_env(
        config.env,
        grade=config.grade,
        **{
            "dialect": env_dialect(config.dialect or "full"),
            "feedback_level": config.feedback_level,
        },
        **config.env_options,
    )
    written = list(distinct(texts_of(files)))
    shown, left_out = solutions_of(files, env)
    secrets, unknown = secrets_of(env, config)
    graded, wrong = graded_again(env, shown)
    found = (*copied(written, secrets), *wrong)
    told = [*unknown, *left_out]
    return Audit(len(written), len(secrets.sizes), graded, tuple(told), found)


# What was written.


def texts_of(files: RunFiles) -> Iterator[Written]:
    """Every text in the `context/` of a run: lessons, reflections, curations, whatever else."""
    for update, context in sorted(files.numbered("context").items()):
        for key, value in context.items():
            for row in value if isinstance(value, list) else [value]:
                told = row if isinstance(row, Mapping) else {}
                name = str(told.get("id", told.get("task", "")))
                what = _WHAT.get(key, f"{key}, {{}}" if name else key).format(name)
                for text in _strings(row):
                    yield Written(f"{what}, update {update}", text, str(told.get("task", "")))


_WHAT = {
    "playbook": "playbook entry {}",
    "reflections": "reflection on {}",
    "curations": "curation after {}",
    "reviews": "review of {}",
}
_NO_TEXT = {"id", "task", "section"}
"""Fields whose values are names."""


def _strings(value: Any) -> Iterator[str]:
    """The texts in a value of JSON that are long enough to have anything copied."""
    if isinstance(value, str):
        if len(value.strip()) >= FEWEST_CHARS:
            yield value
    elif isinstance(value, Mapping):
        for name, own in value.items():
            yield from () if name in _NO_TEXT else _strings(own)
    elif isinstance(value, list):
        for own in value:
            yield from _strings(own)


def distinct(written: Iterable[Written]) -> Iterator[Written]:
    """The first of texts that are equal."""
    seen: set[str] = set()
    for one in written:
        if one.text not in seen:
            seen.add(one.text)
            yield one


def solutions_of(files: RunFiles, env: TextEnv) -> tuple[list[Written], list[str]]:
    """The texts that teachers are shown as correct, different successes and what the newest
    checkpoint remembers as `solutions`; and why some are left out."""
    found: dict[tuple[str, str], Written] = {}
    several = older = 0
    for row in files.stream(EPISODES):
        turns = row.get("turns") or ()
        if not row["success"] or not turns:
            continue
        if len(turns) > 1:
            several += 1
            continue
        text, where = str(turns[0]["response"]), f"success of update {row['update']}"
        found.pop((row["task"], text), None)
        found[row["task"], text] = Written(where, text, row["task"])
        if len(found) > MOST_SOLUTIONS:
            del found[next(iter(found))]
            older += 1
    if env.max_turns == 1:
        for task, text in _remembered(files.folder).items():
            found[task, text] = Written("solution buffer", text, task)
    left_out = {
        f"{several} successes of several turns are no text that could be graded": several,
        f"{older} older successes were not graded": older,
    }
    return list(found.values()), [why for why, count in left_out.items() if count]


def _remembered(folder: Path) -> Mapping[str, str]:
    """What the newest whole checkpoint keeps as `solutions`, by task."""
    for path in checkpoint_files(folder / "checkpoints"):
        try:
            agent: Any = load_checkpoint(path).state.get("agent", {})
        except CorruptCheckpoint:
            continue
        kept = agent.get("solutions", {}) if isinstance(agent, Mapping) else {}
        pairs = kept.items() if isinstance(kept, Mapping) else ()
        return {k: v for k, v in pairs if isinstance(k, str) and isinstance(v, str)}
    return {}


# Gold and task text.


@dataclass
class Secrets:
    """N-grams that tell an answer or a prompt from those of other tasks."""

    owners: dict[Gram, list[tuple[LessonKind, Split, str]]] = field(default_factory=dict)
    sizes: Counter[tuple[LessonKind, Split, str]] = field(default_factory=Counter)
    """Number of telling n-grams of each."""


def secrets_of(env: TextEnv, config: RunConfig) -> tuple[Secrets, list[str]]:
    """Answers and prompts of training and evaluation tasks, and what is not known of them."""
    splits: tuple[Split, ...] = tuple(dict.fromkeys(("train", config.eval_split)))
    tasks = {split: env.tasks(split) for split in splits}
    every = [(split, task) for split, own in tasks.items() for task in _spread(own)]
    answers = {task.id: _oracle(env, task) for _, task in every}
    secrets = Secrets()
    _add(secrets, "gold answer", [(split, t.id, answers[t.id]) for split, t in every])
    if not env.answer_in_prompt:
        _add(secrets, "task text", [(split, t.id, t.prompt) for split, t in every])
    unknown = sum(not own for own in answers.values())
    told = Counter(kind for kind, _, _ in secrets.sizes)
    answers_alike = len(every) - unknown - told["gold answer"]
    prompts_alike = 0 if env.answer_in_prompt else len(every) - told["task text"]
    skipped = sum(map(len, tasks.values())) - len(every)
    why = "not searched for: too short, or too much like others"
    left_out = {
        f"{skipped} tasks left out, evenly spread": skipped,
        f"{unknown} of {len(every)} answers are not known": unknown,
        f"{answers_alike} of {len(every)} answers {why}": answers_alike,
        f"{prompts_alike} of {len(every)} prompts {why}": prompts_alike,
        "prompts not searched for: they hold the answers": int(env.answer_in_prompt),
    }
    return secrets, [why for why, count in left_out.items() if count]


def _spread(tasks: Sequence[Task]) -> list[Task]:
    step = max(1, -(-len(tasks) // MOST_TASKS))
    return list(tasks[::step])


def _oracle(env: TextEnv, task: Task) -> str:
    try:
        return env.oracle(task)
    except Exception:
        # Not every environment knows the answers, and this one may be broken.
        return ""


def _add(secrets: Secrets, kind: LessonKind, texts: Sequence[tuple[Split, str, str]]) -> None:
    own = {(split, task): grams(text) for split, task, text in texts}
    counts = Counter(gram for few in own.values() for gram in few)
    most = max(1.0, _COMMON * len(texts))
    for (split, task), few in own.items():
        telling = [gram for gram in few if counts[gram] <= most]
        for gram in telling:
            secrets.owners.setdefault(gram, []).append((kind, split, task))
        if telling:
            secrets.sizes[kind, split, task] = len(telling)


def grams(text: str) -> set[Gram]:
    """The n-grams of a text by which it can be told; none of one that is too short."""
    words = _WORD.findall(text.casefold())
    if len(words) < FEWEST_WORDS or len(text.strip()) < FEWEST_CHARS:
        return set()
    n = min(_WORDS, len(words))
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def copied(written: Iterable[Written], secrets: Secrets) -> Iterator[Finding]:
    """The texts that have `COPIED` or more of an answer's or a prompt's telling n-grams.

    Tasks may be alike: of each text and kind the task of which it has most, held-out ones first.
    """
    lengths = sorted({len(gram) for gram in secrets.owners})
    for one in written:
        words = _WORD.findall(one.text.casefold())
        own = {tuple(words[i : i + n]) for n in lengths for i in range(len(words) - n + 1)}
        hits = Counter(owner for gram in own for owner in secrets.owners.get(gram, ()))
        shares = {owner: count / secrets.sizes[owner] for owner, count in hits.items()}
        order = sorted(shares, key=lambda owner: (-shares[owner], owner[1] == "train", owner))
        told = {owner[0]: owner for owner in reversed(order) if shares[owner] >= COPIED}
        for kind, split, task in told.values():
            share = shares[kind, split, task]
            yield Finding(kind, one.where, task, split, share, one.text)


# Verdicts.


def graded_again(env: TextEnv, shown: Sequence[Written]) -> tuple[int, list[Finding]]:
    """How many solutions were graded as they are shown, without their thinking; the wrong ones."""
    wrong = []
    for one in shown:
        text = visible_answer(one.text)
        env.reset(seed=0, options={"task": one.task, "split": "train"})
        told = checked_step(env, env.step(text))
        verdict = told.info.get("feedback")
        if verdict is None or not verdict.success:
            wrong.append(Finding("wrong solution", one.where, one.task, "train", 0.0, text))
    return len(shown), wrong
