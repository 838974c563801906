"""What the teacher sees: solutions and the enriched prompt (paper section 3.3).

An attempt about which nothing privileged is known gets no teacher prompt: None, not a masked one.
Left out: feedback from an external teacher, which no run of the paper uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resd_baselines import parse
from resd_baselines.base import Attempt
from resd_baselines.prompts import PACK, PromptPack
from resd_bench.types import Dialect


@dataclass(frozen=True)
class TeacherOptions:
    """Which context the teacher gets. Defaults follow the paper, else its release."""

    use_feedback: bool = True
    """Show environment feedback (ablation)."""
    use_previous_trial: bool = True
    """Show the attempt that is being scored (ablation)."""
    use_solution: bool = True
    """Show a successful attempt where there is one (ablation)."""
    feedback_with_solution: bool = True
    """Keep feedback beside a solution, as in the paper; its release drops it."""
    distil_successes: bool = True
    """Learn from successes too, with their own answer as the solution (release; the paper is
    silent)."""
    strip_thinking: bool = True
    """Show solutions without their thinking; attempts and reflections never show theirs."""


def remember_solutions(buffer: Mapping[str, str], attempts: Sequence[Attempt]) -> dict[str, str]:
    """The solution buffer (by task id) after a step: a group's first success replaces the old."""
    first: dict[int, Attempt] = {}
    for attempt in attempts:
        if attempt.success:
            first.setdefault(attempt.group, attempt)
    return {**buffer, **{attempt.task_id: attempt.response for attempt in first.values()}}


def find_solutions(
    attempts: Sequence[Attempt], buffer: Mapping[str, str], *, distil_successes: bool
) -> list[str | None]:
    """A solution for each attempt: its own, else a peer's first, else the buffer's, else None.

    Without `distil_successes` a success gets none at all.
    """
    peers: dict[int, str] = {}
    for attempt in attempts:
        if attempt.success:
            peers.setdefault(attempt.group, attempt.response)
    found: list[str | None] = []
    for attempt in attempts:
        if attempt.success:
            found.append(attempt.response if distil_successes else None)
        else:
            found.append(peers.get(attempt.group, buffer.get(attempt.task_id)))
    return found


def teacher_prompt(
    attempt: Attempt,
    *,
    playbook: str,
    reflection: str,
    solution: str | None,
    options: TeacherOptions,
    dialect: Dialect,
    pack: PromptPack = PACK,
) -> str | None:
    """RESD's teacher prompt; None without a solution, feedback or a reflection.

    `playbook` ("" for none) is shown but is not reason enough to learn from an attempt.
    """
    feedback = _feedback(attempt, solution, options.use_feedback, options.feedback_with_solution)
    if solution is None and not feedback and not reflection.strip():
        return None
    return pack.teacher(
        dialect,
        prompt=attempt.prompt,
        playbook=playbook,
        previous_trial=attempt.shown if options.use_previous_trial else "",
        feedback=feedback,
        reflection=reflection,
        solution=_shown(solution if options.use_solution else None, options.strip_thinking),
    )


def sdpo_teacher_prompt(
    attempt: Attempt,
    *,
    solution: str | None,
    dialect: Dialect,
    include_previous_attempt: bool = False,
    feedback_with_solution: bool = False,
    strip_thinking: bool = True,
    pack: PromptPack = PACK,
) -> str | None:
    """SDPO's teacher prompt: a solution, or feedback; None without either.

    The attempt itself is shown, where wanted, only beside feedback on it.
    """
    feedback = _feedback(attempt, solution, True, feedback_with_solution)
    if solution is None and not feedback:
        return None
    trial = attempt.shown if strip_thinking else attempt.response
    return pack.sdpo_teacher(
        dialect,
        prompt=attempt.prompt,
        previous_trial=trial if include_previous_attempt and feedback else "",
        solution=_shown(solution, strip_thinking),
        feedback=feedback,
    )


def _feedback(attempt: Attempt, solution: str | None, use: bool, with_solution: bool) -> str:
    wanted = use and (solution is None or with_solution)
    return attempt.feedback if wanted and attempt.feedback.strip() else ""


def _shown(solution: str | None, strip: bool) -> str:
    if solution is None:
        return ""
    return parse.strip_thinking(solution) if strip else solution
