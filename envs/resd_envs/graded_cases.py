"""Feedback on an answer that is graded by several cases, when not all of them passed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from resd_bench.types import CaseResult, Feedback


def none_passed(names: Iterable[str], kind: str, detail: str, solution: str = "") -> Feedback:
    """All cases, at least one, failed for one reason, which the first of them gives."""
    cases = [CaseResult(name, False, kind) for name in names]
    cases[0] = replace(cases[0], detail=detail)
    return some_failed(cases, (0,), solution)


def some_failed(
    cases: Sequence[CaseResult], shown: tuple[int, ...], solution: str = ""
) -> Feedback:
    """The score is the share of cases that passed; the first one that is shown gives the kind."""
    return Feedback(
        reward=0.0,
        success=False,
        score=sum(case.passed for case in cases) / len(cases),
        cases=tuple(cases),
        kind=cases[shown[0]].kind,
        shown=shown,
        solution=solution,
    )
