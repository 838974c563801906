"""The lesson audit: planted answers and wrong solutions are found, ordinary lessons are not."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from resd_bench import plugins
from resd_bench.check import copies, lessons
from resd_bench.check.copies import Owner, Quotations, Secrets, Written, grams, words_of
from resd_bench.check.lessons import audit, copied
from resd_bench.cli import main
from resd_bench.config import RunConfig, resolve
from resd_bench.env import TextEnv
from resd_bench.jobs import setup
from resd_bench.jobs.run import run
from resd_bench.plugins import make_env
from resd_bench.records.run_files import RunFiles
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import Task
from tests.vouched import vouch

NANO: dict[str, Any] = {
    "method": "resd",
    "env": "manufactoria-has",
    "model": "nano-common",
    "budget": "2upd",
}
NANO |= {"batch_size": "16", "eval_samples": "1", "eval_every": "0", "eval_tasks": "1"}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the method that writes texts."""
    return run(resolve({**NANO, "out": str(tmp_path_factory.mktemp("runs"))})).folder


def test_a_fresh_run_copies_nothing_and_its_solutions_are_right(fresh: Path) -> None:
    found = audit(fresh)
    assert found.findings == ()
    assert found.texts > 10
    assert found.secrets > 600
    assert found.solutions > 0


def edited(fresh: Path, to: Path, change: Callable[[Path], None]) -> Path:
    shutil.copytree(fresh, to)
    change(to)
    vouch(to)
    return to


def test_a_lesson_with_a_held_out_answer_is_found(fresh: Path, tmp_path: Path) -> None:
    env = make_env("manufactoria-has", dialect="compact")
    task = env.tasks("test")[0]
    gold = env.oracle(task)

    def plant(folder: Path) -> None:
        path = folder / "context" / "update-0002.json"
        context: dict[str, Any] = json.loads(path.read_text())
        context["playbook"][0]["content"] = f"for such tapes write {gold} and no more"
        context["playbook"][1]["content"] = "read the tape before you write to it, then go to end"
        path.write_text(json.dumps(context))

    [found] = audit(edited(fresh, tmp_path / "run", plant)).findings
    assert (found.kind, found.split, found.share) == ("gold answer", "test", 1.0)
    assert env.oracle(env.find(found.task, "test")) == gold
    assert found.where.startswith("playbook entry")


def test_a_wrong_solution_is_found_and_the_command_fails(
    fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def plant(folder: Path) -> None:
        path = folder / "episodes.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        [lost, *_] = [row for row in rows if not row["success"]]
        lost["success"] = True
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    folder = edited(fresh, tmp_path / "run", plant)
    assert [found.kind for found in audit(folder).findings] == ["wrong solution"]
    assert main(["results", "audit", str(folder)]) == 1
    assert "the verifier does not accept it" in capsys.readouterr().out
    assert main(["results", "audit", str(fresh)]) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reviews", [{"task": "t", "text": "", "diagnoses": [{"turn": 1, "text": "GOLD"}]}]),
        ("texts", [{"text": "## OTHERS\n[misc-00001] helpful=0 harmful=0 :: GOLD", "score": 1.0}]),
        ("memory", {"of mine": ["GOLD"]}),
        ("note", "GOLD"),
    ],
)
def test_an_answer_is_found_wherever_a_method_writes_it(
    key: str, value: Any, fresh: Path, tmp_path: Path
) -> None:
    env = make_env("manufactoria-has", dialect="compact")
    gold = env.oracle(env.tasks("test")[0])

    def plant(folder: Path) -> None:
        path = folder / "context" / "update-0002.json"
        written = json.dumps(value).replace("GOLD", json.dumps(gold)[1:-1])
        path.write_text(json.dumps({**json.loads(path.read_text()), key: json.loads(written)}))

    [found] = audit(edited(fresh, tmp_path / "run", plant)).findings
    assert (found.kind, found.split, found.share) == ("gold answer", "test", 1.0)


