"""The lesson audit: what a method wrote in a run, against the answers and the verifier.

Two questions. Is task text or a gold answer copied into a lesson, a reflection or a curation (see
`copies`)? Does the verifier accept a solution when given the very text that a teacher is shown as
correct: a success, or what the environment gives as a reference? It reads no more than bounded
amounts of a run, and says what it left out, solutions of several turns among it, which are no text
that could be graded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from resd_bench import plugins
from resd_bench.check.copies import (
    COPIED,
    FEWEST_CHARS,
    Copy,
    Owner,
    Quotations,
    Secrets,
    Written,
    bare_answer,
    copies,
)
from resd_bench.config import RunConfig
from resd_bench.env import TextEnv
from resd_bench.options import names_in
from resd_bench.parsing import visible_answer
from resd_bench.records.checkpoints import CorruptCheckpoint, checkpoint_files, load_checkpoint
from resd_bench.records.run_files import EPISODES, RunFiles
from resd_bench.rollout.contract import checked_step
from resd_bench.types import Split, Task, env_dialect

LessonKind = Literal["gold answer", "task text", "wrong solution"]
_T = TypeVar("_T")
MOST_TASKS = 400
"""Tasks of a split that are looked at, evenly spread."""
MOST_SOLUTIONS = 256
"""Successes that are graded again, the latest, and references."""
MOST_CHARS = 8_000_000
"""Characters of what a method wrote that are searched, the latest."""
MOST_ATTEMPTS = 20_000
"""Attempts in which copied words are looked for, the first."""
MOST_COPIED = 20_000
"""Copied answers and prompts that are looked for in attempts, the first."""


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
    env: str = ""
    """The environment of the task if it is another than the run's."""

    def __str__(self) -> str:
        if self.kind == "wrong solution":
            return f"{self.where}: the verifier does not accept it for {self.task}: {self.text!r}"
        place = f"{self.split} task {self.task}" + f" of {self.env}" * bool(self.env)
        return f"{self.where} has {self.share:.0%} of the {self.kind} of {place}: {self.text!r}"


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


NO_TEXTS = "nothing to audit: no texts and no attempts with texts are on record"


def audit(folder: Path) -> Audit:
    """Audit the run in `folder`; UsageError if it is not one or its files are damaged."""
    files = RunFiles.at(folder)
    auditor = Auditor(files, files.numbered("context"))
    for row in files.stream(EPISODES):
        auditor.see(row)
    return auditor.finish()


