"""Estimates before a run: against random models, measured training steps and committed records."""

from __future__ import annotations

import itertools
import re
import string
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from resd_baselines.resd import RESDConfig
from resd_bench import plugins
from resd_bench.agent import Load
from resd_bench.cli import main
from resd_bench.commands.plan import longest_prompt
from resd_bench.config import RunConfig, load_file, method_config, resolve
from resd_bench.errors import UsageError
from resd_bench.planning import architecture
from resd_bench.planning.memory import (
    WITHIN,
    Lengths,
    Machine,
    check_fits,
    count_tokens,
    limited,
    memory,
    parse_memory,
    teacher_prompt,
    total,
)
from resd_bench.policy import loading, lora
from resd_bench.policy.build import policy_config
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.parallel.supported import check_processes
from resd_bench.records.log_files import read_log
from resd_bench.types import Completion, Example, Sampling, Step, user
from tests.places import ROOT
from tests.policy import families, tiny

THINKING_4B = "Qwen/Qwen3-4B-Thinking-2507"
MOE_30B = "Qwen/Qwen3-30B-A3B-Thinking-2507"
LARGE = Lengths(prompt=1000, completion=20_480)
RESD_LOAD = Load(samples=2, teacher=True, shown=3, shown_tokens=8000)
H200 = Machine(1, 141e9)


@pytest.mark.parametrize("name", families.NAMES)
def test_parameters_of_random_models_are_exact(name: str) -> None:
    model = families.model(name)
    found = architecture.of_config(model.config)
    assert found.parameters == found.active == loading.parameters(model)
    assert found.tied == bool(model.config.tie_word_embeddings)
    assert found.context == 256


@pytest.mark.parametrize(
    ("name", "billions", "without_embeddings", "active"),
    [
        ("Qwen/Qwen3-0.6B", 0.6, 0.44, 0.6),
        ("Qwen/Qwen3-1.7B", 1.7, 1.4, 1.7),
        (THINKING_4B, 4.0, 3.6, 4.0),
        ("Qwen/Qwen3-8B", 8.2, 6.95, 8.2),
        (MOE_30B, 30.5, 29.9, 3.3),
    ],
)
def test_published_models_have_the_sizes_on_their_cards(
    name: str, billions: float, without_embeddings: float, active: float
) -> None:
    found = architecture.read(name)
    assert found.parameters / 1e9 == pytest.approx(billions, rel=0.02)
    body = found.parameters - found.embeddings
    assert body / 1e9 == pytest.approx(without_embeddings, rel=0.02)
    assert found.active / 1e9 == pytest.approx(active, rel=0.02)


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_parameters_of_an_adapter_are_exact(name: str) -> None:
    expected = architecture.of_config(families.model(name).config).adapted * 3
    adapted = lora.adapt(families.model(name), rank=3, alpha=None, seed=0)
    assert sum(p.numel() for p in lora.weights(adapted, lora.STUDENT).values()) == expected


def test_a_folder_is_read_and_what_is_no_model_is_refused(tmp_path: Path) -> None:
    folder = families.save("qwen3", tmp_path / "model")
    assert architecture.read(str(folder)).parameters == loading.parameters(families.model("qwen3"))
    with pytest.raises(UsageError, match="no model at"):
        architecture.read("no such model")


