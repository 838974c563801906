"""Placebo feedback: what failed attempts are told is another's, or says nothing.

Stands between environments and methods, so it holds for every method. An attempt keeps its turns,
its verdict, reward, score and metrics; all else that the environment said at its end is exchanged,
and remarks on single turns are left out.
*Shuffled* feedback is what the environment said on a failed attempt at another task of the batch,
or where there is none, at an earlier one: of equal form and about equal length, and each is used
once. It keeps the distribution of feedback and destroys what it says about this attempt. *Blank*
feedback is filler of as many tokens: it keeps that the attempt failed and how long the feedback
was. Left out: the observations within an episode, which are the game itself, and evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from resd_bench.seeds import stream
from resd_bench.types import CaseResult, Content, Feedback, Group, Metrics, Stop, Trajectory, Turn

_KEPT = 64
"""Number of the latest failures whose feedback is kept for batches without another task's."""
_BLOCK = 512
"""Maximum number of texts that are exchanged among each other; more are divided at random."""
FILLER = "-"
Length = Callable[[str], int]


class TextAbout(NamedTuple):
    """A text, and what it is about."""

    about: str
    text: str


FeedbackSource = Literal["other_task", "earlier", "blank"]
"""Where feedback that is shown is from: this batch, an earlier one, or nowhere."""


class Shown(NamedTuple):
    """What an attempt is told."""

    source: FeedbackSource
    task: str
    """The task that it is about, "" for filler."""
    feedback: Feedback


def length_of(policy: Any) -> Length:
    """How long a text is for a policy: in tokens where it can count them, else in characters."""
    length: Length = getattr(policy, "count_tokens", len)
    return length


def blank(text: str, length: Length = len) -> str:
    """Filler that is as long as `text`, to within one piece; never empty."""
    wanted = length(text)
    low, high = 1, max(1, len(text))
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if length(_filler(middle)) < wanted else (low, middle)
    return min((_filler(n) for n in (max(1, low - 1), low)), key=lambda f: abs(length(f) - wanted))


def _filler(pieces: int) -> str:
    return " ".join([FILLER] * pieces)


def exchange(told: Sequence[TextAbout], rng: np.random.Generator) -> list[int | None]:
    """For each text the number of the one to show in its place; None where it would be its own.

    A permutation in which as few as possible are about the same thing, then as few as possible are
    equal word for word (where most texts are equal, some must be), and then lengths differ as
    little as possible.
    """
    order = rng.permutation(len(told))
    chosen: list[int | None] = [None] * len(told)
    for start in range(0, len(told), _BLOCK):
        block = [int(i) for i in order[start : start + _BLOCK]]
        texts = [told[i] for i in block]
        for i, j in zip(block, _assign(texts, texts, rng), strict=True):
            chosen[i] = None if told[block[j]].about == told[i].about else block[j]
    return chosen


def _assign(
    own: Sequence[TextAbout], others: Sequence[TextAbout], rng: np.random.Generator
) -> Sequence[int]:
    """The number of the text among `others` that each of `own` gets, all together at least cost."""
    from scipy.optimize import linear_sum_assignment

    _, columns = linear_sum_assignment(_costs(own, others, rng))
    return [int(j) for j in columns]


def _costs(
    own: Sequence[TextAbout], others: Sequence[TextAbout], rng: np.random.Generator
) -> np.ndarray:
    sizes = [np.array([len(one.text) for one in side], dtype=float) for side in (own, others)]
    apart = np.abs(sizes[0][:, None] - sizes[1]) / np.maximum(sizes[0][:, None], sizes[1])
    same = np.array([[a.about == b.about for b in others] for a in own])
    equal = np.array([[a.text.split() == b.text.split() for b in others] for a in own])
    # Each term outweighs all later ones over a whole block; chance decides between equals.
    weight = 2.0 * (_BLOCK + 1)
    noise = 0.01 * rng.random(apart.shape)
    costs: np.ndarray = weight * (weight * same + equal) + apart + noise
    return costs


