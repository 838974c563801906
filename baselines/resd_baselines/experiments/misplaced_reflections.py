"""How good must a reflector be? A share of the reflections is about other tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def shuffle_reflections(
    answers: Sequence[str], tasks: Sequence[str], share: float, rng: np.random.Generator
) -> list[str]:
    """`answers` with each one replaced, with probability `share`, by one about another task.

    `tasks` says which task each is about. The random draws do not depend on the share, so a larger
    share replaces a superset; if all answers are about one task, none can be replaced.
    """
    mixed = list(answers)
    for i, (draw, pick) in enumerate(rng.random((len(tasks), 2)).tolist()):
        others = [j for j, task in enumerate(tasks) if task != tasks[i]]
        if draw < share and others:
            mixed[i] = answers[others[int(pick * len(others))]]
    return mixed
