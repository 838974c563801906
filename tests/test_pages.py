"""The pages in docs: all are listed in the README, and the code in them runs."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_baselines.resd import RESDConfig
from resd_bench.check.scripted import ScriptedPolicy
from resd_bench.commands.run import batch_note
from resd_bench.config import resolve
from resd_bench.jobs.run import run
from resd_bench.tuning.definition import load_tuning
from tests.places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.+?)```", text, re.S)


def test_the_readme_links_every_page() -> None:
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages if f"]({page}" not in README} == set()


def test_a_method_with_a_prompt_pack_of_its_own_asks_in_its_words() -> None:
    (code,) = blocks("prompts.md", "python")
    names: dict[str, Any] = {}
    exec(code, names)
    agent = names["BRIEF"].build(ScriptedPolicy(lambda *_: "", dialect="full"), RESDConfig())
    words = {"prompt": "p", "response": "r", "feedback": "f", "playbook": "b"}
    asked = agent.writer.pack.reflect("full", **words)
    assert asked.endswith("Use one sentence a field.")


def test_the_code_on_reading_answers_reads_those_of_a_run(
    toy: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks("reading-answers.md", "python")
    small = {"env": "toy-say", "method": "toy-learner", "model": "scripted", "budget": "10ep"}
    folder = run(resolve({**small, "batch_size": 5, "out": str(tmp_path)})).folder
    exec(re.sub(r'"runs-out/[^"]+"', repr(str(folder)), code), {})
    assert "Counter({" in capsys.readouterr().out


def test_the_file_on_tuning_is_a_tuning(tmp_path: Path) -> None:
    (text,) = blocks("tuning.md", "yaml")
    path = tmp_path / "my-tuning.yaml"
    path.write_text(text)
    assert {len(own) for own in load_tuning(path).methods.values()} == {4}


def test_a_method_with_groups_says_what_its_batch_makes_of_the_budget() -> None:
    given = {"method": "grpo", "env": "manufactoria-has", "budget": "1280ep"}
    assert batch_note(resolve(given)) == (
        "grpo: an update takes 64 rollouts (8 tasks x 8), so 1280ep is 20 updates"
    )
    assert batch_note(resolve({**given, "batch_size": 32})) == (
        "grpo: an update takes 256 rollouts (32 tasks x 8), so 1280ep is 5 updates; "
        "--batch-size 4 makes 40"
    )
    assert batch_note(resolve({"method": "sft", "env": "manufactoria-has"})) == ""


def test_a_method_that_adds_rollouts_says_the_least_and_the_most_updates() -> None:
    given = {"method": "dapo", "env": "manufactoria-has", "budget": "64ep"}
    given |= {"batch_size": "2", "group_size": "2"}
    takes = "dapo: an update takes 4 to 16 rollouts (2 tasks x 2, more where groups are without "
    assert batch_note(resolve(given)) == (
        f"{takes}variance), so 64ep is 4 to 16 updates; --batch-size 1 makes 8 to 32"
    )
    assert batch_note(resolve({**given, "budget": "30upd"})) == (
        f"{takes}variance), so 30upd is 30 updates"
    )
    plain = resolve({**given, "method.dynamic_sampling": 0})
    assert "takes 4 rollouts (2 tasks x 2), so 64ep is 16 updates" in batch_note(plain)
