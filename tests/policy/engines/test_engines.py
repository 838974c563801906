"""Sampling engines against `transformers`, against each other, and against probability theory."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch

from resd_bench.errors import UsageError
from resd_bench.policy.engines.base import Generated, choose, logprobs_of
from resd_bench.policy.engines.fast import FastEngine, supports
from resd_bench.policy.engines.hf import HfEngine
from resd_bench.policy.engines.matrices import Matrix, can_pack
from resd_bench.types import Sampling, Stop
from tests.policy import tiny

pytestmark = pytest.mark.usefixtures("each_layout")

LENGTHS = [5, 30, 17, 30, 1, 64, 3]
GREEDY = Sampling(temperature=0.0, max_new_tokens=30)
STOPS = [1, *range(4, 20)]

MODELS: list[tuple[str, dict[str, Any]]] = [
    ("qwen3", {"num_key_value_heads": 4}),
    ("qwen3", {"num_key_value_heads": 2}),
    ("qwen3", {"num_key_value_heads": 1, "tie_word_embeddings": False, "attention_bias": True}),
    ("qwen3", {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}}),
    ("qwen2", {}),
    ("llama", {"attention_bias": True}),
]


def fast(model: Any, **options: Any) -> FastEngine:
    return FastEngine(model, STOPS, 0, **options)


def ids(made: list[list[Generated]]) -> list[tuple[int, ...]]:
    return [one.token_ids for group in made for one in group]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "changes"), MODELS)
def test_greedy_decoding_equals_transformers_exactly(family: str, changes: dict[str, Any]) -> None:
    model, prompts = tiny.model(family, **changes), tiny.prompts(LENGTHS)
    expected = []
    for prompt in prompts:
        out = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=30,
            eos_token_id=STOPS,
            pad_token_id=0,
        )
        expected.append(tuple(out[0, len(prompt) :].tolist()))
    assert len({len(e) for e in expected}) > 1, "the case should stop some rows early"
    assert ids(fast(model).generate(prompts, n=1, sampling=GREEDY)) == expected
    assert ids(HfEngine(model, STOPS).generate(prompts, n=1, sampling=GREEDY)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_sample_does_not_depend_on_what_is_decoded_beside_it(top_p: float) -> None:
    model, prompts = tiny.model(), tiny.prompts(LENGTHS)
    sampling = Sampling(temperature=1.0, top_p=top_p, max_new_tokens=30, seed=2**62 + 3)
    whole = fast(model).generate(prompts, n=3, sampling=sampling)
    for budget in (1, 150, 400):
        split = fast(model, max_batch_tokens=budget).generate(prompts, n=3, sampling=sampling)
        assert ids(split) == ids(whole)
    assert ids(HfEngine(model, STOPS).generate(prompts, n=3, sampling=sampling)) == ids(whole)
    part = fast(model).generate(prompts[2:4], n=2, sampling=sampling, numbers=[2, 3])
    assert ids(part) == ids([group[:2] for group in whole[2:4]])
    lengths = {len(row) for row in ids(whole)}
    assert len(lengths) > 5, "the case should drop rows at many steps"


def test_samples_of_one_prompt_differ_and_the_seed_decides_them() -> None:
    engine, prompts = fast(tiny.model()), tiny.prompts([9])
    first = ids(engine.generate(prompts, n=4, sampling=Sampling(seed=1, max_new_tokens=20)))
    again = ids(engine.generate(prompts, n=4, sampling=Sampling(seed=1, max_new_tokens=20)))
    other = ids(engine.generate(prompts, n=4, sampling=Sampling(seed=2, max_new_tokens=20)))
    assert first == again
    assert len(set(first)) == 4
    assert first != other


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.3, 0.8), (0.0, 1.0)])
def test_logprobs_are_those_of_the_distribution_sampled_from(
    temperature: float, top_p: float
) -> None:
    model, prompts = tiny.model(initializer_range=0.15), tiny.prompts([6, 11])
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new_tokens=12)
    for made in (e.generate(prompts, n=2, sampling=sampling) for e in engines(model)):
        for prompt, group in zip(prompts, made, strict=True):
            for one in group:
                full = torch.tensor([[*prompt, *one.token_ids]])
                logits = model(full).logits[0, len(prompt) - 1 : -1].detach().double()
                expected = reference_logprobs(logits, temperature, top_p)
                chosen = [expected[t][i] for t, i in enumerate(one.token_ids)]
                assert one.logprobs == pytest.approx(chosen, abs=2e-4)


def engines(model: Any) -> list[Any]:
    return [fast(model), HfEngine(model, STOPS)]


def reference_logprobs(
    logits: torch.Tensor, temperature: float, top_p: float
) -> list[dict[int, float]]:
    """Log-probabilities of the kept tokens, position by position, by the definition."""
    rows = []
    for row in (logits / (temperature or 1.0)).softmax(-1).tolist():
        kept: dict[int, float] = {}
        for index in sorted(range(len(row)), key=lambda i: -row[i]):
            if sum(kept.values()) >= top_p:
                break
            kept[index] = row[index]
        rows.append({i: math.log(p / sum(kept.values())) for i, p in kept.items()})
    return rows


def test_tokens_are_drawn_with_their_probabilities() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    u = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    drawn, logprobs = choose(logits.expand(10_000, 4), u, Sampling())
    counts = Counter(drawn.tolist())
    expected = logits[0].softmax(-1)
    for token in range(4):
        assert counts[token] / 10_000 == pytest.approx(float(expected[token]), abs=2e-4)
    assert logprobs == pytest.approx(expected.log()[drawn])


@pytest.mark.parametrize(("top_p", "kept"), [(0.5, 1), (0.51, 2), (0.8, 2), (0.81, 3), (1.0, 4)])
def test_top_p_keeps_the_smallest_sufficient_set(top_p: float, kept: int) -> None:
    probs = torch.tensor([[0.3, 0.05, 0.5, 0.15]])
    u = torch.linspace(0, 1 - 1e-9, 999, dtype=torch.float64)
    drawn, _ = choose(probs.log().expand(999, 4), u, Sampling(top_p=top_p - 1e-6))
    assert set(drawn.tolist()) == set([2, 0, 3, 1][:kept])


def test_a_uniform_next_to_one_never_leaves_the_nucleus() -> None:
    logits = torch.full((1, 1000), -50.0)
    logits[0, :3] = torch.tensor([1.0, 1.0, 1.0])
    u = torch.tensor([1 - 2**-53], dtype=torch.float64)
    token, logprob = choose(logits, u, Sampling(top_p=0.99))
    assert int(token) == 2
    assert float(logprob) == pytest.approx(math.log(1 / 3), abs=1e-6)


@pytest.mark.parametrize("top_p", [1e-9, 0.3, 0.95, 0.999999])
@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0, 30.0])
def test_the_nucleus_of_a_large_vocabulary_is_that_of_sorting(top_p: float, spread: float) -> None:
    logits = spread * torch.randn(19, 20_000, generator=torch.Generator().manual_seed(1))
    logits[:, ::7] = logits[:, :1]  # ties
    logits[3] = -torch.inf
    logits[3, 5] = 0.0
    u = torch.linspace(0, 0.9999, 19, dtype=torch.float64)
    drawn = choose(logits, u, Sampling(top_p=top_p))
    probs = logits.softmax(-1).sort(-1, descending=True).values
    before = probs.double().cumsum(-1) - probs
    least = torch.where(before < top_p, probs, torch.inf).min(-1, keepdim=True).values
    kept = logits.softmax(-1) * (logits.softmax(-1) >= least)
    nucleus = kept.cumsum(-1, dtype=torch.float64)
    ids = torch.searchsorted(nucleus, u[:, None] * nucleus[:, -1:], right=True)
    assert torch.equal(drawn[0], ids[:, 0])
    assert torch.allclose(drawn[1].double(), (kept.gather(-1, ids) / nucleus[:, -1:]).log()[:, 0])


def test_a_row_of_a_large_vocabulary_that_is_not_finite_is_told() -> None:
    logits = torch.zeros(2, 20_000)
    logits[1, 7] = torch.nan
    u = torch.full((2,), 0.5, dtype=torch.float64)
    _, logprobs = choose(logits, u, Sampling(top_p=0.9))
    assert logprobs.isnan().tolist() == [False, True]


def test_stops_are_kept_and_lengths_are_respected() -> None:
    model, prompts = tiny.model(), tiny.prompts(LENGTHS)
    sampling = Sampling(max_new_tokens=25, seed=5)
    for group in fast(model).generate(prompts, n=4, sampling=sampling):
        for one in group:
            assert len(one.token_ids) == len(one.logprobs) <= 25
            assert not set(one.token_ids[:-1]) & set(STOPS)
            assert (one.token_ids[-1] in STOPS) == (one.stop is Stop.EOS)
            assert one.stop is Stop.EOS or len(one.token_ids) == 25


def test_weights_are_read_anew_at_every_call() -> None:
    model, prompts = tiny.model(), tiny.prompts([8])
    engine = fast(model)
    before = engine.generate(prompts, n=1, sampling=GREEDY)
    model.load_state_dict(tiny.model(seed=1).state_dict())
    after = engine.generate(prompts, n=1, sampling=GREEDY)
    assert ids(after) != ids(before)
    assert ids(after) == ids(fast(tiny.model(seed=1)).generate(prompts, n=1, sampling=GREEDY))


@pytest.mark.parametrize("engine_type", [FastEngine, HfEngine])
def test_a_prompt_beyond_the_context_is_a_usage_error_that_names_the_flag(engine_type: Any) -> None:
    engine = engine_type(tiny.model(max_position_embeddings=64), STOPS, 0)
    fits = tiny.prompts([44])
    assert len(engine.generate(fits, n=1, sampling=Sampling(max_new_tokens=20))[0]) == 1
    with pytest.raises(
        UsageError, match=r"45 tokens.*context of 64.*--max-new-tokens of at most 19"
    ):
        engine.generate(tiny.prompts([45]), n=1, sampling=Sampling(max_new_tokens=20))


def test_no_prompts_give_no_samples() -> None:
    for engine in engines(tiny.model()):
        assert engine.generate([], n=2, sampling=Sampling()) == []


def test_sliding_windows_and_adapters_are_left_to_the_other_engine() -> None:
    windowed = tiny.model(
        use_sliding_window=True, sliding_window=4, max_window_layers=0, num_hidden_layers=2
    )
    assert not supports(windowed)
    with pytest.raises(ValueError, match="HfEngine"):
        fast(windowed)
    assert supports(tiny.model())


def test_bfloat16_decoding_stays_close_to_float32() -> None:
    model, prompts = tiny.model(initializer_range=0.1), tiny.prompts(LENGTHS)
    made = fast(model, dtype=torch.bfloat16).generate(
        prompts, n=1, sampling=Sampling(max_new_tokens=1, seed=3)
    )
    for prompt, group in zip(prompts, made, strict=True):
        logprobs = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        assert group[0].logprobs[0] == pytest.approx(
            float(logprobs[group[0].token_ids[0]].detach()), abs=0.2
        )


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("tokens", [8193, 20_000, 1 << 14])
def test_a_token_of_a_large_vocabulary_is_the_one_that_all_sums_choose(
    tokens: int, scale: float
) -> None:
    make = torch.Generator().manual_seed(tokens)
    logits = scale * torch.randn(64, tokens, generator=make)
    # Mass in the first and last tokens alone, and whole blocks without any.
    logits[:8, 300:-300] = -torch.inf
    logits[8:16, 1:] = -torch.inf
    logits[16:24, :-1] = -torch.inf
    logits[24:32, 128:] = -torch.inf
    u = torch.rand(64, generator=make, dtype=torch.float64)
    u[::8], u[1::8], u[2::8] = 0, 1 - 2**-53, 1e-300
    for top_p in (1.0, 0.9):
        chosen, logprobs = choose(logits, u, Sampling(top_p=top_p))
        probs = logits.softmax(-1)
        if top_p < 1:
            least = logprobs_of(logits, chosen, Sampling(top_p=top_p))
            torch.testing.assert_close(logprobs, least, atol=1e-4, rtol=0)
            continue
        sums = probs.double().cumsum(-1)
        sums /= sums[:, -1:].clone()
        below = torch.where(chosen > 0, sums.gather(1, (chosen - 1).clamp(min=0)[:, None])[:, 0], 0)
        assert (below <= u + 1e-12).all()
        assert (sums.gather(1, chosen[:, None])[:, 0] >= u - 1e-12).all()
        assert (probs.gather(1, chosen[:, None]) > 0).all()


def test_a_large_vocabulary_with_nan_is_found() -> None:
    logits = torch.zeros(2, 8193)
    logits[1, 5000] = torch.nan
    _, logprobs = choose(logits, torch.tensor([0.5, 0.5]).double(), Sampling())
    assert logprobs.isnan().tolist() == [False, True]


@pytest.mark.parametrize("rows", [1, 7, 64, 300])
def test_packed_products_have_the_bits_of_others_in_bfloat16(rows: int) -> None:
    if not can_pack(torch.device("cpu"), torch.bfloat16):
        pytest.skip("NOT TESTED: this processor has no packed products in bfloat16")
    make = torch.Generator().manual_seed(rows)
    for inputs, outputs in ((256, 256), (576, 960), (1536, 576)):
        x, weight, to, bias = (
            torch.randn(size, generator=make).bfloat16()
            for size in ((rows, inputs), (outputs, inputs), (rows, outputs), (outputs,))
        )
        plain, packed, kept = Matrix(weight), Matrix(weight), to.clone()
        packed.pack()
        assert packed.packed
        assert torch.equal(packed.times(x), plain.times(x))
        assert torch.equal(packed.times(x, bias), plain.times(x, bias))
        assert torch.equal(packed.added(to, x), plain.added(to, x))
        assert torch.equal(to, kept)