@dataclass
class Placebo:
    """Exchanges the feedback of failed attempts before a method sees them."""

    content: Content = "real"
    length: Length = len
    earlier: list[tuple[str, Feedback]] = field(default_factory=list)
    """Task and feedback of the latest failures."""

    def exchanged(
        self, groups: Sequence[Group], seed: int
    ) -> tuple[Sequence[Group], Sequence[Mapping[str, str]], Metrics]:
        """The groups as the method sees them; what records say of each attempt; the check.

        Attempts are in the order of the groups. `placebo/failures`: attempts that were told
        something; of them `placebo/other_task`, `placebo/earlier`, `placebo/blank` are the shares
        that got feedback on another task of the batch, on one of an earlier batch, or filler. For
        the others see `manipulation`.
        """
        if self.content == "real":
            return groups, [{}] * sum(len(group.trajectories) for group in groups), {}
        attempts = [attempt for group in groups for attempt in group.trajectories]
        failed = [i for i, attempt in enumerate(attempts) if is_told(attempt)]
        shown = self._shown([attempts[i] for i in failed], stream(seed, "placebo"))
        notes: list[dict[str, str]] = [{} for _ in attempts]
        seen = list(attempts)
        for i, one in zip(failed, shown, strict=True):
            told = _with_verdict(one.feedback, attempts[i].feedback)
            seen[i] = replace(attempts[i], feedback=told, turns=_without_remarks(attempts[i].turns))
            notes[i] = {"shown_feedback": told.text, "feedback_from": one.task}
        own = [(attempts[i].task.id, attempts[i].feedback) for i in failed]
        self.earlier = [*self.earlier, *own][-_KEPT:]
        places = iter(seen)
        exchanged = [
            replace(group, trajectories=tuple(next(places) for _ in group.trajectories))
            for group in groups
        ]
        return exchanged, notes, self._metrics([feedback for _, feedback in own], shown)

    def _shown(self, failed: Sequence[Trajectory], rng: np.random.Generator) -> list[Shown]:
        """What each failed attempt is told."""
        if self.content == "blank" or not failed:
            return [self._blank(attempt) for attempt in failed]
        told = [TextAbout(attempt.task.id, attempt.feedback.text) for attempt in failed]
        return [
            self._from_earlier(attempt, rng)
            if j is None
            else Shown("other_task", failed[j].task.id, failed[j].feedback)
            for attempt, j in zip(failed, exchange(told, rng), strict=True)
        ]

    def _from_earlier(self, attempt: Trajectory, rng: np.random.Generator) -> Shown:
        others = [one for one in self.earlier if one[0] != attempt.task.id]
        if not others:
            return self._blank(attempt)
        own = [TextAbout(attempt.task.id, attempt.feedback.text)]
        [chosen] = _assign(own, [TextAbout(task, feedback.text) for task, feedback in others], rng)
        return Shown("earlier", *others[chosen])

    def _blank(self, attempt: Trajectory) -> Shown:
        text = blank(attempt.feedback.text, self.length)
        nothing = replace(attempt.feedback, text=text, kind="", cases=(), shown=(), solution="")
        return Shown("blank", "", nothing)

    def _metrics(self, own: Sequence[Feedback], shown: Sequence[Shown]) -> Metrics:
        shares: Metrics = {
            f"placebo/{source}": sum(one.source == source for one in shown) / max(1, len(shown))
            for source in get_args(FeedbackSource)
        }
        pairs = [(a.text, b.feedback.text) for a, b in zip(own, shown, strict=True)]
        failures = {"placebo/failures": float(len(shown))}
        return {**failures, **shares, **manipulation("placebo", pairs, self.length)}

    def state_dict(self) -> list[tuple[str, dict[str, Any]]]:
        """What later batches may be told, as plain containers."""
        return [(task, asdict(feedback)) for task, feedback in self.earlier]

    def load_state_dict(self, state: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Go on from `state_dict`."""
        self.earlier = [(task, _feedback(values)) for task, values in state]


def is_told(attempt: Trajectory) -> bool:
    """Whether an attempt failed by its environment's verdict and was told something about it."""
    feedback = attempt.feedback
    return attempt.stop is not Stop.ERROR and not feedback.success and bool(feedback.text.strip())


def _with_verdict(told: Feedback, own: Feedback) -> Feedback:
    """What is `told`, with the verdict of the attempt itself."""
    return replace(
        told, reward=own.reward, success=own.success, score=own.score, metrics=own.metrics
    )


def _without_remarks(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns, without what the environment says of them besides the observations."""
    notes = (turn.feedback and replace(turn.feedback, text="") for turn in turns)
    return tuple(replace(turn, feedback=note) for turn, note in zip(turns, notes, strict=True))


def _feedback(values: Mapping[str, Any]) -> Feedback:
    cases = tuple(CaseResult(**case) for case in values["cases"])
    return Feedback(**{**values, "cases": cases, "shown": tuple(values["shown"])})


def manipulation(area: str, pairs: Sequence[tuple[str, str]], length: Length = len) -> Metrics:
    """How far what is shown is from what is real, of pairs of both; nothing without a pair.

    `AREA/equal_by_chance`: share of pairs that are equal word for word; `AREA/words_kept`: mean
    share of the words of the real text that the shown one has too; `AREA/length_ratio`: mean length
    of the shorter of both in units of the longer.
    """
    if not pairs:
        return {}
    equal = [real.split() == shown.split() for real, shown in pairs]
    kept = [_words_kept(real, shown) for real, shown in pairs]
    sizes = [(length(real), length(shown)) for real, shown in pairs]
    ratios = [min(both) / max(1, *both) for both in sizes]
    return {
        f"{area}/equal_by_chance": float(np.mean(equal)),
        f"{area}/words_kept": float(np.mean(kept)),
        f"{area}/length_ratio": float(np.mean(ratios)),
    }


def _words_kept(real: str, shown: str) -> float:
    words = set(real.split())
    return len(words & set(shown.split())) / len(words) if words else 1.0
