"""A dial on how good a reflector must be: a share of reflections is about other tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def shuffle_reflections(
    answers: Sequence[str], tasks: Sequence[str], share: float, rng: np.random.Generator
) -> list[str]:
    """`answers` with each one replaced, with probability `share`, by one about another task.

    `tasks` says which task each is about. Every answer takes the same draws whatever the share, so
    that a larger share replaces more of the same; where all are about one task, nothing can be.
    """
    mixed = list(answers)
    for i, (draw, pick) in enumerate(rng.random((len(tasks), 2)).tolist()):
        others = [j for j, task in enumerate(tasks) if task != tasks[i]]
        if draw < share and others:
            mixed[i] = answers[others[int(pick * len(others))]]
    return mixed
