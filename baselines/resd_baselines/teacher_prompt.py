"""What the teacher sees: solutions and the enriched prompt (paper section 3.3).

If nothing privileged is known about an attempt, it gets no teacher prompt, not even a masked one. A
prompt comes with shorter ones, for a model whose context it exceeds: each drops one more whole
section, in the order `SHED` or `SDPO_SHED`, as long as something privileged is left. The task and
the closing instruction are in all of them. Left out: feedback from an external teacher, which no
run of the paper uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from resd_baselines.base import Attempt, shown
from resd_baselines.prompts import PACK, PromptPack
from resd_bench.types import PromptDialect

Section = Literal["previous_trial", "playbook", "reflection", "feedback", "solution"]
SHED: tuple[Section, ...] = ("previous_trial", "playbook", "reflection", "feedback")
"""What is dropped first if RESD's teacher prompt is too long. The attempt is scored right after the
prompt, and the reflection and the feedback are about it; the playbook is about other tasks; the
environment is more reliable than opinions about it; and a solution says the most."""
SDPO_SHED: tuple[Section, ...] = ("previous_trial", "feedback")
"""The same for SDPO's prompt."""
_PRIVILEGED: tuple[Section, ...] = ("reflection", "feedback", "solution")
"""Any of these is sufficient to learn from an attempt; attempt and playbook alone are not."""
ENTRY_TOKENS, FEEDBACK_TOKENS = 64, 1024
"""Assumed tokens of a playbook entry and of an environment's feedback, before a run; both are a few
sentences, and the release cuts feedback at 2,000 characters."""


@dataclass(frozen=True)
class TeacherOptions:
    """The context that the teacher gets. Defaults follow the paper, else its release."""

    use_feedback: bool = True
    """Show the teacher the environment's feedback (ablation)."""
    use_previous_trial: bool = True
    """Show the teacher the attempt that it scores (ablation)."""
    use_solution: bool = True
    """Show the teacher a successful attempt if there is one (ablation). Without it a success is
    learned from only where there is feedback on it."""
    feedback_with_solution: bool = True
    """Keep the feedback when a solution is shown, as in the paper; its release drops it."""
    distil_successes: bool = True
    """Also learn from successes, with their own answer as the solution (as in the release; the
    paper does not say)."""
    strip_thinking: bool = True
    """Remove the thinking from solutions; it is always removed from attempts and reflections."""
    show_unfinished_thinking: bool = False
    """Keep thinking that was cut off when an answer is shown, as the release does."""


def remember_solutions(buffer: Mapping[str, str], attempts: Sequence[Attempt]) -> dict[str, str]:
    """The solution buffer (by task id) after a step, updated with each group's first success."""
    first: dict[int, Attempt] = {}
    for attempt in attempts:
        if attempt.success:
            first.setdefault(attempt.group, attempt)
    return {**buffer, **{attempt.task_id: attempt.response for attempt in first.values()}}


def find_solutions(
    attempts: Sequence[Attempt], buffer: Mapping[str, str], *, distil_successes: bool
) -> list[str | None]:
    """A solution for each attempt: its own, else the first peer's, else the buffer's, else None.

    Without `distil_successes` a success gets none.
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


def teacher_prompts(
    attempt: Attempt,
    *,
    playbook: str,
    reflection: str,
    solution: str | None,
    options: TeacherOptions,
    dialect: PromptDialect,
    pack: PromptPack = PACK,
) -> list[str]:
    """RESD's teacher prompt and shorter ones; none without a solution, feedback or a reflection.

    `playbook` ("" for none) is shown, but is not sufficient reason to learn from an attempt.
    """
    if not options.use_solution:
        solution = None
    feedback = _feedback(attempt, solution, options.use_feedback, options.feedback_with_solution)
    if solution is None and not feedback and not reflection.strip():
        return []
    sections: dict[Section, str] = {
        "playbook": playbook,
        "previous_trial": attempt.shown if options.use_previous_trial else "",
        "feedback": feedback,
        "reflection": reflection,
        "solution": _shown(solution, options),
    }
    return [
        pack.teacher(dialect, prompt=attempt.prompt, **kept) for kept in shorter(sections, SHED)
    ]


def sdpo_teacher_prompts(
    attempt: Attempt,
    *,
    solution: str | None,
    dialect: PromptDialect,
    include_previous_attempt: bool = False,
    feedback_with_solution: bool = False,
    strip_thinking: bool = True,
    show_unfinished_thinking: bool = False,
    pack: PromptPack = PACK,
) -> list[str]:
    """SDPO's teacher prompt and shorter ones: a solution, or feedback; none without either.

    The attempt itself is shown, if asked for, only together with feedback on it.
    """
    feedback = _feedback(attempt, solution, True, feedback_with_solution)
    if solution is None and not feedback:
        return []
    trial = attempt.shown if strip_thinking else attempt.response
    options = TeacherOptions(
        strip_thinking=strip_thinking, show_unfinished_thinking=show_unfinished_thinking
    )
    sections: dict[Section, str] = {
        "previous_trial": trial if include_previous_attempt and feedback else "",
        "solution": _shown(solution, options),
        "feedback": feedback,
    }
    return [
        pack.sdpo_teacher(dialect, prompt=attempt.prompt, **kept)
        for kept in shorter(sections, SDPO_SHED)
    ]


def shorter(sections: Mapping[Section, str], order: Sequence[Section]) -> list[dict[Section, str]]:
    """`sections`, then repeatedly with the next of `order` blank, while anything useful is left."""
    made = [dict(sections)]
    for name in order:
        left = made[-1] | {name: ""}
        if not any(left.get(kept, "").strip() for kept in _PRIVILEGED):
            break
        if left != made[-1]:
            made.append(left)
    return made


def _feedback(attempt: Attempt, solution: str | None, use: bool, with_solution: bool) -> str:
    wanted = use and (solution is None or with_solution)
    return attempt.feedback if wanted and attempt.feedback.strip() else ""


def _shown(solution: str | None, options: TeacherOptions) -> str:
    if solution is None or not options.strip_thinking:
        return solution or ""
    return shown(solution, options.show_unfinished_thinking)
