"""Sampling from any causal language model of `transformers`, through its own forward pass.

The engine for models that `FastEngine` does not know: simple and correct, with the same random
streams. Left out for simplicity: shared prefills, dropping finished rows, fused weights.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from resd_bench.monitoring import activity
from resd_bench.policy import limits
from resd_bench.policy.engines.base import (
    Generated,
    SampleIndex,
    check_first,
    check_request,
    choose,
    chunks,
    context_limit,
    cut,
    stop_table,
    ungroup,
    uniforms,
)
from resd_bench.policy.engines.registry import EngineSetup, EngineSpec
from resd_bench.types import Sampling


class HfEngine:
    """Batched sampling by repeated forward passes with the model's own cache."""

    def __init__(
        self,
        model: Any,
        stop_ids: Collection[int],
        pad_id: int = 0,
        max_batch_tokens: int | None = None,
    ) -> None:
        """`max_batch_tokens` bounds rows times (prompt + new tokens) decoded together."""
        self.model = model
        self.stop_ids = frozenset(stop_ids)
        self.pad_id = pad_id
        self.max_batch_tokens = max_batch_tokens or limits.HF_BATCH_TOKENS

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        n: int,
        sampling: Sampling,
        numbers: Sequence[int] | None = None,
    ) -> list[list[Generated]]:
        """`n` continuations of each prompt, see `Engine.generate`."""
        check_request(prompts, n, sampling, context_limit(self.model.config))
        flat: dict[SampleIndex, Generated] = {}
        for rows in chunks(prompts, n, sampling.max_new_tokens, self.max_batch_tokens):
            u = uniforms(sampling, rows, numbers)
            made = self._decode([prompts[i] for i, _ in rows], sampling, u)
            activity.sampled(len(made), sum(len(one.token_ids) for one in made))
            flat.update(zip(rows, made, strict=True))
        return ungroup(n, flat)

    def _decode(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, u: Tensor
    ) -> list[Generated]:
        device = self.model.get_input_embeddings().weight.device
        width = max(map(len, prompts))
        padded = [[*[self.pad_id] * (width - len(p)), *p] for p in prompts]
        fed = torch.tensor(padded, device=device)
        lengths = torch.tensor([len(p) for p in prompts], device=device)
        attended = (torch.arange(width, device=device) >= width - lengths[:, None]).long()
        positions = (attended.cumsum(-1) - 1).clamp_(min=0)
        u, cache = u.to(device), None
        ids_out, logprobs_out = [], []
        ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        is_stop: Tensor | None = None
        for t in range(sampling.max_new_tokens):
            out = self.model(
                input_ids=fed,
                attention_mask=attended,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache, logits = out.past_key_values, out.logits[:, -1].float()
            if is_stop is None:
                is_stop = stop_table(self.stop_ids, logits.shape[-1], device)
            ids, logprobs = choose(logits, u[:, t], sampling)
            if t == 0:
                check_first(logprobs)
            ids_out.append(ids)
            logprobs_out.append(logprobs)
            ended |= is_stop[ids]
            if bool(ended.all()):
                break
            fed, positions = ids[:, None], positions[:, -1:] + 1
            attended = torch.cat([attended, attended.new_ones(len(prompts), 1)], -1)
        assert is_stop is not None
        return cut(torch.stack(ids_out, -1), torch.stack(logprobs_out, -1), is_stop)


def _build(setup: EngineSetup) -> HfEngine:
    most = setup.config.max_batch_tokens
    return HfEngine(setup.model, setup.stop_ids, setup.pad_id, most)


ENGINE = EngineSpec(
    name="hf",
    summary="the forward pass of transformers over the trainer's weights: any model, slowly",
    build=_build,
    several_processes=True,
    options=("max_batch_tokens",),
)
