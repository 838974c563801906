"""Comparing with TRL: its part is played here by a plain forward pass, right or wrong."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from resd_bench.errors import UsageError
from resd_bench.interop.cross_check import compare_runs
from resd_bench.interop.cross_check_page import cross_check_page
from resd_bench.interop.cross_check_setup import (
    CrossCheck,
    check_python,
    config_of,
    method_over,
    run_theirs,
)
from resd_bench.interop.same_samples import (
    TOLERANCES,
    SameSamples,
    check_signal,
    compare_step,
    distance,
    draw_samples,
)
from resd_bench.jobs.run import step_of
from resd_bench.jobs.setup import make_envs
from resd_bench.packaged_models import weights_folder

CHECK = CrossCheck(model="nano-common", tasks=3, group_size=4, demonstrations=3, updates=0)


def play_trl(same: SameSamples, folder: Path, scale: float = 1.0, shift: float = 0.0) -> None:
    """What TRL would leave, by its own formulas; the gradient scaled, log-probabilities shifted."""
    policy, job = same.caught.policy, same.job
    turns = same.turns
    prompts = [policy.codec.prompt_ids(turn.messages) for turn in turns]
    said = [list(turn.completion.token_ids) for turn in turns]
    model = policy.model
    logps = []
    for prompt, answer in zip(prompts, said, strict=True):
        logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].float()
        z = logits[len(prompt) - 1 : -1].log_softmax(-1)
        logps.append(z.gather(-1, torch.tensor(answer)[:, None])[:, 0])
    extra: dict[str, torch.Tensor] = {}
    if same.method == "grpo":
        rewards = torch.tensor(job["rewards"]).view(-1, CHECK.group_size)
        apart = rewards - rewards.mean(1, keepdim=True)
        advantages = (apart / (rewards.std(1, keepdim=True) + 1e-4)).flatten()
        terms = [-(p - p.detach()).exp() * a for p, a in zip(logps, advantages, strict=True)]
        loss = torch.stack([term.mean() for term in terms]).mean()
        extra["advantages"] = advantages
    else:
        loss = -torch.cat(logps).mean()
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {n: p.grad * scale for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    width = max(len(p) + len(a) for p, a in zip(prompts, said, strict=True))
    names = ("ids", "read", "scored")
    rows = {name: torch.zeros(len(said), width, dtype=torch.long) for name in names}
    for i, (prompt, answer) in enumerate(zip(prompts, said, strict=True)):
        both = [*prompt, *answer]
        rows["ids"][i, : len(both)] = torch.tensor(both)
        rows["read"][i, : len(both)] = 1
        rows["scored"][i, len(prompt) : len(both)] = 1
    flat = torch.cat(logps).detach() + shift
    folder.mkdir(exist_ok=True)
    seen = {**rows, **extra, "logprobs": flat, "loss": loss.detach().reshape(1)}
    save_file(seen, folder / "seen.safetensors")
    save_file(gradients, folder / "g.safetensors")
    first = prompts[:: len(same.groups[0].trajectories)]
    (folder / "told.json").write_text(json.dumps({"prompt_ids": first}))


def worker(path: Path, body: str) -> str:
    """A Python that does `body` to every job folder it is given, in place of TRL's part."""
    path.write_text(f"#!{sys.executable}\nimport pathlib, sys, time\n{body}")
    path.chmod(0o755)
    return str(path)


WRITES = """
for folder in map(pathlib.Path, sys.argv[4:]):
    (folder / "told.json").write_text("{}")
    time.sleep(0.3)
"""


def test_jobs_of_the_other_are_told_as_they_begin_and_its_failure_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resd_bench.interop.cross_check_setup.POLL", 0.02)
    jobs: dict[Path, dict[str, Any]] = {tmp_path / name: {} for name in ("grpo-batch", "grpo-0")}
    told: list[str] = []
    writes = replace(CHECK, python=worker(tmp_path / "writes", WRITES))
    run_theirs(writes, jobs, tmp_path, told.append)
    assert told == ["TRL: grpo-batch, job 1 of 2", "TRL: grpo-0, job 2 of 2"]
    fails = replace(CHECK, python=worker(tmp_path / "fails", "sys.exit('no memory')"))
    with pytest.raises(UsageError, match="TRL failed: no memory"):
        run_theirs(fails, jobs, tmp_path, told.append)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_runs_are_compared_with_what_the_other_left(method: Any, tmp_path: Path) -> None:
    check = replace(CHECK, updates=1, seeds=(0, 1, 2), eval_tasks=3, eval_samples=1, margin=0.9)
    for seed in check.seeds:
        place = tmp_path / f"{method}-{seed}"
        shutil.copytree(weights_folder("nano-common"), place / "model")
        log = [{"reward": 0.25, "loss": 0.5}, {"train_loss": 1.0}]
        (place / "told.json").write_text(json.dumps({"log": log}))
    env, envs = make_envs(config_of(check, method, 0))
    told: list[str] = []
    found = compare_runs(check, method, env, envs, tmp_path, told.append)
    assert found.theirs == [[0.25 if method == "grpo" else 0.5]] * 3
    assert [len(curve) for curve in found.ours] == [1, 1, 1]
    assert [f"ours: {method}, seed {seed}, 1 updates" in told for seed in range(3)] == [True] * 3
    assert all(0 <= rate <= 1 for pair in found.success for rate in pair)
    mean = sum(ours - theirs for ours, theirs in found.success) / 3
    assert found.interval[0] == pytest.approx(mean)
    assert found.success[0][1] == found.before, "the other is the untrained model"
    alone = compare_runs(replace(check, seeds=(0,)), method, env, envs, tmp_path, told.append)
    envs.close()
    assert alone.interval == (alone.success[0][0] - alone.success[0][1], None, None)