def peak(call: Callable[[], Any]) -> float:
    """Bytes that `call` holds at its worst beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    events: Any = profiled.profiler
    changes = (e.nbytes() for e in events.kineto_results.events() if e.name() == "[memory]")
    return float(max(itertools.accumulate(changes, initial=0)))


def held(policy: LMPolicy) -> float:
    """Bytes of weights, moments and teacher that outlive a step."""
    teacher = policy.teacher.model if policy.teacher is not None and not policy.adapted else None
    tensors = [*policy.model.parameters(), *(teacher.parameters() if teacher is not None else ())]
    tensors += [v for s in policy.optimiser.state.values() for v in s.values()]
    return float(sum(t.numel() * t.element_size() for t in tensors))


SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "head_dim": 32,
    "max_position_embeddings": 4096,
}
PROMPT, TEACHER_PROMPT, ANSWER, BATCH = 60, 120, 180, 4
REAL_VOCABULARY = 49_152
"""Of SmolLM2."""
MAIN_MEMORY = Machine(1, None, "machine", main_memory=True)


def subject(config: RunConfig, vocabulary: int) -> LMPolicy:
    options = policy_config(config)
    model = tiny.model(vocab_size=vocabulary, **SIZES)
    if config.precision == "mixed" and config.lora_rank:
        model = model.bfloat16()
    return LMPolicy(model, tiny.tokenizer(), options)


def step(policy: LMPolicy, answer: int = ANSWER, batch: int = BATCH) -> None:
    """One update of RESD's loss on a batch at its longest."""
    said = Completion("", tuple(5 + i % 200 for i in range(answer)))
    # The template adds a role token, an end token and the assistant's role token. Prompts differ,
    # or all of them would be read as one.
    examples = [
        Example(user(c * (PROMPT - 3)), said, user(c * (TEACHER_PROMPT - 3)))
        for c in string.ascii_letters[:batch]
    ]
    objective = RESDConfig().objective(Step(0, 0, 0, Sampling(1.0, 0.95, answer, seed=0), seed=0))
    policy.update(examples, objective, batch_size=batch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "vocabulary"),
    [
        ({}, 260),
        ({"gradient_checkpointing": True}, 260),
        ({"precision": "mixed"}, 260),
        ({"lora_rank": 8}, 260),
        ({"precision": "mixed", "lora_rank": 8, "gradient_checkpointing": True}, 260),
        ({"gradient_checkpointing": True}, 3000),
    ],
)
def test_the_measured_peak_of_a_training_step_is_within_the_stated_factor(
    settings: dict[str, Any], vocabulary: int
) -> None:
    config = replace(RunConfig(), batch_size=BATCH, group_size=1, **settings)
    policy = subject(config, vocabulary)
    policy.use_teacher("ema", 0.1)
    step(policy)
    measured = held(policy) + peak(lambda: step(policy))
    model = architecture.of_config(policy.model.config)
    load = Load(teacher=True, shown_tokens=TEACHER_PROMPT - PROMPT)
    needed = memory(config, model, Lengths(PROMPT, ANSWER), load, Machine())
    assert 1 / WITHIN < total(needed.training) / measured < WITHIN


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_every_phase_is_within_the_factor_with_the_vocabulary_of_a_real_model(
    precision: Any,
) -> None:
    short, few = 40, 8
    config = replace(RunConfig(), batch_size=few, group_size=1, precision=precision)
    config = replace(config, max_new_tokens=short)
    policy = subject(config, REAL_VOCABULARY)
    policy.use_teacher("ema", 0.1)
    step(policy, short, few)
    held_now = held(policy)
    measured = {
        "training": peak(lambda: step(policy, short, few)),
        "sampling": peak(lambda: sample(policy, few, short)),
        "saving": peak(policy.state_dict),
    }
    load = Load(teacher=True, shown_tokens=TEACHER_PROMPT - PROMPT)
    model = architecture.of_config(policy.model.config)
    needed = memory(config, model, Lengths(PROMPT, short), load, MAIN_MEMORY)
    factors = {n: total(needed.phases[n]) / (held_now + more) for n, more in measured.items()}
    assert all(1 / WITHIN < factor < WITHIN for factor in factors.values()), factors


def test_only_main_memory_holds_a_copy_while_a_checkpoint_is_written() -> None:
    config, model = RunConfig(), architecture.of_config(tiny.model().config)
    gpu = memory(config, model, Lengths(PROMPT, ANSWER), Load(teacher=True), Machine())
    main_memory = memory(config, model, Lengths(PROMPT, ANSWER), Load(teacher=True), MAIN_MEMORY)
    assert not gpu.saving
    kept = total(main_memory.saving) / (16 * model.parameters)
    assert kept == pytest.approx(2.0)


