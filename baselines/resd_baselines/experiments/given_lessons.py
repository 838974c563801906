"""A reflector that lies, and a playbook that starts with lessons it was given.

Both read a file of lessons, which an experimenter vouches for: `resd-bench nano lessons` writes the
right or the wrong ones of an environment. The method sees text, and not what is true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from resd_baselines.playbook import MISTAKES, Playbook
from resd_bench.errors import UsageError
from resd_bench.files import reading
from resd_bench.options import SHARE, InRanges

GIVEN = -1
"""Update that added an entry of the playbook that a run started with."""


@dataclass(frozen=True)
class GivenLessonOptions(InRanges):
    """What is exchanged or given. By default nothing is."""

    lies: Annotated[float, SHARE] = 0.0
    """Share of reflections replaced, with their tags, by one out of `lies_file`: for experiments
    on the quality of the reflector, not part of the method."""
    lies_file: str = ""
    """File of wrong lessons: JSON Lines of `nano lessons`, or a lesson a line."""
    seed_playbook: str = ""
    """File of lessons, right or wrong ones, that the playbook starts with: not part of the
    method. Without `use_playbook` it stays as it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lies and not self.lies_file:
            raise ValueError("lies: give method.lies_file, the wrong lessons, too")


@dataclass(frozen=True, slots=True)
class GivenLesson:
    """One lesson of a file."""

    lesson: str
    """As an entry of a playbook."""
    reflection: str
    """As a reflection that teaches it."""


def read_lessons(path: str) -> list[GivenLesson]:
    """The lessons of a file; UsageError where there are none, or one cannot be read."""
    try:
        lines = reading.read_bytes(Path(path)).decode("utf-8").splitlines()
        found = [_read(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}. {_WANTED}") from None
    if not found:
        raise UsageError(f"{path} holds no lesson. {_WANTED}")
    return found


_WANTED = "Give a file of `resd-bench nano lessons`, or one with a lesson a line"


def _read(line: str) -> GivenLesson:
    if not line.lstrip().startswith("{"):
        return GivenLesson(line.strip(), line.strip())
    row = reading.parse_json(line)
    texts = [row.get(name) for name in ("lesson", "reflection")]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{line[:80]!r} has no `lesson` and `reflection`")
    return GivenLesson(*texts)


def seeded_playbook(path: str) -> Playbook:
    """A playbook that starts with the lessons of a file; an empty one without a file."""
    if not path:
        return Playbook()
    return Playbook().extend([(MISTAKES, given.lesson) for given in read_lessons(path)])


def tell_lies(
    answers: Sequence[str], lies: Sequence[GivenLesson], share: float, rng: np.random.Generator
) -> list[str]:
    """`answers` with each one replaced, with probability `share`, by one of `lies`.

    Every answer takes the same draws whatever the share, so that a larger share replaces more of
    the same.
    """
    told = list(answers)
    for i, (draw, which) in enumerate(rng.random((len(answers), 2)).tolist()):
        if draw < share:
            told[i] = lies[int(which * len(lies))].reflection
    return told
