"""vLLM inside the training loop, for real where it is installed (docs/engines.md says how)."""

from __future__ import annotations

import gc
import importlib.util
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from resd_bench import plugins
from resd_bench.errors import UsageError
from resd_bench.policy import lora
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines.base import Generated, logprobs_of
from resd_bench.policy.engines.hf import HfEngine
from resd_bench.policy.engines.vllm import VllmEngine
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.types import Group, Metrics, Sampling, Step, Stop, Task, Turn, user
from tests.policy import families, tiny
from tests.policy.test_adapters import experts
from tests.policy.test_methods_on_models import METHODS, Reflective, attempt

absent = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None,
    reason="VLLM ABSENT: pip install '.[vllm]' (docs/engines.md)",
)


def needs_vllm(test: Any) -> Any:
    """Marks a test that runs vLLM, which takes long."""
    return pytest.mark.slow(absent(test))


STOPS = [1, *range(4, 20)]
GREEDY = Sampling(temperature=0.0, max_new_tokens=24)
CACHE_GIB = 0.0625
PROMPTS = tiny.prompts([5, 30, 17, 40])


def model(**changes: Any) -> Any:
    return tiny.model(head_dim=32, **changes)


def engine(of: Any, **options: Any) -> VllmEngine:
    return VllmEngine(of, STOPS, limit=256, cache_gib=CACHE_GIB, **options)


def ids(made: list[list[Generated]]) -> list[tuple[int, ...]]:
    return [one.token_ids for group in made for one in group]


def gap(of: Any, prompts: Sequence[Sequence[int]], made: Any, sampling: Sampling) -> float:
    """Largest difference (nats) between the log-probabilities told and those of `of`."""
    largest = 0.0
    for prompt, group in zip(prompts, made, strict=True):
        for one in group:
            with torch.no_grad():
                logits = of(torch.tensor([[*prompt, *one.token_ids]])).logits[0]
            mine = logprobs_of(
                logits[len(prompt) - 1 : -1].float(), torch.tensor(one.token_ids), sampling
            )
            largest = max(largest, float((mine - torch.tensor(one.logprobs)).abs().max()))
    return largest


def shifted(of: Any, by: float = 0.05) -> None:
    """Move what trains of a model."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in of.parameters():
            if parameter.requires_grad:
                parameter.add_(by * torch.randn(parameter.shape, generator=generator))


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """The time to import vLLM, half a minute on a busy machine, is no test's."""
    if importlib.util.find_spec("vllm") is not None:
        import vllm  # noqa: F401


@pytest.fixture(scope="module")
def shared() -> tuple[Any, VllmEngine]:
    of = model()
    return of, engine(of)


@needs_vllm
def test_the_process_is_left_as_it_was() -> None:
    torch.manual_seed(1), np.random.seed(2), random.seed(3)

    def state() -> list[Any]:
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("VLLM_", "TORCHD"))}
        return [
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # type: ignore[index]
            random.getstate(),
            torch.set_num_threads,
            torch.get_num_threads(),
            os.sched_getaffinity(0),
            variables,
        ]

    before, of = state(), model()
    torch.manual_seed(1)  # the model's initialisation drew from it
    made = engine(of)
    assert state() == before
    made.generate(PROMPTS, n=1, sampling=Sampling(max_new_tokens=4))
    assert state() == before


@needs_vllm
@pytest.mark.parametrize("tied", [True, False])
def test_greedy_tokens_and_their_log_probabilities_are_the_trainers(tied: bool) -> None:
    of = model(tie_word_embeddings=tied)
    subject = engine(of)
    for _ in range(3):
        made = subject.generate(PROMPTS, n=1, sampling=GREEDY)
        assert ids(made) == ids(HfEngine(of, STOPS).generate(PROMPTS, n=1, sampling=GREEDY))
        assert gap(of, PROMPTS, made, GREEDY) < 1e-4
        shifted(of)
        subject.sync_weights()


@needs_vllm
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.9), (1.3, 0.8)])
def test_log_probabilities_are_those_of_the_distribution_sampled_from(
    shared: tuple[Any, VllmEngine], temperature: float, top_p: float
) -> None:
    sampling = Sampling(temperature, top_p, 20, seed=4)
    made = shared[1].generate(PROMPTS, n=4, sampling=sampling)
    assert gap(shared[0], PROMPTS, made, sampling) < 1e-4


