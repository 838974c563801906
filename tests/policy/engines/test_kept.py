"""Later turns of episodes, read from where the last one ended."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch

from resd_bench.policy import limits
from resd_bench.policy.engines import fast
from resd_bench.policy.engines.base import Generated
from resd_bench.policy.engines.fast import FastEngine
from resd_bench.policy.engines.prefix_cache import (
    CachedSequence,
    PrefixCache,
    common,
    weights_fingerprint,
)
from resd_bench.types import Sampling
from tests.policy import tiny

pytestmark = pytest.mark.usefixtures("each_layout")

STOPS = [1, *range(4, 40)]
DRAWN = Sampling(temperature=1.0, max_new_tokens=12, seed=5)

Prompts = list[list[int]]


def fast_engine(model: Any) -> FastEngine:
    return FastEngine(model, STOPS, 0)


def said(tokens: str, prompt: int, cache: torch.Tensor | None = None) -> CachedSequence:
    return CachedSequence(tuple(map(ord, tokens)), prompt, cache, 0, 0)


def test_common_beginnings_are_counted() -> None:
    rng = random.Random(0)
    for _ in range(300):
        one, other = (tuple(rng.randrange(2) for _ in range(rng.randrange(9))) for _ in range(2))
        expected = 0
        while expected < min(len(one), len(other)) and one[expected] == other[expected]:
            expected += 1
        assert common(one, other) == expected


def test_the_longest_beginning_is_found_among_many() -> None:
    rng, cache = random.Random(1), torch.empty(1, 2, 1, 1, 9, 1)
    for _ in range(300):
        some = ["".join(rng.choices("ab", k=rng.randrange(1, 9))) for _ in range(6)]
        asked = "".join(rng.choices("ab", k=7))
        found = PrefixCache([said(s, 1, cache) for s in some]).beginning([ord(c) for c in asked])
        best = max(common(tuple(map(ord, s)), tuple(map(ord, asked[:-1]))) for s in some)
        assert (found.tokens if found else 0) == best


def test_a_call_goes_on_where_it_reaches_into_an_answer() -> None:
    memory = PrefixCache([said("question", 8), said("other: answer", 6)])
    assert memory.goes_on([[ord(c) for c in "other: answer. And now?"]])
    assert not memory.goes_on([[ord(c) for c in "question two"]])
    assert not memory.goes_on([[ord(c) for c in "other: "[:6]]])
    assert not PrefixCache().goes_on([[1, 2, 3]])
    assert not memory.goes_on([])


def test_a_fingerprint_tells_the_smallest_change_of_a_weight() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        weights = [torch.randn(40, 30, dtype=dtype), torch.randn(7, dtype=dtype)]
        before = weights_fingerprint(weights)
        assert torch.equal(before, weights_fingerprint([w.clone() for w in weights]))
        weights[1][3] = torch.nextafter(weights[1][3], torch.tensor(9.0, dtype=dtype))
        assert weights_fingerprint(weights).ne(before).tolist() == [False, True]


def assert_same(made: list[list[Generated]], expected: list[list[Generated]]) -> None:
    assert [len(group) for group in made] == [len(group) for group in expected]
    for one, other in zip(chain(*made), chain(*expected), strict=True):
        assert one.token_ids == other.token_ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=2e-4)


def next_turn(prompts: Prompts, made: list[list[Generated]], turn: int) -> Prompts:
    """Every sample of every prompt, extended by a reply to it of any length."""
    rows = [(p, one) for p, group in zip(prompts, made, strict=True) for one in group]
    said_to = tiny.prompts([1 + (7 * i + 5 * turn) % 13 for i in range(len(rows))], seed=turn)
    return [[*p, *one.token_ids, *new] for (p, one), new in zip(rows, said_to, strict=True)]


def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens that each call projects in the first layer, filled in as calls are made."""
    counts: list[int] = []
    project = fast._project

    def counting(w: Any, layer: Any, x: Any, cos: Any, sin: Any) -> Any:
        if layer is w.layers[0]:
            counts[-1] += len(x)
        return project(w, layer, x, cos, sin)

    monkeypatch.setattr(fast, "_project", counting)
    return counts