def sample(policy: LMPolicy, rows: int, new: int) -> None:
    prompts = [user(c * (PROMPT - 3)) for c in string.ascii_letters[:rows]]
    sampling = Sampling(1.0, 0.95, new, seed=0)
    policy.sample(prompts, n=1, sampling=sampling, purpose="rollout")


def test_the_measured_peak_of_sampling_is_within_the_stated_factor() -> None:
    config = replace(RunConfig(), batch_size=16, group_size=2, max_new_tokens=64)
    policy = subject(config, 260)
    sampling = Sampling(1.0, 0.95, 64, seed=0)
    prompts = [user("x" * (PROMPT - 3))] * 16

    def sample() -> None:
        policy.sample(prompts, n=2, sampling=sampling, purpose="rollout")

    measured = held(policy) + peak(sample)
    model = architecture.of_config(policy.model.config)
    needed = memory(config, model, Lengths(PROMPT, 64), Load(), Machine())
    # The optimiser has no moments before its first step.
    parts = [part for part in needed.sampling if "optimiser" not in part.name]
    assert 1 / WITHIN < total(parts) / measured < WITHIN


@pytest.mark.parametrize("method", ["resd", "sdpo", "sdpo+ss", "grpo", "sft", "base"])
def test_committed_runs_spent_no_more_than_was_reckoned_and_not_far_less(method: str) -> None:
    folder = ROOT / "results/nano/manufactoria-has" / method / "seed-0"
    config = RunConfig.of_record(folder / "config.yaml")
    spec = plugins.method(method)
    load = spec.load(method_config(spec.config, config.method_options, method))
    tasks = plugins.make_env(config.env, dialect=config.dialect).tasks("train")
    model = architecture.read("nano")
    lengths = Lengths(longest_prompt(tasks, "nano"), config.max_new_tokens)
    # Chat templates add a few tokens to a prompt.
    lengths = replace(lengths, prompt=lengths.prompt + 8)
    most = count_tokens(config, lengths, load, 132, model.context)
    rows = list(read_log(folder / "metrics.jsonl"))
    spent = {
        name: max(b[name] - a[name] for a, b in itertools.pairwise([dict.fromkeys(row, 0), *rows]))
        for row in rows[:1]
        for name in ("sampled_tokens", "reflection_tokens", "scored_tokens", "flops")
    }
    assert 0.05 * most.rollouts < spent["sampled_tokens"] <= most.rollouts
    assert spent["reflection_tokens"] <= most.own
    # Reflections of the embedded model are two lines, and may be as long as an answer.
    assert (spent["reflection_tokens"] > 0.02 * most.own) or not most.own
    assert spent["scored_tokens"] <= most.scored
    if method != "sft":  # its buffer may hold more than a batch
        assert spent["flops"] <= most.flops(model.active, adapter=False)


def plan(**settings: Any) -> RunConfig:
    paper = {"precision": "mixed", "gradient_checkpointing": True, "group_size": 1}
    return replace(RunConfig(), **{**paper, "max_new_tokens": 20_480, **settings})


def needs(config: RunConfig, name: str = THINKING_4B, **machine: Any) -> Any:
    on = Machine(**machine)
    return memory(config, architecture.read(name), LARGE, RESD_LOAD, on)


def size(parts: Any, word: str) -> float:
    return float(sum(part.bytes for part in parts if word in part.name))


def test_weights_moments_gradients_and_teacher_of_four_billion_take_four_bytes_each() -> None:
    n = architecture.read(THINKING_4B).parameters
    parts = needs(plan()).training
    assert size(parts, "optimiser") == 8 * n
    weights = [part.bytes for part in parts if part.name in ("weights", "gradients", "teacher")]
    assert weights == [4 * n] * 3


