"""The leak audit: is gold readable where an agent looks?

Secrets of a task are the oracle's answer, the solution of level 5 and the expected values of level
4. Channels are the prompt, the observations in between, `info` and the feedback at levels 0 to 3.
A long answer must not occur in a channel at all. A short one ("7", "accept") also occurs by chance,
so it counts as leaked if it occurs in its own task's text far more often than in other tasks'
texts. Independently of that, answers are copied out of the feedback and verified. Left out:
paraphrased and encoded gold.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from resd_bench.check.adversarial_answers import failing
from resd_bench.check.env_subject import DEFAULT_LEVEL, RARE, Episode, Subject, excerpt
from resd_bench.check.result import require
from resd_bench.env import TextEnv
from resd_bench.types import Dialect, Feedback, Task

_MOST_TASKS = 24
MOST_SECRETS = 8
"""Expected values examined per task."""
LONG = 16
"""Length, in characters, from which an answer does not occur by chance."""
COMMON = 0.2
"""A secret that occurs in this share of other tasks' texts says nothing about its own task."""
SYSTEMATIC = 0.5
"""Excess over chance from which short secrets count as leaked."""
FEWEST = 4
"""Short secrets needed to tell a leak from chance."""
MOST_COPIES = 12
ORACLE, SOLUTION, _EXPECTED = "answers", "solutions", "expected values"

FENCED = re.compile(r"```[\w+-]*\n(.*?)```", re.DOTALL)
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


@dataclass
class Case:
    """What one task hides and what it shows."""

    task: Task
    secrets: dict[str, set[str]] = field(default_factory=dict)
    """Secrets by kind: answers of the oracle and solutions, without fences and tags, and expected
    values."""
    channels: dict[str, str] = field(default_factory=dict)
    """Everything that was shown, by channel."""


def leaks(subject: Subject) -> str:
    """An agent sees no gold, and copying the feedback does not succeed."""
    evidence = []
    for dialect in subject.dialects:
        env = subject.env(dialect)
        tasks = subject.spread(env, most=_MOST_TASKS)
        cases = [_case(subject, dialect, task) for task in subject.in_time(tasks, 0.5)]
        for channel in cases[0].channels if cases else ():
            for kind in cases[0].secrets:
                _judge(env, cases, channel, kind)
        copied = _copying(subject, dialect, tasks)
        secrets = sum(len(set().union(*case.secrets.values())) for case in cases)
        evidence.append(
            f"{secrets} secrets of {len(cases)} tasks not found ({dialect}); copied feedback "
            f"succeeds {copied[3]:.0%} {copied[4]:.0%} {copied[5]:.0%} at levels 3 4 5"
        )
    return "; ".join(evidence)


def _case(subject: Subject, dialect: Dialect, task: Task) -> Case:
    """Collect the secrets of a task and what failing at it shows."""
    case, expected = Case(task, {ORACLE: set(), SOLUTION: set()}), set[str]()
    with contextlib.suppress(NotImplementedError):
        case.secrets[ORACLE] |= _bare(subject.oracle(subject.env(dialect), task))
    answers = failing(task)[:3]
    for answer in answers:
        best = subject.play(subject.env(dialect, 5), task, [answer]).feedback
        case.secrets[SOLUTION] |= _bare(best.solution)
        expected |= {_plain(c.expected) for c in best.cases}
    case.secrets[_EXPECTED] = set(sorted(expected - {""})[:MOST_SECRETS])
    for level in range(DEFAULT_LEVEL + 1):
        env = subject.env(dialect, level)
        for answer in answers:
            _collect(case, subject.play(env, task, [answer]), level)
    return case


def _collect(case: Case, episode: Episode, level: int) -> None:
    """Add what an episode showed to the channels of its task."""
    hidden = {"feedback", "task_id", "split", "feedback_level", "success", "score", "stop_reason"}
    others = [v for info in episode.infos for k, v in info.items() if k not in hidden]
    found = {
        "the prompt": [episode.observations[0]],
        "an observation": episode.observations[1:-1],
        "info": [*map(repr, others), *(str(info["task_id"]) for info in episode.infos[:1])],
        f"the feedback at level {level}": [_words(episode.feedback), episode.observations[-1]],
    }
    for channel, texts in found.items():
        old = case.channels.get(channel, "")
        case.channels[channel] = "\n".join([old, *(_plain(text) for text in texts)])