def test_every_success_is_graded_again_and_not_the_latest_of_a_task_alone(
    fresh: Path, tmp_path: Path
) -> None:
    def plant(folder: Path) -> None:
        path = folder / "episodes.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        [won, *_] = [row for row in rows if row["success"]]
        wrong = json.loads(json.dumps(won))
        wrong["turns"][0]["response"] = "a wrong program"
        path.write_text("".join(json.dumps(row) + "\n" for row in (wrong, *rows)))

    [found] = audit(edited(fresh, tmp_path / "run", plant)).findings
    assert (found.kind, found.text) == ("wrong solution", "a wrong program")


def test_what_was_not_looked_at_is_said(fresh: Path) -> None:
    """Against a count by hand."""
    env = make_env("manufactoria-has", dialect="compact")
    tasks = [env.tasks("train"), env.tasks("test")]
    seen = [task for own in tasks for task in own[:: -(-len(own) // lessons.MOST_TASKS)]]
    told = audit(fresh).left_out
    assert f"{sum(map(len, tasks)) - len(seen)} tasks left out, evenly spread" in told
    own = {task.id: grams(words_of(task.prompt)) for task in seen}
    counts = Counter(gram for few in own.values() for gram in few)
    most = copies._COMMON * len(seen)
    mute = sum(all(counts[gram] > most for gram in few) for few in own.values())
    assert 0 < mute < len(seen)
    why = "not searched for: too short, or too much like others"
    assert f"{mute} of {len(seen)} prompts {why}" in told


def with_settings(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))

    return change


@pytest.mark.parametrize(
    ("settings", "env", "split"),
    [
        ({"eval_validation": 8}, "manufactoria-has", "validation"),
        ({"eval_also": "python-functions-basic"}, "python-functions-basic", "test"),
    ],
)
def test_answers_of_every_panel_are_searched_for(
    settings: dict[str, Any], env: str, split: Any, fresh: Path, tmp_path: Path
) -> None:
    gold = (there := make_env(env, dialect="compact")).oracle(there.tasks(split)[3])

    def plant(folder: Path) -> None:
        path = folder / "context" / "update-0002.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "note": gold}))
        with_settings(**settings)(folder)

    [found] = audit(edited(fresh, tmp_path / "run", plant)).findings
    assert (found.kind, found.split, found.share) == ("gold answer", split, 1.0)
    assert found.env == ("" if env == "manufactoria-has" else env)
    assert there.oracle(there.find(found.task, split)) == gold


def test_a_panel_that_cannot_be_searched_for_is_named(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = plugins.make_env

    def make(name: str, **given: Any) -> TextEnv:
        if name == "finer":
            raise ImportError("no such package")
        return whole(name, **given)

    monkeypatch.setattr(plugins, "make_env", make)
    folder = edited(fresh, tmp_path / "run", with_settings(eval_also="finer"))
    assert "tasks of finer not searched for: ImportError: no such package" in audit(folder).left_out


# A solution that the verifier rejects.


class Savable(ScriptedPolicy):
    def save(self, folder: str | Path) -> None:
        (Path(folder) / "weights").write_text("")


def test_references_that_a_teacher_was_shown_are_graded(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(config: RunConfig) -> ScriptedPolicy:
        return Savable(lambda prompt, seed, j: f"no{seed % 5}{j}")

    def half_wrong(self: TextEnv, task: Task) -> str:
        return "nonsense" if int(task.id[-1]) % 2 else self.oracle(task)

    monkeypatch.setattr(setup, "build_policy", build)
    asked = {"env": "toy-say", "model": "scripted", "budget": "10ep", "batch_size": 5}
    asked |= {"dialect": "compact", "eval_samples": 1, "out": str(tmp_path)}
    opsd, sdpo = (run(resolve({**asked, "method": m})).folder for m in ("opsd", "sdpo"))
    assert audit(opsd).findings == ()
    assert audit(opsd).solutions == audit(sdpo).solutions + 5
    monkeypatch.setattr(toy.SayEnv, "reference", half_wrong)
    found = audit(opsd).findings
    trained = {json.loads(line)["task"] for line in (opsd / "episodes.jsonl").open()}
    assert {one.task for one in found} == {task for task in trained if int(task[-1]) % 2}
    assert {(one.kind, one.text) for one in found} == {("wrong solution", "nonsense")}
    assert all(one.where == f"reference of {one.task}" for one in found)
    assert audit(sdpo).findings == ()


def test_solutions_without_a_verdict_are_counted_and_the_others_graded(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(make_env("manufactoria-has"))
    verify, calls = kind.verify, Counter[str]()

    def broken(self: TextEnv, task: Task, action: str) -> Any:
        calls["all"] += 1
        if calls["all"] % 2:
            raise RuntimeError("the verifier broke")
        return verify(self, task, action)

    whole = audit(fresh).solutions
    monkeypatch.setattr(kind, "verify", broken)
    told = audit(fresh)
    assert told.solutions == whole // 2
    assert f"{whole - whole // 2} solutions have no verdict: the verifier failed" in told.left_out


# What is a copy.

ANSWERS = {
    "a": "if red go left then if blue go right then stop at the red end and write one",
    "b": "if red go left then wait for two blue in a row and write nothing before the end",
    "c": "five",
}


def secrets_in(answers: Mapping[str, str], split: Any = "test") -> Secrets:
    return Secrets.of({Owner("gold answer", split, task): text for task, text in answers.items()})


def found_in(text: str, secrets: Secrets) -> list[str]:
    several = list(copies.copies([Written("lesson", text)], [secrets]))
    return [one.task for one in copied(several, Quotations(several, 0))]


def found(text: str) -> list[str]:
    return found_in(text, secrets_in(ANSWERS))


def test_half_of_an_answer_is_copied_and_a_quarter_is_not() -> None:
    words = ANSWERS["a"].split()
    assert found(" ".join(words)) == ["a"]
    assert found("Remember: " + " ".join(words[:15]).upper() + "!") == ["a"]
    assert found(" ".join(words[:10])) == []
    assert found("five") == []
    assert found("when red comes first go left and stop at the end") == []


def test_answers_that_stand_anywhere_by_chance_have_no_ngrams() -> None:
    short = ("five", "one two three", "a b c d", "<answer>42</answer>", "```python\nx = 1\n```")
    assert not any(grams(words_of(text)) for text in short)
    assert len(grams(["alpha", "beta", "gamma", "delta"])) == 1
    assert len(grams(words := words_of(ANSWERS["a"]))) == len(words) - 7


def test_what_many_tasks_share_tells_none_of_them() -> None:
    rows = {f"t{i}": f"begin here or go on to the next new state number {i}" for i in range(20)}
    secrets = secrets_in(rows)
    assert found_in("begin here or go on to the next new state", secrets) == []
    assert found_in(rows["t7"], secrets) == ["t7"]


def parts_of(env: str, gold: str) -> list[str]:
    return re.split(r"[,\n]", re.sub(r"</?answer>", "", gold))


WRAPPINGS: dict[str, Callable[[Sequence[str]], str]] = {
    "in a sentence": lambda parts: f"the answer is {', '.join(parts)}.",
    "bullets": lambda parts: "write\n" + "\n".join(f"- {part}" for part in parts),
    "numbered": lambda parts: "\n".join(f"{n}. {part}" for n, part in enumerate(parts, 1)),
    "numbered in a line": lambda parts: " ".join(f"({n}) {p}" for n, p in enumerate(parts, 1)),
    "arrows": lambda parts: " -> ".join(parts),
    "then": lambda parts: "first " + ", then ".join(parts) + ", and no more",
    "and": lambda parts: ", ".join(parts[:-1]) + " and " + parts[-1],
    "json": lambda parts: json.dumps(list(parts)),
    "bold": lambda parts: " ".join(f"**{part.upper()}**" for part in parts),
    "in a fence": lambda parts: "```\n" + "\n".join(parts) + "\n```",
    "tagged": lambda parts: f"<answer>{','.join(parts)}</answer>",
}


@pytest.fixture(scope="module", params=["finer", "textworld-coin"])
def short(request: pytest.FixtureRequest) -> TextEnv:
    """An environment with answers of a few words."""
    env = make_env(request.param, dialect="compact")
    assert isinstance(env, TextEnv)
    return env


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_short_answer_is_found_in_any_wrapping(short: TextEnv, wrapping: str) -> None:
    golds = {task.id: short.oracle(task) for task in short.tasks("test")}
    secrets = secrets_in(golds)
    for gold in list(golds.values())[:20]:
        [found] = found_in(WRAPPINGS[wrapping](parts_of(short.name, gold)), secrets)
        assert golds[found] == gold


def test_general_lessons_that_name_parts_of_answers_are_no_copies(short: TextEnv) -> None:
    golds = {task.id: short.oracle(task) for task in short.tasks("test")}
    secrets = secrets_in(golds)
    names = sorted({part for gold in golds.values() for part in parts_of(short.name, gold)})
    assert not any(found_in(f"write {name} where it fits", secrets) for name in names)
    assert not any(found_in(f"not {a}, {b} or {a}", secrets) for a, b in pairwise(names))
    rng = np.random.default_rng(0)
    lists = [", ".join(map(str, rng.permutation(names))) for _ in range(100)]
    assert [text for text in lists if found_in(f"choose among {text}", secrets)] == []


def test_an_answer_within_a_longer_one_is_another_answer() -> None:
    walks = {"a": "go east\ngo north\ntake coin", "b": "go west\ngo south\ntake coin"}
    secrets = secrets_in(walks)
    assert found_in("from the hall go east, go north, take coin", secrets) == ["a"]
    assert found_in("to take the coin: go east, go north, take coin", secrets) == ["a"]
    assert found_in("go west, go east, go north, take coin", secrets) == []
    assert found_in(f"{walks['b']}\n{walks['a']}", secrets) != []


def test_an_answer_is_found_without_what_its_solution_says_around_it() -> None:
    golds = {
        f"t{n}": f"Let me think about {n} for a while, as one should.\n<answer>{tag}, {tag}two, "
        f"{tag}three, {tag}four</answer>"
        for n, tag in enumerate(("Debt", "Lease", "Fund", "Note", "Bond", "Loan"))
    }
    env = Answering(golds)
    [gold, _] = lessons._secrets_in(env, "", ["test"]).several
    assert found_in("write Lease, Leasetwo, Leasethree, Leasefour", gold) == ["t1"]


class Answering(TextEnv):
    """Knows these answers."""

    answer_in_prompt = True

    def __init__(self, golds: Mapping[str, str]) -> None:
        super().__init__()
        self.golds = golds

    def tasks(self, split: Any) -> Sequence[Task]:
        return [Task(task, split, "") for task in self.golds]

    def oracle(self, task: Task) -> str:
        return self.golds[task.id]


def test_operators_are_words_of_programs_and_separators_elsewhere() -> None:
    programs = {
        t: f"```python\ndef f(a):\n return [x * 2 for x in a if x {sign} 3][0] - 1\n```"
        for t, sign in (("under", "<"), ("over", ">"))
    }
    for task, program in programs.items():
        assert found_in(f"write {program}", secrets_in(programs)) == [task]
    tags = {"a": "<answer>Debt,Lease,Bond,Loan</answer>"}
    assert found_in("Debt / Lease / Bond / Loan", secrets_in(tags)) == ["a"]


# Quotations of attempts.

GOLD = "def f(a): keep those over three, double them all, give the last one or else 6"
WRONG = GOLD.replace("6", "7")


def judged(text: str, attempts: Sequence[tuple[str, str, int]], task: str = "t") -> list[str]:
    """Findings in a reflection of update 2 on a task, after these attempts."""
    secrets = secrets_in({"t": GOLD}, "train")
    several = list(copies.copies([Written("reflection", text, task, 2)], [secrets]))
    assert several, "the text has the words of the answer"
    quoted = Quotations(several, 100)
    for attempt in attempts:
        quoted.see(*attempt)
    return [one.task for one in copied(several, quoted)]


def test_a_quotation_of_an_attempt_is_no_leak_and_the_answer_beyond_it_is() -> None:
    assert judged(f"it wrote {WRONG}", []) == ["t"]
    assert judged(f"it wrote {WRONG}", [("t", WRONG, 2)]) == []
    assert judged(f"it wrote {WRONG}", [("t", "no idea", 1), ("t", f"so: {WRONG}", 1)]) == []
    assert judged(f"it wrote {WRONG} and should write {GOLD}", [("t", WRONG, 2)]) == ["t"]
    assert judged(f"write {GOLD}", [("t", WRONG, 2)]) == ["t"]
    assert judged(f"it wrote {GOLD}", [("t", GOLD, 2)]) == []


def test_only_attempts_at_the_task_until_then_explain_a_text() -> None:
    assert judged(f"it wrote {WRONG}", [("t", WRONG, 3)]) == ["t"]
    assert judged(f"it wrote {WRONG}", [("u", WRONG, 2)]) == ["t"]
    assert judged(f"it wrote {WRONG}", [("u", WRONG, 2)], task="u") == []
    assert judged(f"it wrote {WRONG}", [("t", WRONG, 2)], task="") == []


def test_a_reflection_that_quotes_its_attempt_passes_the_audit(fresh: Path, tmp_path: Path) -> None:
    env = make_env("manufactoria-has", dialect="compact")
    rows = [json.loads(line) for line in (fresh / "episodes.jsonl").read_text().splitlines()]
    known = {task.id for task in lessons.evenly(env.tasks("train"), lessons.MOST_TASKS)}
    failed = [row["task"] for row in rows if not row["success"] and row["update"] == 2]
    task = next(one for one in failed if one in known)
    gold = env.oracle(env.find(task, "train"))
    wrong = re.sub(r"(PULLER_RB s2:\n +\[R\] )\w+", r"\1s9", gold)
    assert wrong != gold

    def plant(text: str, attempt: str) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            path = folder / "context" / "update-0002.json"
            context = json.loads(path.read_text())
            context["reflections"].append({"task": task, "text": text, "parsed": True, "tags": {}})
            path.write_text(json.dumps(context))
            told = json.loads(json.dumps(rows))
            next(row for row in told if row["task"] == task)["turns"][0]["response"] = attempt
            (folder / "episodes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in told))

        return change

    quoting = edited(fresh, tmp_path / "a", plant(f"the attempt {wrong} loops", wrong))
    telling = edited(fresh, tmp_path / "b", plant(f"not {wrong} but {gold}", wrong))
    elsewhere = edited(fresh, tmp_path / "c", plant(f"the attempt {wrong} loops", "nothing"))
    assert main(["results", "audit", str(quoting)]) == 0
    assert [one.task for one in audit(telling).findings] == [task]
    assert [one.task for one in audit(elsewhere).findings] == [task]


def test_a_run_that_is_too_large_is_audited_in_part_and_it_is_said(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = audit(fresh)
    written = list(lessons.distinct(lessons.texts_of(RunFiles.at(fresh).numbered("context"))))
    monkeypatch.setattr(lessons, "MOST_CHARS", len(written[-1].text) + len(written[-2].text))
    monkeypatch.setattr(lessons, "MOST_SOLUTIONS", 1)
    told = audit(fresh)
    assert told.texts == 2
    assert f"{whole.texts - 2} older texts were not searched" in told.left_out
    assert any("older successes were not graded" in line for line in told.left_out)
    files = RunFiles.at(fresh)
    small = lessons.Auditor(files, {}, 1000)
    for row in files.stream("episodes.jsonl"):
        small.see(row)
    assert any("the solution buffer in a checkpoint of" in line for line in small.finish().left_out)
    secrets = secrets_in({"t": GOLD}, "train")
    several = list(copies.copies([Written("reflection", GOLD, "t", 2)], [secrets]))
    quoted = Quotations(several, 1)
    for _ in range(3):
        quoted.see("t", "nothing", 1)
    assert quoted.unread == 2