def test_each_flag_reduces_what_it_says_it_reduces() -> None:
    full = needs(plan())
    low_rank = needs(plan(lora_rank=16))
    assert size(low_rank.training, "optimiser") < 0.05 * size(full.training, "optimiser")
    assert size(low_rank.training, "weights") < 0.51 * size(full.training, "weights")
    plain = needs(plan(gradient_checkpointing=False))
    assert size(plain.training, "activations") > 5 * size(full.training, "activations")
    away = needs(plan(teacher_offload=True))
    assert size(away.sampling, "teacher") == 0 < size(full.sampling, "teacher")
    layers = needs(plan(device_map="auto"), gpus=8)
    assert size(layers.training, "gradients") == size(full.training, "gradients") / 8
    shares = needs(plan(), gpus=8, shared=True)
    assert size(shares.training, "optimiser") == size(full.training, "optimiser") / 8
    assert size(shares.sampling, "gathered") > 0
    assert needs(plan(), gpus=8) == full


def test_with_fsdp_an_adapter_stays_whole_and_vllm_gathers_no_more_than_a_layer() -> None:
    model = architecture.read(MOE_30B)
    own, copied = (
        needs(plan(engine=engine, engine_memory=12.0), MOE_30B, gpus=16, shared=True)
        for engine in ("hf", "vllm")
    )
    assert size(own.sampling, "gathered") == 4 * model.parameters
    assert size(copied.sampling, "gathered") < 0.05 * size(own.sampling, "gathered")
    assert size(copied.training, "weights of vllm") == 2 * model.parameters
    adapter = 16 * model.adapted * 4
    parts = needs(plan(engine="vllm", lora_rank=16), MOE_30B, gpus=8, shared=True).training
    assert size(parts, "gradients") == size(parts, "teacher") - size(parts, "pass") == adapter
    [weights] = [part.bytes for part in parts if part.name == "weights"]
    assert weights == model.parameters * 2 / 8 + adapter


LINES = ROOT / "docs" / "distributed.md"


def test_the_documented_launch_lines_fit_the_gpus_that_the_document_names() -> None:
    text = LINES.read_text().partition("<!-- launch lines -->")[2]
    lines = re.findall(r"-m resd_bench run (.+)", text.partition("<!-- end -->")[0])
    machines = re.findall(r"`--gpus (\d+) --gpu-memory (\w+)( --fsdp)?` \|", text)
    assert len(lines) == len(machines) == 4
    for line, (gpus, each, fsdp) in zip(lines, machines, strict=True):
        words = [word.removeprefix("--").replace("-", "_") for word in line.split()[::2]]
        flags = dict(zip(words, line.split()[1::2], strict=True))
        config = resolve(load_file(str(ROOT / flags.pop("config"))), flags)
        check_processes(config, int(gpus), sharded=bool(fsdp))
        on = Machine(int(gpus), parse_memory(each), shared=bool(fsdp))
        spec = plugins.method(config.method)
        load = spec.load(method_config(spec.config, config.method_options, config.method))
        model = limited(architecture.read(config.model), config)
        lengths = Lengths(2000, config.max_new_tokens)
        assert config.engine == "vllm"
        check_fits(memory(config, model, lengths, load, on), on)
    with pytest.raises(UsageError, match="supports only one process, and there are 8"):
        check_processes(plan(engine="openai"), 8, sharded=False)
    with pytest.raises(UsageError, match="--teacher-offload"):
        check_processes(plan(teacher_offload=True), 8, sharded=True)


def test_what_cannot_fit_is_refused_with_the_largest_part_and_a_remedy() -> None:
    check_fits(needs(plan()), H200)
    with pytest.raises(UsageError, match=r"optimiser.*32\.2 GB: try .*--lora-rank 16"):
        check_fits(needs(plan()), Machine(1, 80e9))
    check_fits(needs(plan(lora_rank=16)), Machine(1, 80e9))
    with pytest.raises(UsageError, match=r"activations.*--gradient-checkpointing true"):
        check_fits(needs(plan(gradient_checkpointing=False)), H200)
    with pytest.raises(UsageError, match="optimiser"):
        check_fits(needs(plan(), MOE_30B), H200)
    check_fits(needs(plan(device_map="auto"), MOE_30B, gpus=8), H200)
    check_fits(needs(plan()), Machine(1, None))