def _words(feedback: Feedback) -> str:
    """All text in a verdict."""
    cases = [f"{c.name} {c.kind} {c.detail} {c.expected}" for c in feedback.cases]
    return "\n".join([feedback.text, feedback.kind, feedback.solution, *cases])


def _plain(text: str) -> str:
    return " ".join(text.split())


def _bare(answer: str) -> set[str]:
    """An answer as it is, without fences, and without tags."""
    inner = [*FENCED.findall(answer), *TAGGED.findall(answer)]
    return {plain for text in inner or [answer] if (plain := _plain(text))}


def _occurs(secret: str, text: str) -> bool:
    """Whether `secret` occurs in `text`, not as part of a longer word or number."""
    if secret not in text:
        return False
    return re.search(rf"(?<![\w.]){re.escape(secret)}(?!\w|\.\d)", text) is not None


def _judge(env: TextEnv, cases: Sequence[Case], channel: str, kind: str) -> None:
    """Raise `PropertyFailed` if secrets of `kind` are in `channel` more often than by chance."""
    if env.answer_in_prompt and channel == "the prompt":
        return
    own: list[bool] = []
    by_chance: list[float] = []
    example = ""
    for case in cases:
        secrets = case.secrets[kind]
        others = [c for c in cases if not secrets & c.secrets[kind]]
        for secret in sorted(secrets):
            chance = _share(_occurs(secret, c.channels[channel]) for c in others)
            if chance > COMMON:
                continue
            found = _occurs(secret, case.channels[channel])
            what = f"{excerpt(secret)} of task {case.task.id}"
            long_answer = kind != _EXPECTED and len(secret) >= LONG
            require(not (found and long_answer), f"the answer {what} occurs in {channel}")
            own.append(found)
            by_chance.append(chance)
            example = example or (what if found else "")
    excess = _share(own) - _share(by_chance)
    require(
        len(own) < FEWEST or excess < SYSTEMATIC,
        f"{kind} occur in {channel} of "
        f"{_share(own):.0%} of their own tasks and of {_share(by_chance):.0%} of others, e.g. "
        f"{example}. Set answer_in_prompt if copying from the prompt is the task",
    )


def _share(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else 0.0


def _copying(subject: Subject, dialect: Dialect, tasks: Sequence[Task]) -> dict[int, float]:
    """How often copying what the feedback says succeeds, by level; never up to level 3."""
    env, hits = subject.env(dialect), dict[int, list[bool]]()
    for task in subject.in_time(tasks[:8], 0.3):
        for level in range(1, 6):
            told = subject.play(subject.env(dialect, level), task, [failing(task)[1]]).feedback
            solved = False
            for copy in _copies(told.text):
                solved = solved or subject.play(env, task, [copy]).feedback.success
                require(
                    not solved or level > DEFAULT_LEVEL or env.chance > RARE,
                    f"copying {excerpt(copy)} out of the feedback at level {level} solves "
                    f"{task.id}",
                )
            hits.setdefault(level, []).append(solved)
    return {level: _share(hits.get(level, ())) for level in range(6)}


def _copies(text: str) -> list[str]:
    """Answers a policy might copy out of `text`: all of it, its lines, what follows a colon."""
    lines = [line for line in text.splitlines() if line.strip()]
    parts = [line.rpartition(":")[2].strip() for line in lines]
    whole = [text, text.partition("solution:")[2].strip()]
    wrapped = [f"```\n{whole[1]}\n```", f"<answer>{whole[1]}</answer>", f"```\n{text}\n```"]
    found = dict.fromkeys([*whole, *wrapped, *reversed(parts), *reversed(lines)])
    return [copy for copy in found if copy.strip("`\n")][:MOST_COPIES]
