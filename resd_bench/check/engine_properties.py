"""The properties of an engine, each a function that proves it or raises `PropertyFailed`.

Training relies on them: a method corrects for the distribution that was sampled from, so an engine
that reports other log-probabilities biases the gradient, and nobody notices. Left out: speed,
adapters, and several processes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from scipy.stats import chisquare
from torch import Tensor

from resd_bench.check.engine_subject import (
    NEW,
    SAMPLES,
    Batch,
    EngineSubject,
    Ids,
    every,
    expected_logprobs,
    ids_of,
)
from resd_bench.check.result import PropertyFailed, Skipped, require
from resd_bench.errors import UsageError
from resd_bench.options import field_help
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines.base import Generated, RemoteWeightsEngine
from resd_bench.policy.engines.registry import EngineSpec
from resd_bench.types import Sampling, Stop

_PLAIN = Sampling(max_new_tokens=NEW, seed=1)
_GREEDY = Sampling(temperature=0.0, top_p=0.5, max_new_tokens=NEW)
"""Top-p must not matter."""
SETTINGS = ((1.0, 1.0), (0.7, 1.0), (1.4, 0.8))
"""Temperature and top-p."""
_DRAWS = 1000
CHOICES = 10
"""The perplexity that the choice of a token should have, roughly."""
LEAST_EXPECTED = 5.0
"""Expected draws of a token below which it shares a bin with others."""
UNLIKELY = 1e-6
"""The probability that a correct engine fails: one check in a million."""
LONGEST_CONTEXT = 8192
"""Context length beyond which filling it is not tried."""


def describes(subject: EngineSubject) -> str:
    """The specification is complete, and says how the engine gets its weights."""
    spec = subject.loaded()
    require(isinstance(spec, EngineSpec), f"the entry point is not an EngineSpec: {spec!r}")
    require(spec.name == subject.name, f"it is installed as {subject.name}, named {spec.name}")
    require(bool(spec.summary.strip()), "the summary for `engines list` is empty")
    known = {setting.name for setting in fields(PolicyConfig)}
    unknown = sorted({*spec.options, *spec.required} - known)
    require(not unknown, f"options that no setting has: {', '.join(unknown)}")
    missing = sorted(set(spec.required) - set(spec.options))
    require(not missing, f"required, but not among the options: {', '.join(missing)}")
    own = [option.name for option in fields(spec.config)]
    require(not (both := known & {*own}), f"options called like a setting: {', '.join(both)}")
    untold = sorted({*own} - field_help(spec.config).keys())
    require(not untold, f"options without a docstring under them: {', '.join(untold)}")
    model = subject.weights()
    require(
        spec.supports(model) is True,
        f"supports({type(model).__name__}) is {spec.supports(model)!r}: give a --model it serves",
    )
    told = isinstance(subject.engine(), RemoteWeightsEngine)
    require(
        told == (spec.weights != "trainer"),
        f"its weights are {spec.weights!r}, and it has {'a' if told else 'no'} sync_weights",
    )
    named = ", ".join([*spec.options, *(f"engine.{option}" for option in own)])
    return f"weights: {spec.weights}; options: {named or 'none'}"


def token_ids(subject: EngineSubject) -> str:
    """Ids of the vocabulary, one log-probability each; no prompt, nothing after a stop token."""
    prompts, stops = subject.prompts(), set(subject.stop_ids)
    made = subject.sample(prompts, _PLAIN)
    for prompt, one in every(prompts, made):
        ids, count = one.token_ids, len(one.token_ids)
        require(isinstance(one, Generated), f"a continuation is a {type(one).__name__}")
        require(1 <= count <= NEW, f"{count} tokens of 1 to {NEW} that were asked for")
        odd = [i for i in ids if type(i) is not int or not 0 <= i < subject.vocabulary]
        require(not odd, f"{odd[:3]} are not ids of a vocabulary of {subject.vocabulary}")
        require(len(one.logprobs) == count, f"{len(one.logprobs)} logprobs of {count} tokens")
        require(tuple(ids[: len(prompt)]) != tuple(prompt), "the continuation contains the prompt")
        at = next((at for at, i in enumerate(ids) if i in stops), count)
        require(
            at >= count - 1, f"{count - 1 - at} tokens are given after the stop token {ids[at:]}"
        )
    return f"{_count(made)} samples of {len(prompts)} prompts"


def greedy(subject: EngineSubject) -> str:
    """At temperature 0, the most likely token, with its log-probability at temperature 1."""
    prompts = subject.prompts()
    made = subject.sample(prompts, _GREEDY, n=1)
    for prompt, one in every(prompts, made):
        logits = subject.logits(prompt, one.token_ids)
        chosen = logits.gather(-1, torch.tensor(one.token_ids)[:, None])[:, 0]
        behind = float((logits.max(-1).values - chosen).max())
        require(
            behind <= subject.tolerance, f"a token is {behind:.3g} nats less likely than the best"
        )
    return f"{_tokens(made)} tokens; {_logprobs(subject, prompts, made, _GREEDY)}"


def logprobs(subject: EngineSubject) -> str:
    """Log-probabilities are those of the distribution sampled from, after temperature and top-p."""
    prompts, told = subject.prompts(), []
    for temperature, top_p in SETTINGS:
        sampling = replace(_PLAIN, temperature=temperature, top_p=top_p)
        made = subject.sample(prompts, sampling)
        words = _logprobs(subject, prompts, made, sampling)
        told.append(f"temperature {temperature:g}, top-p {top_p:g}: {words}")
    return "; ".join(told)


def _logprobs(subject: EngineSubject, prompts: list[list[int]], made: Batch, how: Sampling) -> str:
    largest = max(subject.gap(prompt, one, how) for prompt, one in every(prompts, made))
    setting = f"temperature {how.temperature:g} and top-p {how.top_p:g}"
    require(largest < float("inf"), f"a token outside the nucleus was drawn at {setting}")
    require(
        largest <= subject.tolerance,
        f"log-probabilities differ by {largest:.3g} nats from those of transformers at {setting}; "
        f"{subject.tolerance:g} are allowed",
    )
    return f"within {largest:.1g} nats"


def frequencies(subject: EngineSubject) -> str:
    """Tokens are drawn as often as their probabilities say, the first and the second alike."""
    how = Sampling(temperature=0.8, top_p=0.9, max_new_tokens=2, seed=3)
    # Enough to choose from, but not so much that few draws coincide.
    prompt = min(
        subject.prompts(), key=lambda prompt: abs(_choices(_next(subject, prompt, how)) - CHOICES)
    )
    pairs = [one.token_ids for one in subject.sample([prompt], how, n=_DRAWS)[0]]
    first = Counter(pair[0] for pair in pairs)
    _as_expected(first, _next(subject, prompt, how), "first")
    going_on = Counter({i: c for i, c in first.items() if i not in subject.stop_ids})
    require(bool(going_on), "every sample ended after its first token")
    common, count = going_on.most_common(1)[0]
    second = Counter(pair[1] for pair in pairs if pair[0] == common and len(pair) == 2)
    _as_expected(second, _next(subject, [*prompt, common], how), "second")
    return f"{_DRAWS} draws of {len(first)} tokens, {count} of {len(second)} after the most common"


def _next(subject: EngineSubject, prompt: Ids, how: Sampling) -> Tensor:
    """Probabilities [V] of the token after the prompt."""
    return expected_logprobs(subject.logits(prompt, [0]), how)[0].exp()


def _choices(probs: Tensor) -> float:
    """The perplexity of a distribution."""
    return float(torch.special.entr(probs).sum().exp())


def _as_expected(drawn: Counter[int], probs: Tensor, which: str) -> None:
    """PropertyFailed if frequencies are further from probabilities than chance explains."""
    bins = _bins(probs * drawn.total())
    seen = [sum(drawn[i] for i in ids) for ids in bins]
    expected = [float(probs[ids].sum()) * drawn.total() for ids in bins]
    scale = sum(seen) / sum(expected)
    p = float(chisquare(seen, [e * scale for e in expected]).pvalue) if len(bins) > 1 else 1.0
    require(
        p > UNLIKELY,
        f"the {which} of {drawn.total()} draws is not distributed as the model says (p = {p:.1g}): "
        f"the most likely tokens were drawn {seen[0]} times, {expected[0]:.0f} were expected",
    )


def _bins(expected: Tensor) -> list[list[int]]:
    """All tokens, the most expected first, in bins of at least `LEAST_EXPECTED` draws."""
    bins: list[list[int]] = []
    room = 0.0
    for i in expected.argsort(descending=True).tolist():
        if room <= 0:
            bins.append([])
            room = LEAST_EXPECTED
        bins[-1].append(i)
        room -= float(expected[i])
    if len(bins) > 1 and room > 0:
        last = bins.pop()
        bins[-1] += last
    return bins


def stops(subject: EngineSubject) -> str:
    """A stop token ends a sample as `EOS`, the limit ends it as `LENGTH`, and nothing else does."""
    prompts, ends = subject.prompts(), Counter[Stop]()
    for most in (1, NEW):
        how = replace(_PLAIN, max_new_tokens=most, seed=5)
        for _, one in every(prompts, subject.sample(prompts, how)):
            last, count = one.token_ids[-1], len(one.token_ids)
            stopped = last in subject.stop_ids
            require(
                one.stop is (Stop.EOS if stopped else Stop.LENGTH),
                f"a sample whose last token {'ends' if stopped else 'does not end'} a turn says "
                f"{one.stop!r}",
            )
            require(
                stopped or count == most,
                f"a sample ended after {count} of {most} tokens without a reason",
            )
            ends[one.stop] += 1
    require(ends.keys() >= {Stop.EOS, Stop.LENGTH}, f"all samples ended the same way: {dict(ends)}")
    return f"{ends[Stop.EOS]} ended by a token, {ends[Stop.LENGTH]} by the limit"


def streams(subject: EngineSubject) -> str:
    """A sample depends on (seed, number of its prompt, its own number) and on nothing else."""
    prompts = subject.prompts()
    before = _generators()
    whole = ids_of(subject.sample(prompts, _PLAIN))
    require(_generators() == before, "a global random generator was advanced")
    _move_generators()
    require(ids_of(subject.sample(prompts, _PLAIN)) == whole, "the same seed gave other samples")
    other = ids_of(subject.sample(prompts, replace(_PLAIN, seed=2)))
    require(other != whole, "another seed gave the same samples")
    numbers = list(range(len(prompts)))
    order = numbers[::-1]
    turned = ids_of(subject.sample([prompts[i] for i in order], _PLAIN, numbers=order))
    require(turned[::-1] == whole, "samples depend on the order of the prompts, which have numbers")
    alone = ids_of(subject.sample(prompts[3:4], _PLAIN, numbers=[3]))
    require(alone == whole[3:4], "a sample depends on what is decoded with it")
    more = ids_of(subject.sample(prompts, _PLAIN, n=SAMPLES + 2))
    require([g[:SAMPLES] for g in more] == whole, "the first samples depend on how many there are")
    twins = ids_of(subject.sample([prompts[0]] * 2, _PLAIN, n=2))
    distinct = set(chain.from_iterable(twins))
    require(len(distinct) == 4, f"{4 - len(distinct)} of 4 samples of one prompt are repetitions")
    same = ids_of(subject.sample([prompts[0]] * 2, _PLAIN, n=2, numbers=[7, 7]))
    require(same[0] == same[1], "two prompts with one number have two streams")
    return f"{len(prompts) * SAMPLES} samples: alone, in another order, with more, and again"


def _generators() -> tuple[bytes, str, Any]:
    """States of the global random generators."""
    _, keys, *position = np.random.get_state()
    numpy_state = f"{np.asarray(keys).tobytes().hex()} {position}"
    return torch.get_rng_state().numpy().tobytes(), numpy_state, random.getstate()


def _move_generators() -> None:
    torch.rand(1)
    np.random.random()
    random.random()


def turns(subject: EngineSubject) -> str:
    """A prompt that extends an earlier sample is answered as if nothing had been read before."""
    engine, prompts = subject.fresh(), subject.prompts()
    first = subject.sample(prompts, _PLAIN, n=1, engine=engine)
    longer = _longer(prompts, first)
    there = subject.sample(longer, _PLAIN, engine=engine)
    anew = subject.sample(longer, _PLAIN, engine=subject.fresh())
    require(ids_of(there) == ids_of(anew), "a later turn is not answered as it is from scratch")
    return f"{len(longer)} episodes; {_logprobs(subject, longer, there, _PLAIN)}"


def _longer(prompts: list[list[int]], made: Batch) -> list[list[int]]:
    """The next turn of each prompt: the prompt, the answer to it, and three more tokens."""
    return [
        [*prompt, *group[0].token_ids, 3, 5, 8] for prompt, group in zip(prompts, made, strict=True)
    ]


def weights(subject: EngineSubject) -> str:
    """After the weights changed, and sync_weights if it has that, it samples from the new ones."""
    spec = subject.loaded()
    if spec.adapters_only:
        raise Skipped("it takes the weights of an adapter only, which this check does not train")
    engine, prompts = subject.fresh(), subject.prompts()
    before = subject.sample(prompts, _PLAIN, engine=engine)
    longer = _longer(prompts, before)
    with subject.other_weights():
        subject.tell(engine)
        try:
            # First the prompts that extend what the old weights have read.
            after = subject.sample(longer, _PLAIN, engine=engine)
            _logprobs(subject, longer, after, _PLAIN)
            words = _logprobs(
                subject, prompts, subject.sample(prompts, _PLAIN, engine=engine), _PLAIN
            )
        except PropertyFailed as failed:
            raise PropertyFailed(f"it samples with the old weights: {failed}") from None
    subject.tell(engine)
    again = subject.sample(prompts, _PLAIN, engine=engine)
    require(ids_of(again) == ids_of(before), "restored weights give other samples")
    return f"changed and restored; {words}"


def context(subject: EngineSubject) -> str:
    """A context can be filled to its last token; what cannot be served is a UsageError."""
    engine, limit, new = subject.engine(), subject.limit, 4
    how = replace(_PLAIN, max_new_tokens=new)
    short = subject.prompts((3,))
    require(engine.generate([], n=2, sampling=how) == [], "no prompts gave samples")
    asked = [(short, 0, how), (short, 1, replace(how, max_new_tokens=0))]
    asked += [(short, 1, replace(how, top_p=0.0)), (short, 1, replace(how, temperature=-1.0))]
    if limit > LONGEST_CONTEXT:
        filled = f"; {limit} tokens are not filled to try"
    else:
        subject.sample(subject.prompts((limit - new,)), how, n=1)
        asked.append((subject.prompts((limit - new + 1,)), 1, how))
        filled = f"; {limit} tokens filled, one more refused"
    for prompts, n, sampling in asked:
        doing = f"n = {n}, a prompt of {len(prompts[0])} tokens, {sampling}"
        try:
            engine.generate(prompts, n=n, sampling=sampling)
        except UsageError:
            continue
        raise PropertyFailed(f"was served but should have been refused: {doing}")
    return f"{len(asked)} requests refused{filled}"


def _count(made: Batch) -> int:
    return sum(map(len, made))


def _tokens(made: Batch) -> int:
    return sum(len(one.token_ids) for group in made for one in group)


ENGINE_PROPERTIES: Mapping[str, Callable[[EngineSubject], str]] = {
    "spec": describes,
    "token ids": token_ids,
    "greedy": greedy,
    "logprobs": logprobs,
    "frequencies": frequencies,
    "stops": stops,
    "streams": streams,
    "turns": turns,
    "weights": weights,
    "context": context,
}