class Auditor:
    """An audit that is shown the rows of a run's episodes as they are read, all of them once.

    The environment is made only for a run with something to audit: kept records have no texts. The
    solution buffer is read from a checkpoint of at most `checkpoint_bytes`.
    """

    def __init__(
        self,
        files: RunFiles,
        contexts: Mapping[int, Mapping[str, Any]],
        checkpoint_bytes: float = math.inf,
    ) -> None:
        self.files, self.config = files, files.config()
        self._sees_reference = plugins.method(self.config.method).sees_reference
        self._checkpoint_bytes = checkpoint_bytes
        self.written, self._unsearched = latest(distinct(texts_of(contexts)))
        self._searched = secrets_of(self.config) if self.written else Searched()
        found = copies(self.written, self._searched.several)
        self._copies = list(islice(found, MOST_COPIED))
        self._stopped = next(found, None) is not None
        self._quoted = Quotations(self._copies, MOST_ATTEMPTS)
        self._successes = Successes()
        self._trained: dict[str, None] = {}
        self._said = False

    def see(self, row: Mapping[str, Any]) -> None:
        """Note a row of the run's episodes."""
        said = [str(turn.get("response", "")) for turn in row.get("turns") or ()]
        task, update = str(row["task"]), int(row["update"])
        if self._sees_reference:
            self._trained[task] = None
        if said:
            self._said = True
            self._quoted.see(task, "\n".join(said), update)
            if row.get("success"):
                self._successes.see(task, said, update)

    def watch(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Rows of the run's episodes, which are seen as they pass."""
        for row in rows:
            self.see(row)
            yield row

    def finish(self) -> Audit:
        """The audit, after all rows."""
        if not (self.written or self._said or self._trained):
            return Audit(left_out=(NO_TEXTS,))
        env = made(self.config)
        buffer = remembered(self.files.folder, self._checkpoint_bytes)
        graded = graded_again(env, self._shown(env, buffer.solutions))
        references = self._references(env)
        bounds = {
            f"{self._unsearched} older texts were not searched": self._unsearched,
            f"copies after the first {MOST_COPIED:,} were not looked at": self._stopped,
            f"{self._quoted.unread} later attempts were not compared": self._quoted.unread,
        }
        left_out = [*self._searched.left_out, *which_count(bounds), *self._successes.left_out()]
        return Audit(
            len(self.written),
            sum(len(own.telling) for own in self._searched.several),
            graded.number + references.number,
            (*left_out, *buffer.left_out, *graded.left_out, *references.left_out),
            (*copied(self._copies, self._quoted), *graded.wrong, *references.wrong),
        )

    def _shown(self, env: TextEnv, buffer: Mapping[str, str]) -> list[Written]:
        """The texts that teachers are shown as correct: different successes, and those kept."""
        found = dict(self._successes.found)
        if env.max_turns == 1:
            for task, text in buffer.items():
                found[task, text] = Written("solution buffer", text, task)
        return list(found.values())

    def _references(self, env: TextEnv) -> Graded:
        """The references of the tasks that were trained on with them, graded as they are shown."""
        number = len(self._trained)
        if env.max_turns > 1:
            why = f"references of {number} tasks, of several turns, are no text to be graded"
            return Graded(left_out=which_count({why: number}))
        tasks = evenly(list(self._trained), MOST_SOLUTIONS)
        shown = [Written(f"reference of {task}", _reference(env, task), task) for task in tasks]
        known = [one for one in shown if one.text.strip()]
        graded, unknown = graded_again(env, known), len(shown) - len(known)
        more = {
            f"references of {number - len(tasks)} tasks were not graded": number - len(tasks),
            f"{unknown} of {len(shown)} references are not known": unknown,
        }
        return replace(graded, left_out=[*graded.left_out, *which_count(more)])


def made(config: RunConfig) -> TextEnv:
    """The environment of a run."""
    dialect = env_dialect(config.dialect or "full")
    settings = {"dialect": dialect, "feedback_level": config.feedback_level, **config.env_options}
    return plugins.make_env(config.env, grade=config.grade, **settings)


def which_count(counts: Mapping[str, int]) -> list[str]:
    """The sentences whose number is not 0."""
    return [why for why, count in counts.items() if count]


# What was written.


def texts_of(contexts: Mapping[int, Mapping[str, Any]]) -> Iterator[Written]:
    """Every text in the `context/` of a run: lessons, reflections, curations, whatever else."""
    for update, context in sorted(contexts.items()):
        for key, value in context.items():
            for row in value if isinstance(value, list) else [value]:
                known = row if isinstance(row, Mapping) else {}
                task = str(known.get("task", ""))
                name = str(known.get("id", task))
                what = _WHAT.get(key, f"{key}, {{}}" if name else key).format(name)
                for text in _strings(row):
                    yield Written(f"{what}, update {update}", text, task, update)


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


def latest(written: Iterable[Written]) -> tuple[list[Written], int]:
    """The latest texts, `MOST_CHARS` of them together, and how many are left out."""
    every = list(written)
    room, first = MOST_CHARS, len(every)
    while first and len(every[first - 1].text) <= room:
        first -= 1
        room -= len(every[first].text)
    return every[first:], first


class Successes:
    """Different successes of one turn, the latest."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Written] = {}
        self._several = self._older = 0

    def see(self, task: str, said: Sequence[str], update: int) -> None:
        """Note a success."""
        if len(said) > 1:
            self._several += 1
            return
        self.found.pop((task, said[0]), None)
        self.found[task, said[0]] = Written(f"success of update {update}", said[0], task)
        if len(self.found) > MOST_SOLUTIONS:
            del self.found[next(iter(self.found))]
            self._older += 1

    def left_out(self) -> list[str]:
        """What is not graded, and why."""
        several = f"{self._several} successes of several turns are no text that could be graded"
        older = f"{self._older} older successes were not graded"
        return which_count({several: self._several, older: self._older})


@dataclass(frozen=True, slots=True)
class Buffer:
    """The solutions that a method remembers, by task."""

    solutions: Mapping[str, str] = field(default_factory=dict)
    left_out: Sequence[str] = ()


def remembered(folder: Path, most_bytes: float) -> Buffer:
    """What the newest whole checkpoint keeps as `solutions`; nothing of a larger one."""
    for path in checkpoint_files(folder / "checkpoints"):
        if (size := path.stat().st_size) > most_bytes:
            why = f"the solution buffer in a checkpoint of {size / 2**20:,.0f} MiB was not graded"
            return Buffer(left_out=(f"{why}: see `results audit`",))
        try:
            agent: Any = load_checkpoint(path).state.get("agent", {})
        except CorruptCheckpoint:
            continue
        kept = agent.get("solutions", {}) if isinstance(agent, Mapping) else {}
        pairs = kept.items() if isinstance(kept, Mapping) else ()
        return Buffer({k: v for k, v in pairs if isinstance(k, str) and isinstance(v, str)})
    return Buffer()


# Gold and task text.


@dataclass(frozen=True, slots=True)
class Searched:
    """What texts are searched for, and what they cannot be searched for."""

    several: Sequence[Secrets] = ()
    left_out: Sequence[str] = ()


def secrets_of(config: RunConfig) -> Searched:
    """Answers and prompts of the tasks that a run trains on and evaluates, on all its panels."""
    validation: list[Split] = ["validation"] * bool(config.eval_validation)
    panels: dict[str, tuple[Split, ...]] = {"": ("train", config.eval_split, *validation)}
    panels |= {name: ("test",) for name in names_in(config.eval_also)}
    several: list[Secrets] = []
    left_out: list[str] = []
    for name, splits in panels.items():
        there = replace(config, env=name, env_options={}) if name else config
        try:
            own = _secrets_in(made(there), name, tuple(dict.fromkeys(splits)))
        except Exception as error:
            if not name:
                raise
            # Another environment may not be installed here.
            left_out.append(f"tasks of {name} not searched for: {type(error).__name__}: {error}")
            continue
        several += own.several
        left_out += own.left_out
    return Searched(several, left_out)


def _secrets_in(env: TextEnv, name: str, splits: Sequence[Split]) -> Searched:
    """Those of one environment, called `name` if it is another than the run's."""
    tasks = {split: env.tasks(split) for split in splits}
    every = [(split, t) for split, own in tasks.items() for t in evenly(own, MOST_TASKS)]
    answers = {
        Owner("gold answer", split, task.id, name): _oracle(env, task) for split, task in every
    }
    prompts = {Owner("task text", split, t.id, name): t.prompt for split, t in every}
    bare = {
        replace(own, bare=True): inner for own, t in answers.items() if (inner := bare_answer(t))
    }
    gold = Secrets.of(answers | bare)
    text = Secrets() if env.answer_in_prompt else Secrets.of(prompts)
    unknown = sum(not own for own in answers.values())
    searched = {replace(owner, bare=False) for owner in gold.telling}
    answers_alike = len(every) - unknown - len(searched)
    prompts_alike = 0 if env.answer_in_prompt else len(every) - len(text.telling)
    skipped = sum(map(len, tasks.values())) - len(every)
    why, of = "not searched for: too short, or too much like others", f" of {name}" * bool(name)
    left_out = {
        f"{skipped} tasks{of} left out, evenly spread": skipped,
        f"{unknown} of {len(every)} answers{of} are not known": unknown,
        f"{answers_alike} of {len(every)} answers{of} {why}": answers_alike,
        f"{prompts_alike} of {len(every)} prompts{of} {why}": prompts_alike,
        f"prompts{of} not searched for: they hold the answers": int(env.answer_in_prompt),
    }
    return Searched([gold, text], which_count(left_out))


def evenly(values: Sequence[_T], most: int) -> list[_T]:
    """At most so many of the values, evenly spread."""
    step = max(1, -(-len(values) // most))
    return list(values[::step])


def _oracle(env: TextEnv, task: Task) -> str:
    try:
        return env.oracle(task)
    except Exception:
        # Not every environment knows the answers, and this one may be broken.
        return ""


def _reference(env: TextEnv, task: str) -> str:
    try:
        return env.reference(env.find(task, "train"))
    except Exception:
        return ""


def copied(several: Iterable[Copy], quoted: Quotations) -> Iterator[Finding]:
    """What was copied and not quoted from attempts.

    Tasks may be alike: of each text and kind the task of which it has most, held-out ones first.
    """
    by_text: dict[Written, list[tuple[float, Copy]]] = {}
    for copy in several:
        if (share := quoted.share(copy)) >= COPIED:
            by_text.setdefault(copy.written, []).append((share, copy))
    for written, found in by_text.items():
        found.sort(key=lambda one: (-one[0], one[1].owner.split == "train", one[1].owner))
        first = {copy.owner.kind: (share, copy.owner) for share, copy in reversed(found)}
        for kind, (share, owner) in first.items():
            yield Finding(
                kind, written.where, owner.task, owner.split, share, written.text, owner.env
            )


# Verdicts.


@dataclass(frozen=True, slots=True)
class Graded:
    """Solutions that were graded again."""

    number: int = 0
    wrong: Sequence[Finding] = ()
    left_out: Sequence[str] = ()


def graded_again(env: TextEnv, shown: Sequence[Written]) -> Graded:
    """The verdicts on solutions as they are shown, without their thinking."""
    wrong, broken = list[Finding](), 0
    known = {task.id for task in env.tasks("train")}
    there = [one for one in shown if one.task in known]
    for one in there:
        text = visible_answer(one.text)
        env.reset(seed=0, options={"task": one.task, "split": "train"})
        try:
            verdict = checked_step(env, env.step(text)).info.get("feedback")
        except Exception:
            broken += 1
            continue
        if verdict is None or not verdict.success:
            wrong.append(Finding("wrong solution", one.where, one.task, "train", 0.0, text))
    gone = len(shown) - len(there)
    left_out = {
        f"{gone} solutions are of tasks that the environment does not have: it has changed": gone,
        f"{broken} solutions have no verdict: the verifier failed": broken,
    }
    return Graded(len(there) - broken, wrong, which_count(left_out))
