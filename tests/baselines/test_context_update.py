"""The context update and the teacher prompt, step by step against the reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resd_baselines.base import Attempt
from resd_baselines.context_update import (
    ContextOptions,
    PromptRole,
    PromptWriter,
    new_lessons,
    update_context,
)
from resd_baselines.losses import success_rate_weights
from resd_baselines.playbook import Playbook
from resd_baselines.prompts import PromptPack
from resd_baselines.teacher_prompt import (
    TeacherOptions,
    find_solutions,
    remember_solutions,
    sdpo_teacher_prompts,
    teacher_prompts,
)
from resd_bench.parsing import without_reasoning
from resd_bench.types import PromptDialect

ROLES: dict[PromptRole, str] = {"reflect": "REFLECT", "tag": "TAG", "curate": "CURATE"}


def first(prompts: Callable[..., list[str]]) -> Callable[..., str | None]:
    """The longest of the teacher prompts that a function gives; None where it gives none."""
    return lambda *args, **options: next(iter(prompts(*args, **options)), None)


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


class TemplatePack(PromptPack):
    """Prompts from the templates of a reference case."""

    def __init__(self, templates: dict[str, str]) -> None:
        self.templates = templates

    def _fill(self, name: str, **values: str) -> str:
        return self.templates[name].format(teacher_feedback="", **values)

    def reflect(self, dialect: PromptDialect, **values: str) -> str:
        return self._fill("REFLECTOR_PROMPT", **values)

    def tag(self, dialect: PromptDialect, **values: str) -> str:
        return self._fill("SUCCESS_REFLECTOR_PROMPT", **values)

    def curate(
        self,
        dialect: PromptDialect,
        *,
        reflection: str,
        playbook: str,
        prompt: str = "",
        stats: str = "",
    ) -> str:
        return self._fill(
            "CURATOR_PROMPT",
            prompt=prompt,
            recent_reflection=reflection,
            playbook_stats=stats,
            current_playbook=playbook,
        )

    def teacher(
        self, dialect: PromptDialect, *, feedback: str, solution: str, **values: str
    ) -> str:
        return self._fill(
            "teacher",
            feedback=self._part("feedback_template", "feedback_raw", feedback),
            solution=self._part("solution_template", "successful_previous_attempt", solution),
            **values,
        )

    def sdpo_teacher(
        self,
        dialect: PromptDialect,
        *,
        prompt: str,
        previous_trial: str,
        solution: str,
        feedback: str,
    ) -> str:
        before = self._part("previous_attempt_template", "previous_attempt_raw", previous_trial)
        return self._fill(
            "reprompt_template",
            prompt=prompt,
            previous_attempt=before,
            solution=self._part("solution_template", "successful_previous_attempt", solution),
            feedback=self._part("feedback_template", "feedback_raw", feedback),
        )

    def _part(self, name: str, field: str, value: str) -> str:
        return self.templates[name].format(**{field: value}) if value else ""


@pytest.mark.parametrize("seed", [0, 1])
def test_whole_context_updates_equal_the_reference(fixtures: Path, seed: int) -> None:
    paths = sorted((fixtures / "playbook_e2e").glob("*.json"))
    assert paths
    for path in paths:
        case = load(path)
        config = case["config"]
        options = ContextOptions(
            tag_successes=config["tag_correct_samples"],
            concise_method=config["concise_method"],
            concise_frequency=config["concise_frequency"],
            max_entries=config["max_bullets"],
            concise_after_curation=config["concise_after_curation"],
            drop_duplicate_lessons=False,
        )
        writer = PromptWriter("full", TemplatePack(case["prompt_templates"]))
        playbook = Playbook()
        rng = np.random.default_rng(seed)
        for number, step in enumerate(case["steps"]):
            playbook = check_step(playbook, step, writer, options, rng, f"{path.name} {number}")


def check_step(
    playbook: Playbook,
    step: Any,
    writer: PromptWriter,
    options: ContextOptions,
    rng: np.random.Generator,
    where: str,
) -> Playbook:
    calls: list[dict[str, Any]] = []

    def generate(role: PromptRole, prompts: Sequence[str]) -> list[str]:
        script = step["script"][ROLES[role]]
        answers = [script[prompt.split("\n")[1].removeprefix("P=")] for prompt in prompts]
        calls.append({"role": ROLES[role], "prompts": list(prompts), "outputs": answers})
        return answers

    attempts = [
        Attempt(task, i, prompt, response, feedback or "", acc >= 1.0)
        for i, (task, prompt, response, feedback, acc) in enumerate(
            zip(
                step["example_ids"],
                step["prompts"],
                step["responses"],
                step["feedback"],
                step["acc"],
                strict=True,
            )
        )
    ]
    update = update_context(
        playbook, attempts, writer=writer, generate=generate, options=options, rng=rng
    )
    after, expected = update.playbook, step["expected"]
    wanted = [{k: c[k] for k in ("role", "prompts", "outputs")} for c in expected["calls"]]
    assert calls == wanted, where
    assert after.render() == expected["playbook"], where
    assert dict(after.used) == expected["bullet_last_used"], where
    assert after.step == expected["update_count"], where
    assert after.next_id == expected["next_global_id"], where
    assert [r.raw for r in update.reflections] == expected["reflection_texts"], where
    return after


def test_teacher_prompts_masks_weights_and_buffers_equal_the_reference(fixtures: Path) -> None:
    paths = sorted((fixtures / "teacher_prompt").glob("*.json"))
    assert paths
    for path in paths:
        check_teacher_case(load(path), path.name)


def check_teacher_case(case: Any, where: str) -> None:
    sd, cu, expected = case["self_distillation"], case["context_updater"], case["expected"]
    threshold = sd["success_reward_threshold"]
    groups = list(dict.fromkeys(row["uid"] for row in case["rows"]))
    attempts = [
        Attempt(
            row["example_id"],
            groups.index(row["uid"]),
            f"question {row['example_id']}",
            row["response"],
            (row["feedback"] or "") if sd["include_environment_feedback"] else "",
            row["reward"] >= threshold,
        )
        for row in case["rows"]
    ]
    buffer = dict(case["solution_buffer_before"])
    uses_buffer = cu["enabled"] and cu["use_solution_buffer"]
    if uses_buffer:
        buffer = remember_solutions(buffer, attempts)
        assert buffer == expected["solution_buffer_after"], where
    solutions = find_solutions(
        attempts,
        buffer if uses_buffer else {},
        distil_successes=not sd["dont_reprompt_on_self_success"],
    )
    prompts = [
        make_prompt(case, attempt, row["reflection"], solution)
        for attempt, row, solution in zip(attempts, case["rows"], solutions, strict=True)
    ]
    mask = [float(prompt is not None) for prompt in prompts]
    assert mask == expected["self_distillation_mask"], where
    for prompt, messages in zip(prompts, expected["messages"], strict=True):
        assert prompt is None or prompt == messages[-1]["content"], where
    if expected["sample_weights"] is not None:
        weights = success_rate_weights(
            torch.tensor([attempt.success for attempt in attempts]),
            alpha=sd["success_rate_alpha"],
            beta=sd["success_rate_beta"],
        )
        np.testing.assert_allclose(weights, expected["sample_weights"], rtol=1e-6)


def make_prompt(case: Any, attempt: Attempt, reflection: str, solution: str | None) -> str | None:
    sd, cu = case["self_distillation"], case["context_updater"]
    pack = TemplatePack({**sd_templates(sd), "teacher": case["cu_teacher_template"]})
    with_solution = not sd["environment_feedback_only_without_solution"]
    strip = sd["remove_thinking_from_demonstration"]
    if not cu["enabled"]:
        return first(sdpo_teacher_prompts)(
            attempt,
            solution=solution,
            dialect="full",
            include_previous_attempt=sd["include_previous_attempt"],
            feedback_with_solution=with_solution,
            strip_thinking=strip,
            pack=pack,
        )
    playbook = Playbook.parse(case["playbook"])
    shows_playbook = cu["use_playbook_in_teacher_prompt"] and not playbook.headers_only
    shows_reflection = cu["use_reflection_in_teacher_prompt"]
    return first(teacher_prompts)(
        attempt,
        playbook=playbook.render() if shows_playbook else "",
        reflection=without_reasoning(reflection) if shows_reflection else "",
        solution=solution,
        options=TeacherOptions(
            use_feedback=cu["use_feedback_in_teacher_prompt"],
            use_previous_trial=cu["use_previous_trial_in_teacher_prompt"],
            use_solution=cu["use_solution_in_teacher_prompt"],
            feedback_with_solution=with_solution,
            strip_thinking=strip,
        ),
        dialect="full",
        pack=pack,
    )


def sd_templates(sd: Any) -> dict[str, str]:
    return {name: text for name, text in sd.items() if name.endswith("_template")}


def failed(task: str, group: int = 0) -> Attempt:
    return Attempt(task, group, f"Q {task}", "bad", "wrong", False)


def run_compact(attempts: Sequence[Attempt], answers: dict[PromptRole, str], **options: Any) -> Any:
    asked: list[tuple[PromptRole, int]] = []

    def generate(role: PromptRole, prompts: Sequence[str]) -> list[str]:
        asked.append((role, len(prompts)))
        return [answers[role]] * len(prompts)

    update = update_context(
        Playbook(),
        attempts,
        writer=PromptWriter("compact"),
        generate=generate,
        options=ContextOptions(**options),
        rng=np.random.default_rng(0),
    )
    return update, asked


ANSWERS: dict[PromptRole, str] = {
    "reflect": "cause: x\nlesson: count from 0",
    "tag": "helpful: none",
    "curate": "add: count from 0",
}


def test_every_failure_is_reflected_on_and_one_per_task_is_curated() -> None:
    attempts = [failed("a"), failed("a"), failed("b", 1), replace(failed("c", 2), success=True)]
    _, asked = run_compact(attempts, ANSWERS)
    assert asked == [("reflect", 3), ("tag", 1), ("curate", 2)]


def test_repeated_lessons_are_added_once_unless_asked_for() -> None:
    attempts = [failed("a"), failed("b", 1)]
    update, _ = run_compact(attempts, ANSWERS)
    assert update.playbook.render_compact() == "1 count from 0"
    update, _ = run_compact(attempts, ANSWERS, drop_duplicate_lessons=False)
    assert len(update.playbook.entries) == 2


def test_a_lesson_differs_from_another_by_more_than_case_and_blanks() -> None:
    playbook = Playbook().add("others", "Count  from 0")
    additions = [("others", " count from 0"), ("others", " "), ("others", "b"), ("others", "B")]
    assert new_lessons(playbook, additions) == [("others", "b")]


def test_without_a_playbook_nothing_is_tagged_or_curated() -> None:
    attempts = [failed("a"), replace(failed("c", 2), success=True)]
    update, asked = run_compact(attempts, ANSWERS, use_playbook=False)
    assert asked == [("reflect", 1)]
    assert not update.playbook.entries
    assert [bool(r.text) for r in update.reflections] == [True, False]


def test_unreadable_answers_leave_the_playbook_alone_and_are_counted() -> None:
    answers: dict[PromptRole, str] = {"reflect": "?", "tag": "?", "curate": "?"}
    update, _ = run_compact([failed("a")], answers)
    assert not update.playbook.entries
    assert update.reflections[0].text == "?"
    assert not update.reflections[0].parsed
    assert update.curations[0].additions is None


def test_privileged_context_is_what_makes_a_teacher_prompt() -> None:
    silent = replace(failed("a"), feedback=" \n")
    bare: dict[str, Any] = {"dialect": "compact", "options": TeacherOptions()}
    assert (
        first(teacher_prompts)(silent, playbook="1 x", reflection="", solution=None, **bare) is None
    )
    for given in ({"reflection": "r"}, {"solution": "s"}):
        known = {"reflection": "", "solution": None} | given
        assert first(teacher_prompts)(silent, playbook="", **known, **bare)
    assert first(teacher_prompts)(failed("a"), playbook="", reflection="", solution=None, **bare)
    assert first(sdpo_teacher_prompts)(silent, solution=None, dialect="full") is None


def sections_shown(prompts: Sequence[str], marks: str) -> list[str]:
    return ["".join(mark for mark in marks if f"<{mark}>" in prompt) for prompt in prompts]


MARKED: dict[str, Any] = {"playbook": "<P>", "reflection": "<R>", "options": TeacherOptions()}


@pytest.mark.parametrize("dialect", ["full", "compact"])
def test_a_long_teacher_prompt_sheds_trial_playbook_reflection_and_feedback(
    dialect: PromptDialect,
) -> None:
    attempt = replace(failed("a"), response="x</think><T>", feedback="<F>", prompt="<Q>")
    made = teacher_prompts(attempt, solution="<S>", dialect=dialect, **MARKED)
    assert sections_shown(made, "QTPRFS") == ["QTPRFS", "QPRFS", "QRFS", "QFS", "QS"]
    made = teacher_prompts(attempt, solution=None, dialect=dialect, **MARKED)
    assert sections_shown(made, "QTPRFS") == ["QTPRF", "QPRF", "QRF", "QF"]
    quiet = replace(attempt, feedback="")
    made = teacher_prompts(quiet, solution=None, dialect=dialect, **MARKED)
    assert sections_shown(made, "QTPRFS") == ["QTPR", "QPR", "QR"]
    closing = made[0].splitlines()[-1]
    assert all(prompt.splitlines()[-1] == closing for prompt in made)
    assert "again" in closing or "from the beginning" in closing


@pytest.mark.parametrize("dialect", ["full", "compact"])
def test_a_long_sdpo_prompt_sheds_trial_then_feedback(dialect: PromptDialect) -> None:
    attempt = replace(failed("a"), response="<T>", feedback="<F>", prompt="<Q>")
    options: dict[str, Any] = {"include_previous_attempt": True, "feedback_with_solution": True}
    made = sdpo_teacher_prompts(attempt, solution="<S>", dialect=dialect, **options)
    assert sections_shown(made, "QTFS") == ["QTFS", "QFS", "QS"]
    made = sdpo_teacher_prompts(attempt, solution=None, dialect=dialect, **options)
    assert sections_shown(made, "QTFS") == ["QTF", "QF"]


def test_nothing_is_shed_twice_or_where_there_is_nothing_to_shed() -> None:
    attempt = replace(failed("a"), response="", feedback="<F>", prompt="<Q>")
    options = {"playbook": "", "reflection": "", "options": TeacherOptions()}
    assert len(teacher_prompts(attempt, solution="<S>", dialect="full", **options)) == 2  # type: ignore[arg-type]
    assert len(teacher_prompts(attempt, solution=None, dialect="full", **options)) == 1  # type: ignore[arg-type]
