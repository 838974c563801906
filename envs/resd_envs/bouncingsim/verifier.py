"""Grade an answer that predicts where bouncing polygons are, and say what went wrong.

The verdict per test is the released one: the mean distance over the balls, rounded to millimetres,
is at most 50 m. What is shown differs from the release: no expected position below level 4, and
besides the distances also what is impossible about the answer, such as a ball outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.parsing import Grade, last_code_block, visible_answer
from resd_bench.sandbox import Sandbox, shared
from resd_bench.types import CaseResult, Dialect, Feedback
from resd_envs.bouncingsim import answers, report
from resd_envs.bouncingsim.marks import Mark, mark
from resd_envs.bouncingsim.physics import simulate
from resd_envs.bouncingsim.scenes import TIMES
from resd_envs.bouncingsim.world import Positions, Scene
from resd_envs.graded_cases import none_passed, some_failed

TAG = "python"
"""Language tag of the fenced block."""
VERIFY_SECONDS = answers.TOTAL_SECONDS + 10.0
"""Wall time of one verification, including starting processes, comparing and writing feedback."""
MAX_SHOWN = 3
"""Wrong tests shown at level 3, the released number; of errors only the first."""


def verify(
    response_text: str,
    scene: Scene,
    expected: Sequence[Sequence[Sequence[float]]] | None = None,
    *,
    dialect: Dialect = "full",
    truncated: bool = False,
    grade: Grade = "release",
    box: Sandbox | None = None,
    solution: Callable[[], str] = str,
) -> Feedback:
    """Run the last fenced block of a response at 15 times and grade each prediction.

    `scene` may also be a record with `scene`, `times` and `expected`. `expected` holds one position
    per ball and time, and is computed if it is missing. `truncated` says that the response hit its
    token limit, which matters only if it has no block. As in the released verifier, a block in the
    reasoning counts; with `grade="answer"`, which is the default of environments, only the visible
    answer does. `box` is the sandbox to use; `solution` makes the program that level 5 shows.
    UsageError for a malformed scene, or `expected` of the wrong length.
    """
    scene, times, right = _posed(scene, expected)
    read = response_text if grade == "release" else visible_answer(response_text)
    program = last_code_block(read, TAG)
    if not program:
        kind = "truncated" if truncated else "missing_answer"
        return _unmarked(times, kind, report.MISSING[dialect][kind], solution())
    outcomes = answers.call(program, times, shared() if box is None else box)
    marks = [mark(outcome, wanted) for outcome, wanted in zip(outcomes, right, strict=True)]
    named = zip(times, marks, strict=True)
    cases = [CaseResult(f"t = {t:.2f}", m.kind == "pass", m.kind) for t, m in named]
    if all(case.passed for case in cases):
        return Feedback(1.0, True, 1.0, tuple(cases))
    shown = _select(marks)
    for index in shown:
        seen = report.Seen(scene, times, marks, index)
        detail = report.detail(seen, dialect, first=index == shown[0])
        cases[index] = replace(cases[index], detail=detail, expected=report.positions(right[index]))
    return some_failed(cases, shown, solution())


def right_positions(scene: Scene, times: Sequence[float] = TIMES) -> Positions:
    """The positions to predict, rounded to centimetres as the released tests are."""
    return [[(round(x, 2), round(y, 2)) for x, y in row] for row in simulate(scene, times)]


def _posed(
    scene: Scene, expected: Sequence[Sequence[Sequence[float]]] | None
) -> tuple[Scene, Sequence[float], Positions]:
    """Scene, times and correct positions of a scene or a record."""
    times: Sequence[float] = TIMES
    if "scene" in scene:
        record: Mapping[str, Any] = scene
        scene, times = record["scene"], record.get("times", TIMES)
        expected = record.get("expected") if expected is None else expected
    times = [round(float(t), 2) for t in times]
    if expected is None:
        return scene, times, right_positions(scene, times)
    if len(expected) != len(times):
        raise UsageError(f"{len(expected)} expected entries for {len(times)} times: give one each")
    return scene, times, [[(float(p[0]), float(p[1])) for p in row] for row in expected]


def _select(marks: Sequence[Mark]) -> tuple[int, ...]:
    """The first error if there is one, else the first wrong predictions."""
    failing = [n for n, m in enumerate(marks) if m.kind != "pass"]
    errors = [n for n in failing if marks[n].kind != "wrong_answer"]
    return tuple(errors[:1] or failing[:MAX_SHOWN])


def _unmarked(times: Sequence[float], kind: str, detail: str, solution: str) -> Feedback:
    """All tests failed for one reason, which the first of them gives."""
    return none_passed((f"t = {t:.2f}" for t in times), kind, detail, solution)