@needs_vllm
def test_a_sample_depends_on_seed_number_and_sample_alone(shared: tuple[Any, VllmEngine]) -> None:
    sampling = Sampling(max_new_tokens=20, seed=2**62 + 3)
    whole = shared[1].generate(PROMPTS, n=3, sampling=sampling)
    assert whole == shared[1].generate(PROMPTS, n=3, sampling=sampling)
    part = shared[1].generate(PROMPTS[2:3], n=2, sampling=sampling, numbers=[2])
    assert ids(part) == ids([whole[2][:2]])
    other = shared[1].generate(PROMPTS, n=3, sampling=Sampling(max_new_tokens=20, seed=1))
    assert not set(ids(other)) & set(ids(whole))
    assert len(set(ids(whole))) == 12


@needs_vllm
def test_more_prompts_than_one_pass_takes_are_sampled_alike(
    shared: tuple[Any, VllmEngine],
) -> None:
    prompts, sampling = tiny.prompts([199] * 30), Sampling(max_new_tokens=4, seed=6)
    made = shared[1].generate(prompts, n=1, sampling=sampling)
    for number in (0, 20, 29):
        alone = shared[1].generate([prompts[number]], n=1, sampling=sampling, numbers=[number])
        assert ids(alone) == ids([made[number]])


@needs_vllm
def test_stop_tokens_are_kept_and_lengths_respected(shared: tuple[Any, VllmEngine]) -> None:
    made = shared[1].generate(PROMPTS, n=8, sampling=Sampling(max_new_tokens=15, seed=5))
    for one in (one for group in made for one in group):
        assert len(one.token_ids) == len(one.logprobs) <= 15
        assert not set(one.token_ids[:-1]) & set(STOPS)
        assert (one.token_ids[-1] in STOPS) == (one.stop is Stop.EOS)
        assert one.stop is Stop.EOS or len(one.token_ids) == 15
    assert {one.stop for group in made for one in group} == {Stop.EOS, Stop.LENGTH}
    assert shared[1].generate([], n=2, sampling=Sampling()) == []
    with pytest.raises(UsageError, match="context of 256"):
        shared[1].generate(tiny.prompts([250]), n=1, sampling=Sampling(max_new_tokens=20))


@needs_vllm
@pytest.mark.parametrize("swap", [False, True], ids=["merged", "swapped"])
def test_an_adapter_is_sampled_with_as_it_is_trained(swap: bool) -> None:
    of = model()
    adapted = lora.adapt(of, 4, None, seed=1)
    subject = engine(of, adapted=adapted, swap_adapters=swap)
    seen = []
    for _ in range(3):
        made = subject.generate(PROMPTS, n=1, sampling=GREEDY)
        assert ids(made) == ids(HfEngine(of, STOPS).generate(PROMPTS, n=1, sampling=GREEDY))
        assert gap(of, PROMPTS, made, GREEDY) < 1e-4
        seen.append(ids(made))
        shifted(of, 0.1)
        subject.sync_weights()
    assert seen[0] != seen[1] != seen[2]


@needs_vllm
def test_weights_that_do_not_arrive_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    of = model()
    whole = lora.merged_state

    def without_head(model: Any) -> lora.NamedWeights:
        return ((name, w) for name, w in whole(model) if name != "lm_head.weight")

    monkeypatch.setattr(lora, "merged_state", without_head)
    with pytest.raises(RuntimeError, match="vLLM and the trainer compute different models"):
        engine(of).generate(PROMPTS, n=1, sampling=GREEDY)


@needs_vllm
def test_a_mixture_of_experts_that_vllm_reloads_wrongly_on_a_cpu_stops_the_run() -> None:
    """Started from a folder, vLLM 0.32 computes the same model; handed its weights, another."""
    of = experts(head_dim=32, hidden_size=64, moe_intermediate_size=64, vocab_size=260)
    with pytest.raises(RuntimeError, match="vLLM and the trainer compute different models"):
        engine(of).generate(PROMPTS, n=1, sampling=GREEDY)


@needs_vllm
def test_bfloat16_differs_by_rounding_only() -> None:
    of = model(initializer_range=0.1)
    made = engine(of, dtype=torch.bfloat16).generate(
        PROMPTS, n=2, sampling=Sampling(max_new_tokens=24, seed=1)
    )
    assert 1e-4 < gap(of, PROMPTS, made, Sampling()) < 0.3


def agent_on(method: str, rank: int, which: str) -> tuple[Reflective, Any]:
    of = families.model(
        "qwen3-thinking", max_position_embeddings=2048, initializer_range=0.1, head_dim=32
    )
    config = PolicyConfig(
        learning_rate=1e-3,
        warmup_updates=0,
        thinking="on",
        lora_rank=rank,
        engine=which,
        engine_memory=CACHE_GIB,
    )
    policy = Reflective(of, families.tokenizer("qwen3-thinking"), config)
    spec = plugins.method(method)
    return policy, spec.build(policy, spec.config())


