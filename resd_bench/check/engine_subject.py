"""An engine under test: built for a model, called step by step, and what is expected of it.

Expected values come from one plain forward pass of `transformers` over prompt and completion, in
float64 after the logits; it shares no code with the engines. Left out: large models, whose forward
pass over a whole vocabulary would take long.

Shapes: T response tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resd_bench.check.env_subject import Called, Watch, not_watched
from resd_bench.check.result import Skipped, require
from resd_bench.errors import UsageError, near_miss
from resd_bench.options import options_from
from resd_bench.policy import loading
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines import registry
from resd_bench.policy.engines.base import (
    Engine,
    Generated,
    RemoteWeightsEngine,
    context_limit,
)
from resd_bench.policy.engines.registry import EngineSetup, EngineSpec
from resd_bench.seeds import stream
from resd_bench.types import Sampling

LENGTHS = (5, 17, 2, 17, 33, 9)
"""Lengths of the prompts, in tokens."""
NEW = 24
"""Maximum number of tokens sampled for each."""
SAMPLES = 3
"""Samples of each prompt."""
STOP_EVERY = 16
"""One in this many ids ends a turn, so that some samples end early and some do not."""
_TOLERANCE = 1e-3
"""Difference in nats between an engine's log-probability and ours that is float32 rounding."""
EDGE = 1e-5
"""Within this margin of top-p, the sum of probabilities does not decide about the last token."""

Ids = Sequence[int]
Batch = list[list[Generated]]