@pytest.mark.slow
def test_samples_without_a_signal_are_refused_before_anything_is_compared() -> None:
    check = replace(CHECK, model="nano-rarest", tasks=1, group_size=2)
    env, envs = make_envs(config_of(check, "grpo", 0))
    same = draw_samples(check, "grpo", env, envs)
    envs.close()
    with pytest.raises(UsageError, match="no gradient to compare: give more --tasks"):
        check_signal(same)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_our_step_is_that_of_the_published_formulas_and_another_is_not(
    method: Any, tmp_path: Path
) -> None:
    env, envs = make_envs(config_of(CHECK, method, 0))
    same = draw_samples(CHECK, method, env, envs)
    envs.close()
    if method == "grpo":
        # So that some group has a signal, whatever was drawn.
        rewards = [1.0, 0.0, 0.0, 1.0] * CHECK.tasks
        same = with_rewards(same, rewards)
    play_trl(same, tmp_path / "right")
    found = {d.quantity: d for d in compare_step(same, tmp_path / "right")}
    assert {d.equal for d in found.values()} <= {True, None}, found
    play_trl(same, tmp_path / "wrong", scale=1.01, shift=0.01)
    wrong = {d.quantity for d in compare_step(same, tmp_path / "wrong") if d.equal is False}
    gradients = "gradients" if method == "grpo" else "gradients, tokens alike"
    assert wrong == {"log-probabilities", gradients}


def with_rewards(same: SameSamples, rewards: list[float]) -> SameSamples:
    """The same samples, rewarded otherwise."""
    given = iter(rewards)
    groups = [
        replace(
            group,
            trajectories=tuple(
                replace(a, feedback=replace(a.feedback, reward=next(given)))
                for a in group.trajectories
            ),
        )
        for group in same.groups
    ]
    config = config_of(CHECK, "grpo", 0)
    method_over(config, same.caught).learn(groups, step_of(config, 0))
    return replace(same, groups=groups, job={**same.job, "rewards": rewards})


def test_a_distance_is_relative_and_wants_the_same_parameters() -> None:
    ours = {"a": torch.tensor([3.0, 4.0])}
    assert distance(ours, ours) == 0
    assert distance(ours, {"a": torch.tensor([3.0, 4.5])}) == pytest.approx(0.1)
    assert distance({"a": torch.zeros(2)}, ours) == 1.0
    with pytest.raises(ValueError, match="other parameters"):
        distance(ours, {"b": torch.zeros(2)})


def test_the_page_says_equal_only_where_it_is() -> None:
    batch = [
        {"quantity": "loss", "difference": 1e-6, "tolerance": TOLERANCES["loss"]},
        {"quantity": "gradients", "difference": 0.2, "tolerance": TOLERANCES["gradients"]},
        {"quantity": "gradients, as they are", "difference": 0.2, "tolerance": None},
    ]
    curves = {
        "ours": [[0.1, 0.3]],
        "theirs": [[0.1, 0.2]],
        "success": [[0.5, 0.25]],
        "before": 0.1,
        "word": "open",
        "interval": [0.25, -0.1, 0.6],
    }
    settings = {
        **{"model": "nano", "env": "e", "seeds": [3], "updates": 2, "eval_tasks": 4},
        **{"eval_samples": 1, "margin": 0.1},
    }
    methods = [{"method": "grpo", "batch": batch, "curves": curves}]
    text = cross_check_page({"trl": "1", "settings": settings, "methods": methods}, "the command")
    assert "| loss | 1e-06 | 0.0001 | equal |" in text
    assert "| gradients | 0.2 | 0.001 | DIFFERENT |" in text
    assert "| gradients, as they are | 0.2 |  | differ on purpose |" in text
    assert "**open** within 10 points" in text
    assert "| 2 | 0.300 | 0.200 |" in text
    assert "+25.0 points, 95% interval -10.0 to +60.0." in text
    curves["interval"] = [0.25, None, None]
    text = cross_check_page({"trl": "1", "settings": settings, "methods": methods}, "the command")
    assert "+25.0 points, no interval from one seed." in text


@pytest.mark.skipif(importlib.util.find_spec("trl") is not None, reason="NOT TESTED: TRL is there")
def test_without_trl_it_says_what_to_install() -> None:
    with pytest.raises(UsageError, match=r"No module named 'trl'.*pip install -c .*--python"):
        check_python(sys.executable)
    with pytest.raises(UsageError, match=r"--python /no/such: .*Make an environment"):
        check_python("/no/such")