def rollouts(agent: Any, update: int) -> tuple[list[Group], Step]:
    sampling = Sampling(max_new_tokens=24, seed=update)
    tasks = [Task(name, "train", f"move {name}") for name in ("red", "blue")]
    made = agent.act([user(t.prompt) for t in tasks], n=2, sampling=sampling, purpose="rollout")
    groups = [
        Group(task, tuple(attempt(task, one, j == 1) for j, one in enumerate(group)))
        for task, group in zip(tasks, made, strict=True)
    ]
    return groups, Step(update, update, 0, sampling, 7 + update)


def rescored(groups: Sequence[Group], policy: LMPolicy, sampling: Sampling) -> list[Group]:
    """The same tokens with the log-probabilities that `policy`'s own model gives them."""

    def turn(old: Turn) -> Turn:
        prompt, said = policy.codec.prompt_ids(old.messages), old.completion
        with torch.no_grad():
            logits = policy.model(torch.tensor([[*prompt, *said.token_ids]])).logits[0]
        own = logprobs_of(logits[len(prompt) - 1 : -1], torch.tensor(said.token_ids), sampling)
        return replace(old, completion=replace(said, logprobs=tuple(own.tolist())))

    return [
        replace(
            group,
            trajectories=tuple(
                replace(one, turns=tuple(map(turn, one.turns))) for one in group.trajectories
            ),
        )
        for group in groups
    ]


@needs_vllm
@pytest.mark.parametrize("rank", [0, 4], ids=["all weights", "lora"])
@pytest.mark.parametrize("method", METHODS)
def test_methods_train_through_vllm_with_the_losses_of_our_own_engine(
    method: str, rank: int
) -> None:
    policy, agent = agent_on(method, rank, "vllm")
    own_policy, twin = agent_on(method, rank, "hf")
    for update in range(3):
        groups, step = rollouts(agent, update)
        metrics: Metrics = agent.learn(groups, step)
        expected = twin.learn(rescored(groups, own_policy, step.sampling), step)
        assert metrics["policy/grad_norm"] > 0
        for name in ("policy/loss", "policy/grad_norm"):
            assert metrics[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-5)
        assert metrics["policy/engine_logprob_gap_max"] < 1e-4
    prompt = policy.codec.prompt_ids(user("move red"))
    own = HfEngine(policy.model, policy.codec.stop_ids)
    after = policy.engine.generate([prompt], n=1, sampling=GREEDY)
    assert ids(after) == ids(own.generate([prompt], n=1, sampling=GREEDY))


@needs_vllm
def test_a_restored_policy_samples_with_the_restored_weights() -> None:
    policy, agent = agent_on("sft", 0, "vllm")
    start = policy.state_dict()
    greedy = {"n": 1, "sampling": GREEDY, "purpose": "evaluation"}
    before = policy.sample([user("move red")], **greedy)  # type: ignore[arg-type]
    for update in range(3):
        agent.learn(*rollouts(agent, update))
    assert policy.sample([user("move red")], **greedy) != before  # type: ignore[arg-type]
    policy.load_state_dict(start)
    assert policy.sample([user("move red")], **greedy) == before  # type: ignore[arg-type]


@needs_vllm
def test_engines_that_take_turns_or_go_do_not_disturb_each_other() -> None:
    first, second = (model(seed=s) for s in (1, 2))
    expected = [
        HfEngine(of, STOPS).generate(PROMPTS, n=1, sampling=GREEDY) for of in (first, second)
    ]
    one = engine(first)
    other = engine(second)
    assert ids(one.generate(PROMPTS, n=1, sampling=GREEDY)) == ids(expected[0])
    assert ids(other.generate(PROMPTS, n=1, sampling=GREEDY)) == ids(expected[1])
    del one
    gc.collect()
    assert ids(other.generate(PROMPTS, n=1, sampling=GREEDY)) == ids(expected[1])


@needs_vllm
def test_a_cache_too_small_for_one_sequence_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"does not start.*--engine-memory.*--context-limit"):
        VllmEngine(model(max_position_embeddings=4096), STOPS, limit=4096, cache_gib=0.001)


def test_without_vllm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UsageError, match=r"pip install .*\[vllm\].*docs/engines.md"):
        engine(model())


def test_heads_that_vllm_does_not_take_on_a_cpu_are_named() -> None:
    with pytest.raises(UsageError, match=r"size 16.*multiples of 32.*--engine fast"):
        engine(tiny.model())
