"""Dials: what each one changes in the documents, by reading the documents back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from resd_bench.errors import UsageError
from resd_bench.nano.check_reflections import JudgedReflection, TaskKnowledge, check_run, table
from resd_bench.nano.documents import Author, Dials, Document
from resd_bench.nano.lessons import NO_CAUSE, lessons, shared_mistakes
from resd_bench.nano.pretrain import PretrainConfig, pretrain
from resd_bench.plugins import find, make_env
from resd_bench.seeds import stream
from resd_envs.finer.curriculum import CURRICULUM as FINER
from tests.places import ROOT

PROMPTS = find("resd_bench.prompts", "prompt pack", "resd")
REFLECTIVE = Dials(
    keep="prior", keep_reflected=1.0, causes=12, reflection_accuracy=1.0, reflection=1.0, raw=0.0
)
CURRICULA = (
    *("manufactoria-has", "python-functions-basic", "bouncingsim-basic", "finer", "textworld-coin"),
)


def documents(dials: Dials, count: int, seed: int = 0) -> Iterator[Document]:
    author, rng = Author(FINER, PROMPTS, dials), stream(seed, "test")
    return (author.document(rng) for _ in range(count))


def section(document: Document, name: str) -> str:
    """What a compact prompt shows in a section; "" where it has none."""
    _, _, rest = document.prompt.partition(f"\n<{name}>\n")
    lines = []
    for line in rest.splitlines():
        if line.startswith("again: ") or (line.startswith("<") and line[1:-1].isalpha()):
            break
        lines.append(line)
    return "\n".join(lines)


def is_answer(document: Document) -> bool:
    return not document.prompt.endswith(("<reflect>", "<lesson>", "<tag>"))


def test_the_documents_of_the_packaged_model_are_what_they_were() -> None:
    docs = replace(PretrainConfig(), block=30).documents(0).write()
    digest = hashlib.sha256(repr([d.turns for d in docs]).encode()).hexdigest()
    assert digest == "7a1defcaa2976b676f1509f287673eb7df06025153b782132b5867d070f5bcf1"


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("keep=2", "keep"),
        ("keep=always", "'prior'"),
        ("causes=0", "at least 1"),
        ("raw=1.5", "from 0 to 1"),
        ("odds=0", "above 0"),
        ("rwa=0.1", "reflection_accuracy"),
        ("raw", "NAME=VALUE"),
    ],
)
def test_a_bad_dial_is_named_with_what_was_expected(pair: str, words: str) -> None:
    with pytest.raises(UsageError, match="--dial") as error:
        Dials.parse([pair])
    assert words in str(error.value)


def test_dials_are_read_as_people_write_them() -> None:
    assert Dials.parse(["keep=prior", "causes=3", "shown_accuracy=none"]) == Dials(
        keep="prior", causes=3
    )
    with pytest.raises(UsageError, match="twice"):
        Dials.parse(["raw=0.1", "raw=0.2"])


@pytest.mark.parametrize(("keep", "tells"), [("prior", False), (0.95, True)])
def test_an_attempt_tells_nothing_where_keep_is_the_prior(keep: str | float, tells: bool) -> None:
    """Read off the form of answers after an attempt alone, or with feedback on it."""
    dials = Dials.parse([f"keep={keep}", "raw=0", "reflection_accuracy=1"])
    after: dict[bool, list[bool]] = {True: [], False: []}
    for document in documents(dials, 2_500):
        attempt = section(document, "attempt")
        alone = not any(f"<{name}>" in document.prompt for name in ("playbook", "reflection"))
        if is_answer(document) and attempt and alone and "<solution>" not in document.prompt:
            after["us:" in attempt].append("us:" in document.reply)
    wrong, right = (sum(after[was]) / len(after[was]) for was in (True, False))
    assert min(map(len, after.values())) > 30
    assert (wrong - right > 0.25) == tells
    assert tells or abs(wrong - right) < 0.25


def test_a_reflection_names_every_mistake_that_the_attempt_shows() -> None:
    """The mistakes are found again by writing all answers that the curriculum can write."""
    seen = 0
    for document in documents(REFLECTIVE, 30):
        if not document.prompt.endswith("<reflect>"):
            continue
        prompt = document.prompt.splitlines()[0]
        exercise = next(e for e in _exercises() if e.prompt == prompt)
        made = TaskKnowledge(FINER, exercise).mistakes_of(section(document, "attempt"))
        named = [
            line.removeprefix("cause: ")
            for line in document.reply.splitlines()
            if line.startswith("cause: ")
        ]
        assert made is not None
        assert set(named) == {mistake.symptom for mistake in made}
        seen += 1
    assert seen > 2


def _exercises() -> list:  # type: ignore[type-arg]
    """The exercises of `documents(REFLECTIVE, 30)`, in order, curations' second ones included."""
    found = []

    class Listening(type(FINER)):  # type: ignore[misc]
        def exercise(self, rng):  # type: ignore[no-untyped-def]
            found.append(super().exercise(rng))
            return found[-1]

    author, rng = Author(Listening(), PROMPTS, REFLECTIVE), stream(0, "test")
    for _ in range(30):
        author.document(rng)
    return found