def test_a_teacher_prompt_sheds_until_a_completion_fits_after_it() -> None:
    lengths = Lengths(prompt=100, completion=1000)
    assert teacher_prompt(lengths, RESD_LOAD, 262_144) == 100 + 3 * 1000 + 8000
    assert teacher_prompt(lengths, RESD_LOAD, 4096) == 3096


@pytest.mark.parametrize(("text", "size"), [("80GB", 80e9), ("80 GiB", 80 * 2**30), ("24G", 24e9)])
def test_memory_is_read_in_both_units(text: str, size: float) -> None:
    assert parse_memory(text) == size


DRY = [
    *("run", "--dry-run", "--model", THINKING_4B, "--batch-size", "4", "--device", "cuda"),
    *("--precision", "mixed", "--gradient-checkpointing", "true"),
]


def test_a_dry_run_names_what_does_not_fit_and_exits_with_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*DRY, "--gpu-memory", "24GB"]) == 2
    printed = capsys.readouterr()
    assert "this run does not fit" in printed.err
    assert "--lora-rank 16" in printed.err
    assert "4,022,468,096 parameters" in printed.out
    assert main([*DRY, "--gpu-memory", "lots"]) == 2
    assert "give one such as 80GB" in capsys.readouterr().err
    assert main(["run", "--gpus", "8"]) == 2
    assert "need --dry-run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_expectation_follows_from_the_mean_that_is_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*DRY, "--max-new-tokens", "1000", "--mean-tokens", "100"]) == 0
    printed = capsys.readouterr().out
    assert "sampled by rollouts: at most 4,000, expected 400 tokens" in printed
    assert main([*DRY, "--max-new-tokens", "100", "--mean-tokens", "101"]) == 2


def test_nothing_is_refused_where_nothing_is_known() -> None:
    assert torch.cuda.is_available() or main(DRY) == 0


@pytest.mark.parametrize(
    "flags",
    [
        ("--max-new-tokens", "5000"),
        ("--context-limit", "100"),
        ("--eval-also", "nope"),
        ("--eval-also", "finer,finer"),
        ("--eval-also", "manufactoria-has"),
        ("--eval-validation", "4", "--eval-split", "validation"),
        ("--model", "."),
    ],
)
def test_a_dry_run_refuses_what_a_run_refuses_in_the_same_words(
    flags: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = []
    for dry in (["--dry-run"], []):
        assert main(["run", *dry, *flags]) == 2
        errors = capsys.readouterr().err.partition("error: ")[2]
        said.append(" ".join(errors.split()))
    assert said[0]
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("module", "flags"),
    [
        ("vllm", ("--engine", "vllm", "--model", "nano")),
        ("gepa", ("--method", "gepa")),
        ("peft", ("--lora-rank", "4")),
        ("accelerate", ("--device-map", "auto")),
        ("wandb", ("--track", "wandb")),
        ("", ("--device", "cuda")),
    ],
)
def test_a_plan_says_what_a_run_would_miss_on_this_machine(
    module: str,
    flags: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if module:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    small = [*flags, "--budget", "32ep", "--eval-tasks", "1", "--out", str(tmp_path)]
    assert main(["run", *small]) == 2
    refused = " ".join(capsys.readouterr().err.partition("error: ")[2].split())
    assert refused
    assert main(["run", "--dry-run", "--gpus", "1", *small]) == 0
    shown = " ".join(capsys.readouterr().out.replace("# ", "").split())
    assert f"not on this machine: {refused}" in shown
    assert main(["run", "--dry-run", "--gpus", "1"]) == 0
    assert "not on this machine" not in capsys.readouterr().out