@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize("n", [1, 3])
def test_episodes_say_what_they_would_say_without_memory(
    heads: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model(num_key_value_heads=heads, max_position_embeddings=512)
    engine, prompts, counts = (
        fast_engine(model),
        tiny.prompts([30, 45, 38, 61, 30]),
        read(monkeypatch),
    )
    alone = []
    for turn in range(5):
        samples = n if turn == 0 else 1
        counts.append(0)
        made = engine.generate(prompts, n=samples, sampling=DRAWN)
        remembered = counts.pop()
        counts.append(0)
        fresh = fast_engine(model).generate(prompts, n=samples, sampling=DRAWN)
        alone.append((remembered, counts.pop()))
        assert_same(made, fresh)
        lengths = {len(one.token_ids) for group in made for one in group}
        assert len(lengths) > 2, "the case should drop rows at several steps"
        prompts = next_turn(prompts, made, turn)
    assert alone[0][0] == alone[0][1]
    assert alone[1][0] == alone[1][1], "the second turn is the first that is seen to go on"
    for remembered, without in alone[2:]:
        assert remembered < 0.6 * without


def test_two_groups_of_episodes_that_take_turns_are_both_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny.model(max_position_embeddings=512)
    counts = read(monkeypatch)

    def play(engine: FastEngine | None, named: bool) -> list[int]:
        groups, found = [tiny.prompts([30, 45, 38], 1), tiny.prompts([61, 30], 2)], []
        for turn in range(4):
            for place, prompts in enumerate(groups):
                streams = tuple(range(9 * turn, 9 * turn + len(prompts)))
                how = replace(DRAWN, streams=streams if named else ())
                counts.append(0)
                fresh = fast_engine(model).generate(prompts, n=1, sampling=DRAWN, numbers=streams)
                made = fresh
                if engine:
                    counts.append(0)
                    made = engine.generate(prompts, n=1, sampling=how, numbers=streams)
                    assert_same(made, fresh)
                found.append(counts[-1])
                groups[place] = next_turn(prompts, made, turn)
                if place and turn == 2 and named:
                    # One group is replaced by new episodes at once: the other is not forgotten.
                    groups[place] = tiny.prompts([33, 41], 3)
        return found

    fresh, forgotten, kept = (
        play(None, True),
        play(fast_engine(model), False),
        play(fast_engine(model), True),
    )
    assert forgotten[4:6] == fresh[4:6], "without names, only the last call is remembered"
    assert all(few < 0.6 * whole for few, whole in zip(kept[4:7], fresh[4:7], strict=True))


def test_no_cache_of_other_weights_is_remembered() -> None:
    cache, weights = torch.empty(1, 2, 1, 1, 9, 1), torch.tensor([1, 2])
    before = PrefixCache([said("one", 1, cache)], weights)
    for now, kept in ((weights.clone(), True), (weights + 1, False), (None, False)):
        memory = PrefixCache([said("two", 1, cache)], now, before)
        assert memory.goes_on([[ord(c) for c in "one more"]])
        assert (memory.beginning([ord(c) for c in "one more"]) is not None) == kept
        third = PrefixCache([said("three", 1, cache)], now, memory)
        assert not third.goes_on([[ord(c) for c in "one more"]])


def goes_on(model: Any, engine: FastEngine) -> Prompts:
    """Two turns are played; the prompts of the third."""
    prompts = tiny.prompts([30, 45, 38])
    for turn in range(2):
        made = engine.generate(prompts, n=1, sampling=DRAWN)
        prompts = next_turn(prompts, made, turn)
    return prompts


def test_a_prompt_whose_tokens_were_made_anew_is_read_from_where_it_differs() -> None:
    model = tiny.model()
    engine = fast_engine(model)
    prompts = goes_on(model, engine)
    prompts[1][20] = 90
    prompts[2] = tiny.prompts([50], seed=77)[0]
    made = engine.generate(prompts, n=2, sampling=DRAWN)
    assert_same(made, fast_engine(model).generate(prompts, n=2, sampling=DRAWN))


def test_what_other_weights_read_is_not_used() -> None:
    model = tiny.model()
    engine = fast_engine(model)
    prompts = goes_on(model, engine)
    with torch.no_grad():
        model.model.layers[0].self_attn.v_proj.weight.add_(0.3)
    made = engine.generate(prompts, n=1, sampling=DRAWN)
    assert_same(made, fast_engine(model).generate(prompts, n=1, sampling=DRAWN))


@pytest.mark.parametrize("budget", [1, 130, 200])
def test_chunks_and_a_full_memory_change_nothing(
    budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FAST_KEPT_BYTES", 100_000)
    model = tiny.model()
    engine = FastEngine(model, STOPS, 0, max_batch_tokens=budget)
    prompts = goes_on(model, engine)
    made = engine.generate(prompts, n=2, sampling=DRAWN)
    assert_same(made, fast_engine(model).generate(prompts, n=2, sampling=DRAWN))


def test_a_call_about_something_else_keeps_nothing() -> None:
    model = tiny.model()
    engine = fast_engine(model)
    prompts = goes_on(model, engine)
    engine.generate(prompts, n=1, sampling=DRAWN)
    assert engine._memory.weights is not None
    engine.generate(tiny.prompts([8, 9], seed=40), n=1, sampling=DRAWN)
    assert engine._memory.weights is None
    assert all(one.cache is None for one in engine._memory._said)
