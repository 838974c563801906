"""The dials of experiments on RESD's context, apart from the algorithm. By default none is turned.

Reflections may be exchanged for others before anything reads them (misplaced ones, or lies), the
playbook may start with given lessons, and the teacher may be shown placebos of either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from resd_baselines.base import Attempt
from resd_baselines.experiments.given_lessons import (
    GIVEN,
    GivenLessonOptions,
    read_lessons,
    seeded_playbook,
    tell_lies,
)
from resd_baselines.experiments.misplaced_reflections import shuffle_reflections
from resd_baselines.experiments.shown_context import (
    ShownOptions,
    show_playbook,
    show_reflections,
)
from resd_baselines.parse_replies import NO_REFLECTION, Reflection
from resd_baselines.playbook import Playbook
from resd_bench.options import SHARE
from resd_bench.rollout.placebo import Length
from resd_bench.seeds import stream
from resd_bench.types import Metrics


@dataclass(frozen=True)
class DialOptions(GivenLessonOptions, ShownOptions):
    """What experiments change about the context; not part of the method."""

    misplaced_reflections: Annotated[float, SHARE] = 0.0
    """Share of reflections replaced by one on another task: for experiments on the quality of
    the reflector, not part of the method."""


class ShownContext(NamedTuple):
    """What the teacher is shown."""

    reflections: Sequence[Reflection]
    playbook: Playbook
    check: Metrics


class ContextDials:
    """Turns the dials of `options`, and says what that changed."""

    def __init__(self, options: DialOptions, length: Length) -> None:
        self.options, self.length = options, length
        self.lies = read_lessons(options.lies_file) if options.lies else []
        self.exchanged: list[tuple[str, str]] = []
        """The model's reflection and its replacement, for each failure of the last update."""

    def playbook(self) -> Playbook:
        """The playbook that a run starts with."""
        return seeded_playbook(self.options.seed_playbook)

    def reset(self) -> None:
        """Begin an update: one without a failure exchanges nothing."""
        self.exchanged = []

    def exchange(self, own: Sequence[str], tasks: Sequence[str], seed: int) -> list[str]:
        """The reflections that everything reads, instead of the model's own on `tasks`."""
        texts, options = list(own), self.options
        if options.misplaced_reflections:
            rng = stream(seed, "misplace")
            texts = shuffle_reflections(texts, tasks, options.misplaced_reflections, rng)
        if options.lies:
            texts = tell_lies(texts, self.lies, options.lies, stream(seed, "lies"))
        self.exchanged = list(zip(own, texts, strict=True))
        return texts

    def show(
        self, reflections: Sequence[Reflection], tasks: Sequence[str], book: Playbook, seed: int
    ) -> ShownContext:
        """Reflections and playbook as the teacher is shown them."""
        rng, kind = stream(seed, "reflections_shown"), self.options.reflections_shown
        shown, check = show_reflections(reflections, tasks, kind, rng, self.length)
        rng, kind = stream(seed, "playbook_shown"), self.options.playbook_shown
        playbook, also = show_playbook(book, kind, rng, self.length)
        return ShownContext(shown, playbook, {**check, **also})

    def metrics(self, births: Mapping[str, int]) -> Metrics:
        """The manipulation check: nothing in a run that turns nothing.

        `resd/exchanged_reflections` of the update; `resd/seeded_entries` in the playbook of those
        that it started with. `births`: the update that added each entry.
        """
        found = {}
        if self.options.lies or self.options.misplaced_reflections:
            exchanged = sum(own != told for own, told in self.exchanged)
            found["resd/exchanged_reflections"] = float(exchanged)
        if self.options.seed_playbook:
            found["resd/seeded_entries"] = float(list(births.values()).count(GIVEN))
        return found

    def annotate(
        self,
        rows: Iterable[dict[str, Any]],
        attempts: Sequence[Attempt],
        real: Sequence[Reflection],
        shown: ShownContext,
    ) -> None:
        """Add the model's `own` text to records of `real` reflections that were exchanged, and the
        text that was `shown` where the teacher saw another.

        `rows` has one for each failure whose reflection says anything.
        """
        exchanged, left = iter(self.exchanged), iter(rows)
        for attempt, reflection, seen in zip(attempts, real, shown.reflections, strict=True):
            if attempt.success:
                continue
            own, told = next(exchanged, ("", ""))
            if reflection == NO_REFLECTION:
                continue
            row = next(left)
            row |= {"own": own} if own != told else {}
            row |= {"shown": seen.text} if seen is not reflection else {}