@dataclass
class EngineSubject(Called):
    """The engine that the properties examine; see the module."""

    name: str
    spec: EngineSpec | None = None
    model: Any = None
    """A Hugging Face model, its folder or its name; None is a small random one."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `PolicyConfig`, such as `server`, and options of the engine's own."""
    device: str = "cpu"
    """The device of the model."""
    tolerance: float = _TOLERANCE
    installed: bool = False
    """Whether this process exists only for the check."""
    seconds: float = 0.0
    deadline: float = 300.0
    watch: Watch = not_watched
    doing: str = ""
    slowest: tuple[float, str] = (0.0, "nothing")
    _engine: Engine | None = None
    _unbuilt: bool = False

    def loaded(self) -> EngineSpec:
        """The engine's specification."""
        if self.spec is None:
            spec = self.call("importing it", lambda: registry.find_engine(self.name))
            require(spec is not None, "`auto` is a choice among engines: check one of them")
            self.spec = spec
        assert self.spec is not None
        return self.spec

    def config(self) -> PolicyConfig:
        """The settings that the engine is built with."""
        known = {setting.name for setting in fields(PolicyConfig)}
        own = {setting.name for setting in fields(self.loaded().config)}
        for option in self.options:
            if option not in known | own:
                raise near_miss("option of an engine", option, sorted(known | own))
        given = {k: v for k, v in self.options.items() if k in own}
        settings = {k: v for k, v in self.options.items() if k not in own}
        return PolicyConfig(**settings, engine_options=given)

    def weights(self) -> Any:
        """The model that the engine samples from."""
        if self.model is None:
            self.model = small_model().to(self.device)
        elif isinstance(self.model, str | Path):
            self.model = loading.load_model(self.model, device=self.device)[0].eval()
        if self.installed:
            loading.set_threads(None, self.model)
        return self.model

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return int(self.weights().get_input_embeddings().weight.shape[0])

    @property
    def stop_ids(self) -> list[int]:
        """Tokens that end a turn."""
        return list(range(1, self.vocabulary, STOP_EVERY))

    @property
    def limit(self) -> int:
        """Maximum number of tokens of prompt and response together."""
        held = context_limit(self.weights().config)
        return min(held, self.config().context_limit or held)

    def fresh(self) -> Engine:
        """A new engine that has not been used."""
        spec, config = self.loaded(), self.config()
        if self._unbuilt:
            raise Skipped("it could not be built")
        own = options_from(spec.config, config.engine_options, "engine", spec.name)
        setup = EngineSetup(self.weights(), self.stop_ids, 0, self.limit, None, config, own)
        try:
            return self.call("building it", lambda: spec.build(setup))
        except UsageError:
            self._unbuilt = True
            raise

    def engine(self) -> Engine:
        """An engine that is reused."""
        if self._engine is None:
            self._engine = self.fresh()
        return self._engine

    def sample(
        self,
        prompts: Sequence[Ids],
        sampling: Sampling,
        n: int = SAMPLES,
        numbers: Ids | None = None,
        engine: Engine | None = None,
    ) -> Batch:
        """`n` continuations of each prompt; PropertyFailed if there are more or fewer."""
        asked = engine or self.engine()
        doing = f"generate, {len(prompts)} prompts, n = {n}, {sampling}"
        made = self.call(
            doing, lambda: asked.generate(prompts, n=n, sampling=sampling, numbers=numbers)
        )
        sizes = [len(group) for group in made]
        require(
            sizes == [n] * len(prompts),
            f"generate returned {sizes} continuations of {len(prompts)} prompts with n = {n}",
        )
        return made

    def prompts(self, lengths: Sequence[int] = LENGTHS) -> list[list[int]]:
        """Random prompts, the same at every call; they hold stop tokens too, as chats do."""
        drawn = stream(0, "engine check", *lengths)
        return [drawn.integers(self.vocabulary, size=length).tolist() for length in lengths]

    @torch.no_grad()
    def logits(self, prompt: Ids, response: Ids) -> Tensor:
        """Logits [T, V], float64, that predict each token of the response."""
        model = self.weights()
        device = model.get_input_embeddings().weight.device
        ids = torch.tensor([[*prompt, *response]], device=device)
        whole: Tensor = model(input_ids=ids, use_cache=False).logits[0].double().cpu()
        return whole[len(prompt) - 1 : len(prompt) - 1 + len(response)]

    def gap(self, prompt: Ids, one: Generated, sampling: Sampling) -> float:
        """Largest difference (nats) between the reported log-probabilities and the expected ones.

        Infinite if a token could not have been drawn.
        """
        logits = self.logits(prompt, one.token_ids)
        told = torch.tensor(one.logprobs, dtype=torch.float64)
        ids = torch.tensor(one.token_ids)[:, None]
        near = [
            (expected_logprobs(logits, sampling, edge).gather(-1, ids)[:, 0] - told).abs()
            for edge in (-EDGE, 0.0, EDGE)
        ]
        return float(torch.stack(near).min(0).values.max())

    @contextmanager
    def other_weights(self) -> Iterator[None]:
        """While entered, the model has different weights."""
        parameters = list(self.weights().parameters())
        before = [parameter.detach().clone() for parameter in parameters]
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in parameters:
                noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.add_(noise * parameter.std(correction=0) / 2)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, old in zip(parameters, before, strict=True):
                    parameter.copy_(old)

    def tell(self, engine: Engine) -> None:
        """Send new weights to the engine, if it needs that."""
        if isinstance(engine, RemoteWeightsEngine):
            self.call("sync_weights", engine.sync_weights)


def expected_logprobs(logits: Tensor, sampling: Sampling, edge: float = 0.0) -> Tensor:
    """Log-probabilities [T, V] of the distribution to sample from, -inf outside the nucleus.

    The nucleus is the smallest set of most probable tokens whose probabilities sum to at least
    `top_p + edge`, with every token as probable as the least probable of them.
    """
    if sampling.temperature == 0:
        return logits.log_softmax(-1)
    probs = (logits / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        ordered = probs.sort(-1, descending=True).values
        before = ordered.cumsum(-1) - ordered
        count = (before < sampling.top_p + edge).sum(-1, keepdim=True)
        probs = probs.where(probs >= ordered.gather(-1, count - 1), torch.zeros(()).to(probs))
    return (probs / probs.sum(-1, keepdim=True)).log()


def every(prompts: Sequence[Ids], made: Batch) -> Iterator[tuple[Ids, Generated]]:
    """Each continuation with its prompt."""
    for prompt, group in zip(prompts, made, strict=True):
        for one in group:
            yield prompt, one


def ids_of(made: Batch) -> list[list[tuple[int, ...]]]:
    """The token ids alone."""
    return [[tuple(one.token_ids) for one in group] for group in made]


def small_model() -> Any:
    """A random decoder with 260 tokens; large weights, so that probabilities are far from equal."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=260,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=256,
        initializer_range=1.5 / math.sqrt(64),
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Qwen3ForCausalLM(config).eval()
