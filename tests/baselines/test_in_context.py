"""ACE and GEPA: what they learn is a text that the policy reads, and that is what is measured."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_baselines.archive_agent import Archive, NoRollouts
from resd_baselines.gepa import GEPA
from resd_baselines.gepa_search import iterate
from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.jobs import setup
from resd_bench.jobs.evaluate import score_run
from resd_bench.jobs.export import PROMPT, SLOT, export
from resd_bench.jobs.run import run
from resd_bench.records.run_files import RunFiles
from resd_bench.records.runs import load_run
from resd_bench.testing import ScriptedPolicy, check_agent
from resd_bench.types import Sampling, user
from tests.baselines import fake_gepa

HAS_GEPA = importlib.util.find_spec("gepa") is not None
REAL = pytest.param(
    "real",
    marks=pytest.mark.skipif(not HAS_GEPA, reason="GEPA ABSENT: pip install '.[gepa]'"),
)
LESSON = "repeat the word"


def reader(prompt: str, seed: int, j: int) -> str:
    """Says the word once a lesson tells it to, and writes that lesson when asked to reflect."""
    if prompt.endswith("<reflect>"):
        return f"cause: it said no\nlesson: {LESSON}"
    if prompt.endswith("<lesson>"):
        return f"add: {LESSON}"
    if prompt.endswith("<tag>"):
        return "helpful: 1"
    word = re.findall(r"say (\w+)", prompt)[-1]
    return word if LESSON in prompt else f"no{(seed + j) % 3}"


class Savable(ScriptedPolicy):
    def save(self, folder: str | Path) -> None:
        (Path(folder) / "weights").write_text(str(self.count))


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch, toy: ModuleType) -> list[Savable]:
    """Every policy that a run was given."""
    made: list[Savable] = []

    def build(config: RunConfig) -> Savable:
        made.append(Savable(reader))
        return made[-1]

    monkeypatch.setattr(setup, "build_policy", build)
    return made


@pytest.fixture(params=["fake", REAL])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "fake":
        fake_gepa.install(monkeypatch)
    return str(request.param)


def config(out: Path, method: str, **settings: Any) -> RunConfig:
    return resolve(
        {
            **{"env": "toy-say", "method": method, "model": "scripted", "out": str(out)},
            **{"dialect": "compact", "budget": "20ep", "batch_size": 5, "eval_every": 1},
            **{"eval_samples": 2, "checkpoint_every": 1, **settings},
        }
    )


def prompts(policy: ScriptedPolicy, purpose: str) -> list[str]:
    calls = [call for call in policy.calls if call.purpose == purpose]
    return [chat[-1].content for call in calls for chat in call.prompts]


def test_gepa_keeps_the_contract(package: str) -> None:
    check_agent(GEPA)


def test_the_playbook_of_ace_is_read_in_rollouts_and_in_what_is_reported(
    policies: list[Savable], tmp_path: Path
) -> None:
    folder = run(config(tmp_path, "ace")).folder
    points = load_run(folder).points
    assert (points[0].mean, points[-1].mean) == (0.0, 1.0)
    (policy,) = policies
    assert LESSON not in prompts(policy, "evaluation")[0]
    assert LESSON in prompts(policy, "evaluation")[-1]
    assert LESSON in prompts(policy, "rollout")[-1]
    assert not any(policy.updates), "no weight is trained"
    rows = RunFiles.at(folder).rows("episodes.jsonl")
    shown = [row["turns"][0]["messages"][0]["content"] for row in rows]
    assert shown == prompts(policy, "rollout"), "records say what the policy read"


@pytest.mark.parametrize("method", ["ace", "gepa"])
def test_eval_and_export_agree_with_what_was_measured(
    method: str, policies: list[Savable], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_gepa.install(monkeypatch)
    settings = {} if method == "ace" else {"budget": "40ep", "method.validation_tasks": 5}
    folder = run(config(tmp_path / "runs", method, **settings)).folder
    measured = prompts(policies[0], "evaluation")[-6:]
    again = score_run(folder, None, {}, policy=setup.build_policy)
    assert again.point.mean == load_run(folder).points[-1].mean == 1.0
    assert prompts(policies[-1], "evaluation") == measured
    made = export(folder, tmp_path / "model")
    text = (made.folder / PROMPT).read_text()
    words = [re.findall(r"say (\w+)", prompt)[-1] for prompt in measured]
    assert [text.replace(SLOT, f"say {word}") for word in words] == measured
    card = (made.folder / "README.md").read_text()
    assert "No weight was trained" in card
    assert PROMPT in card


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "package"),
    [("ace", "fake"), ("gepa", "fake"), pytest.param("gepa", "real", marks=REAL.marks)],
)
def test_a_run_that_is_stopped_goes_on_to_the_same_end(
    method: str,
    package: str,
    policies: list[Savable],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if package == "fake":
        fake_gepa.install(monkeypatch)
    settings: dict[str, Any] = {"budget": "30ep"}
    if method == "gepa":
        settings |= {"budget": "50ep", "method.validation_tasks": 3}
    whole = run(config(tmp_path / "whole", method, **settings)).folder
    stopped = config(tmp_path / "stopped", method, **settings)
    build = setup.build_policy

    class Stop(Exception):
        pass

    class Stopping(Savable):
        def update(self, *args: Any, **kwargs: Any) -> Any:
            if self.count == 2:
                raise Stop
            return super().update(*args, **kwargs)

    with pytest.raises(Stop):
        run(stopped, policy=lambda _: Stopping(reader))
    folder = run(stopped, resume=True, policy=build).folder
    for name in ("evals.jsonl", "episodes.jsonl"):
        assert (folder / name).read_text() == (whole / name).read_text(), name


def test_every_rollout_of_gepa_is_charged_recorded_and_within_the_budget(
    policies: list[Savable], package: str, tmp_path: Path
) -> None:
    folder = run(config(tmp_path, "gepa", budget="38ep", **{"method.validation_tasks": 4})).folder
    rows = RunFiles.at(folder).rows("episodes.jsonl")
    metrics = RunFiles.at(folder).rows("metrics.jsonl")
    assert len(rows) == metrics[-1]["episodes"] == len(prompts(policies[0], "rollout"))
    # The step's own five may end beyond the budget, as any method's; extra ones may not.
    assert 38 <= len(rows) < 38 + 5
    keys = [(row["task"], row["attempt"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert metrics[-1]["sampled_tokens"] == sum(t["tokens"] for row in rows for t in row["turns"])
    assert metrics[-1]["reflection_tokens"] > 0
    assert metrics[-1]["gepa/texts"] == 2
    # Start on 4, parent on 5 (the step), child on 5, child on 4.
    assert metrics[0]["episodes"] == 5 + 4 + 5 + 4


def scored(text: str) -> Callable[[Any, str], list[float]]:
    """Scores 1 where the text has been found, else 0."""
    return lambda ids, tried: [float(tried == text) for _ in ids]


def test_an_iteration_keeps_a_text_that_is_better_and_its_state_is_json(package: str) -> None:
    tasks = {"batch": ["a", "b"], "validation": ["c", "d", "e"]}
    first = iterate(
        None, start="x", **tasks, evaluate=scored("y"), propose=lambda text: "y", seed=1
    )
    assert first is not None
    assert (first.texts, first.scores, first.best) == (("x", "y"), (0.0, 1.0), 1)
    json.loads(first.state)
    asked: list[list[str]] = []

    def watched(ids: Any, text: str) -> list[float]:
        asked.append(list(ids))
        return [0.0 for _ in ids]

    second = iterate(first, start="x", **tasks, evaluate=watched, propose=lambda text: "z", seed=2)
    assert second is not None
    assert second.texts == first.texts, "what is no better is not kept"
    assert asked == [["a", "b"], ["a", "b"]], "the start is not evaluated again"


def test_an_iteration_that_cannot_be_paid_for_changes_nothing(package: str) -> None:
    held = Archive("{}", ("x",), (0.0,), 0, 0)

    def broke(ids: Any, text: str) -> list[float]:
        raise NoRollouts

    tasks = {"batch": ["a"], "validation": ["b"]}
    assert iterate(None, start="x", **tasks, evaluate=broke, propose=str.upper, seed=1) is None
    first = iterate(None, start="x", **tasks, evaluate=scored("y"), propose=str, seed=1)
    assert iterate(first, start="x", **tasks, evaluate=broke, propose=str.upper, seed=1) == first
    assert held.texts == ("x",)


def test_what_goes_wrong_in_a_proposal_is_not_swallowed(package: str) -> None:
    def fails(text: str) -> str:
        raise UsageError("the model overflows")

    tasks = {"batch": ["a"], "validation": ["b"]}
    with pytest.raises(UsageError, match="overflows"):
        iterate(None, start="x", **tasks, evaluate=scored("y"), propose=fails, seed=1)


def test_without_the_package_gepa_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gepa", None)
    with pytest.raises(UsageError, match=r"pip install .*\[gepa\]"):
        GEPA.build(ScriptedPolicy(reader), GEPA.config())


def test_rollouts_of_gepa_read_the_text_on_trial_and_evaluations_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_gepa.install(monkeypatch)
    policy = ScriptedPolicy(reader)
    agent: Any = GEPA.build(policy, GEPA.config())
    trial, best = (f"## OTHERS\n[misc-{n:05d}] helpful=0 harmful=0 :: {n}" for n in (1, 2))
    agent.archive, agent.parent = Archive("{}", (trial, best), (0.0, 1.0), 1, 0), trial
    asked = {"n": 1, "sampling": Sampling(max_new_tokens=8)}
    agent.act([user("say a")], purpose="rollout", **asked)
    assert agent.posed(user("say a")) == policy.calls[-1].prompts[0]
    assert "\n1 1\n" in policy.calls[-1].prompts[0][0].content
    agent.act([user("say a")], purpose="evaluation", **asked)
    assert "\n1 2\n" in policy.calls[-1].prompts[0][0].content