def test_an_answer_follows_the_whole_reflection_and_keeps_the_rest() -> None:
    right = total = 0
    for document in documents(REFLECTIVE, 600):
        known = "<solution>" in document.prompt
        if is_answer(document) and "<reflection>" in document.prompt and not known:
            tags = document.reply.removeprefix("<answer>").removesuffix("</answer>").split(",")
            total += 1
            right += len(tags) == 4 and "us:" not in document.reply
    assert total > 50
    assert right == total


def test_specific_makes_only_mistakes_of_one_instance_more_likely() -> None:
    exercise = FINER.exercise(stream(1, "exercise"))
    plain = Author(FINER, PROMPTS, Dials()).priors(exercise)
    rarer = Author(FINER, PROMPTS, Dials(specific=0.25)).priors(exercise)
    specific = {"omit", "swap", "slip"}
    assert {key for key in plain if rarer[key] != plain[key]} == specific
    for key in specific:
        assert rarer[key] / (1 - rarer[key]) == pytest.approx(0.25 * plain[key] / (1 - plain[key]))


def test_wrong_lessons_of_a_playbook_are_followed() -> None:
    dials = Dials(wrong_lessons=1.0, playbook=1.0, keep="prior", raw=0.0)
    wrong = total = 0
    for document in documents(dials, 800):
        told = section(document, "playbook")
        if is_answer(document) and "<solution>" not in document.prompt and "us" in told.split():
            total += 1
            wrong += "us:" in document.reply
    assert total > 25
    assert wrong == total


@pytest.mark.parametrize("env", CURRICULA)
def test_every_shared_lesson_has_an_opposite_that_no_lesson_says(env: str) -> None:
    shared = shared_mistakes(find("resd_bench.curricula", "curriculum", env))
    right = {text for mistake in shared for text in mistake.lessons}
    wrong = [text for mistake in shared for text in mistake.wrong]
    assert len(shared) >= 6
    assert all(mistake.wrong for mistake in shared)
    assert len(set(wrong)) == len(wrong)
    assert not right & set(wrong)


@pytest.mark.parametrize("env", ["finer", "manufactoria-has"])
@pytest.mark.parametrize("kind", ["right", "wrong"])
def test_the_files_of_lessons_are_what_the_curriculum_says(env: str, kind: str) -> None:
    found = lessons(find("resd_bench.curricula", "curriculum", env), wrong=kind == "wrong")
    lines = (ROOT / f"runs/nano/lessons/{env}-{kind}.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [asdict(row) for row in found]


def test_a_pretraining_goes_on_with_the_same_settings_only(tmp_path: Path) -> None:
    config = PretrainConfig(dials=Dials(keep="prior"))
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    with pytest.raises(UsageError, match=r"other settings \(seed, dials\)"):
        pretrain(replace(config, seed=1, dials=Dials(keep=0.8)), tmp_path)


@pytest.fixture(scope="module")
def knowledge() -> TaskKnowledge:
    task = make_env("finer", dialect="compact").tasks("train")[0]
    return TaskKnowledge(FINER, FINER.of_task(task))


def test_a_reflection_is_judged_by_the_attempt_and_by_the_task(knowledge: TaskKnowledge) -> None:
    comma, prefix = (knowledge.mistakes[key][0] for key in ("comma", "prefix"))
    attempt = FINER.answer(knowledge.exercise, {"comma": comma})

    def said(cause: str, lesson: str, attempt: str = attempt) -> JudgedReflection:
        return knowledge.judge(f"cause: {cause}\nlesson: {lesson}", attempt, exchanged=False)

    assert said(comma.symptom, comma.lessons[1]) == JudgedReflection(False, True, True, False)
    assert said(prefix.symptom, prefix.lessons[0]) == JudgedReflection(False, False, True, False)
    assert said(NO_CAUSE, comma.wrong[0]) == JudgedReflection(False, False, False, True)
    assert said("the room is wet", "bring a towel") == JudgedReflection(False, False, False, False)
    assert said(comma.symptom, comma.lessons[0], "gibberish").cause is None


def test_the_reflections_of_a_run_are_found_with_their_attempts(
    knowledge: TaskKnowledge, tmp_path: Path
) -> None:
    task = make_env("finer", dialect="compact").tasks("train")[0]
    made = {key: knowledge.mistakes[key][0] for key in ("comma", "prefix")}
    (tmp_path / "context").mkdir()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"env": "finer", "seed": 0}))
    told = [
        {"task": task.id, "text": f"cause: x\nlesson: {made['comma'].lessons[0]}"},
        {"task": task.id, "text": f"cause: x\nlesson: {made['prefix'].wrong[0]}", "own": "y"},
    ]
    (tmp_path / "context/update-0001.json").write_text(json.dumps({"reflections": told}))
    rows = [
        {"update": 1, "task": task.id, "success": wins, "turns": [{"response": text}]}
        for wins, text in (
            (True, FINER.answer(knowledge.exercise, {})),
            (False, FINER.answer(knowledge.exercise, {"comma": made["comma"]})),
            (False, FINER.answer(knowledge.exercise, {"prefix": made["prefix"]})),
        )
    ]
    (tmp_path / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = check_run(tmp_path)
    assert found == [
        JudgedReflection(False, True, True, False),
        JudgedReflection(True, False, False, True),
    ]
    lines = table({"a run": found}).splitlines()
    assert lines[2] == "| a run | the model's own | 1 | 100% | 100% | 0% | 100% |"
    assert lines[3] == "| a run | exchanged | 1 | 0% | 0% | 100% | 100% |"
