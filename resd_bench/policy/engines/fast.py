"""Our own decode loop over the weights of a Hugging Face decoder, in plain PyTorch.

It serves Qwen3, Qwen2 and Llama decoders (full attention, SiLU, static rotary embedding) and is
made for small models, where the cost is memory traffic and the number of operations per token:
prompts are sorted by length, all samples of a prompt share one prefill, the cache is preallocated,
projections are fused, finished rows are dropped, and later turns of an episode are read only from
where the last one ended (`prefix_cache`); LoRA adapters are first added to the weights. The weights
of larger models are packed on a CPU (`matrices`). Left out: sliding windows, mixtures of experts,
quantised weights; `HfEngine` serves those.

Shapes: b rows, P prompt tokens, d hidden, H query heads, G key-value heads, R = H / G, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
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
from resd_bench.policy.engines.matrices import Matrix, can_pack
from resd_bench.policy.engines.prefix_cache import (
    CachedPrefix,
    CachedSequence,
    PrefixCache,
    weights_fingerprint,
)
from resd_bench.policy.engines.registry import EngineSetup, EngineSpec
from resd_bench.policy.lora import base_layer, merged_weight
from resd_bench.types import Sampling

_STATIC_ROPE = {"default", "linear", "llama3", "yarn"}
_DROP_FRACTION = 8
"""Finished rows are dropped once they are at least this fraction (1 / n) of the batch."""


def supports(model: Any) -> bool:
    """Whether `FastEngine` computes what this Hugging Face model computes, on one device."""
    config = model.config
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    return (
        type(model).__name__ in limits.FAST_ARCHITECTURES.values()
        and config.hidden_act == "silu"
        and layers == {"full_attention"}
        and not getattr(config, "mlp_bias", False)
        and config.rope_parameters.get("rope_type", "default") in _STATIC_ROPE
        and all(type(base_layer(m)) is torch.nn.Linear for m in _linears(model))
        and type(model.lm_head) is torch.nn.Linear
        and len({p.device for p in model.parameters()}) == 1
    )


def _linears(model: Any) -> Iterator[Any]:
    for layer in model.model.layers:
        yield from (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
        yield from (layer.self_attn.o_proj, layer.mlp.gate_proj, layer.mlp.up_proj)
        yield layer.mlp.down_proj


@dataclass(frozen=True, slots=True)
class _Layer:
    """One decoder layer with fused projections; norm weights are folded in where that is exact."""

    qkv: Matrix
    """[(H + 2 G) D, d], input norm folded in."""
    qkv_bias: Tensor | None
    head_norm: Tensor | None
    """[H + G, D]: weights of the query and key norms (Qwen3), None without them."""
    out: Matrix
    """[d, H D]."""
    out_bias: Tensor | None
    gate_up: Matrix
    """[2 I, d], post-attention norm folded in."""
    down: Matrix
    """[d, I]."""


@dataclass(frozen=True, slots=True)
class _Weights:
    """The model as the loop reads it; rebuilt for every call, since training changes it."""

    layers: list[_Layer]
    embedding: Tensor
    """[V, d]."""
    head: Matrix
    """[V, d], final norm folded in."""
    cos: Tensor
    """[context, 1, D]."""
    sin: Tensor
    """[context, 1, D], the half that rotation negates already negated."""
    heads: int
    kv_heads: int
    head_dim: int
    floor: Tensor
    """Scalar for `_norm` of hidden states."""
    head_floor: Tensor
    """Scalar for `_norm` of queries and keys."""

    def matrices(self) -> Iterator[Matrix]:
        """All that hidden states are multiplied by."""
        yield self.head
        for layer in self.layers:
            yield from (layer.qkv, layer.out, layer.gate_up, layer.down)

    def trained(self) -> Iterator[Tensor]:
        """Everything that training may change, before it is packed."""
        yield from (self.embedding, self.head.weight)
        for layer in self.layers:
            parts = (getattr(layer, field.name) for field in fields(layer))
            whole = (part.weight if isinstance(part, Matrix) else part for part in parts)
            yield from (part for part in whole if part is not None)


def _scale(norm: Any) -> Tensor:
    """Weight of an RMS norm module, times the factor that `_norm` leaves out."""
    weight: Tensor = norm.weight
    return weight * math.sqrt(weight.shape[-1])


def _fused(attention: Any, norm: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    weight = (torch.cat([merged_weight(p) for p in parts]) * norm).to(dtype)
    if parts[0].bias is None:
        return weight, None
    return weight, torch.cat([p.bias for p in parts]).to(dtype)


def _layer(layer: Any, heads: int, kv_heads: int, dtype: torch.dtype) -> _Layer:
    attention, mlp, head_norm = layer.self_attn, layer.mlp, None
    qkv, bias = _fused(attention, _scale(layer.input_layernorm), dtype)
    if hasattr(attention, "q_norm"):
        q, k = _scale(attention.q_norm), _scale(attention.k_norm)
        head_norm = torch.cat([q.expand(heads, -1), k.expand(kv_heads, -1)]).to(dtype)
    gate_up = torch.cat([merged_weight(mlp.gate_proj), merged_weight(mlp.up_proj)])
    out_bias = attention.o_proj.bias
    return _Layer(
        qkv=Matrix(qkv),
        qkv_bias=bias,
        head_norm=head_norm,
        out=Matrix(merged_weight(attention.o_proj).to(dtype)),
        out_bias=None if out_bias is None else out_bias.to(dtype),
        gate_up=Matrix((gate_up * _scale(layer.post_attention_layernorm)).to(dtype)),
        down=Matrix(merged_weight(mlp.down_proj).to(dtype)),
    )


def _prepare(model: Any, positions: int, dtype: torch.dtype) -> _Weights:
    """The weights of `model` as of now, with rotary tables for `positions` positions."""
    config, decoder = model.config, model.model
    device = decoder.embed_tokens.weight.device
    probe = torch.zeros(1, device=device)
    cos, sin = decoder.rotary_emb(probe, torch.arange(positions, device=device)[None])
    head_dim = cos.shape[-1]
    sign = torch.ones(head_dim, device=device)
    sign[: head_dim // 2] = -1
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    eps = float(config.rms_norm_eps)
    return _Weights(
        layers=[_layer(layer, heads, kv_heads, dtype) for layer in decoder.layers],
        embedding=decoder.embed_tokens.weight.to(dtype),
        head=Matrix((model.lm_head.weight * _scale(decoder.norm)).to(dtype)),
        cos=cos[0, :, None].to(dtype),
        sin=(sin[0, :, None] * sign).to(dtype),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        floor=torch.tensor((eps * config.hidden_size) ** 0.5, device=device),
        head_floor=torch.tensor((eps * head_dim) ** 0.5, device=device),
    )


def _norm(x: Tensor, floor: Tensor) -> Tensor:
    """Divide by the Euclidean norm, bounded below: an RMS norm without the factor sqrt(size)."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return x / torch.hypot(length, floor).to(x.dtype)


def _project(w: _Weights, layer: _Layer, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """From hidden states [m, d] to rotated queries and keys and plain values [m, H + 2 G, D]."""
    flat = layer.qkv.times(_norm(x, w.floor), layer.qkv_bias)
    qkv = flat.view(x.shape[0], w.heads + 2 * w.kv_heads, w.head_dim)
    rotated = qkv[:, : w.heads + w.kv_heads]
    turned = rotated
    if layer.head_norm is not None:
        turned = _norm(rotated, w.head_floor).mul_(layer.head_norm)
    swapped = turned.roll(w.head_dim // 2, -1).mul_(sin)
    torch.addcmul(swapped, turned, cos, out=rotated)
    return qkv


def _residual(w: _Weights, layer: _Layer, x: Tensor, attended: Tensor) -> Tensor:
    """Hidden states [m, d] after the output projection and the feed-forward block."""
    x = layer.out.added(x, attended)
    if layer.out_bias is not None:
        x = x + layer.out_bias
    gate, up = layer.gate_up.times(_norm(x, w.floor)).chunk(2, -1)
    return layer.down.added(x, F.silu(gate).mul_(up))


def _read(
    w: _Weights, ids: Tensor, cos: Tensor, sin: Tensor, attend: Callable[..., Tensor]
) -> Tensor:
    """Hidden states [u, m, d] of the tokens `ids` [u, m] after the last layer.

    `attend` gets the number of a layer, queries [u, H, m, D], keys and values [u, G, m, D], and
    returns the attention output [u, H, m, D].
    """
    x, parts = w.embedding[ids.flatten()], [w.heads, w.kv_heads, w.kv_heads]
    for number, layer in enumerate(w.layers):
        qkv = _project(w, layer, x, cos, sin).view(*ids.shape, -1, w.head_dim).transpose(1, 2)
        heard = attend(number, *torch.split(qkv, parts, dim=1))
        x = _residual(w, layer, x, heard.transpose(1, 2).reshape(len(x), -1))
    return x.view(*ids.shape, -1)


def _logits(w: _Weights, x: Tensor) -> Tensor:
    """From hidden states [m, d] to logits [m, V], float32."""
    return w.head.times(_norm(x, w.floor)).float()


class _Batch:
    """The rows decoded together: their cache, positions and tokens so far."""

    def __init__(
        self,
        w: _Weights,
        prompts: Sequence[Sequence[int]],
        rows: Sequence[SampleIndex],
        new: int,
        begun: Mapping[int, CachedPrefix],
        keep: bool,
    ) -> None:
        """`rows` are sorted by the length of their prompt; `new` tokens are to be sampled.

        `begun` holds the prefixes of prompts that were read before. With `keep`, the cache entries
        of finished rows stay.
        """
        self.w, self.keep = w, keep
        device = w.embedding.device
        lengths = torch.tensor([len(prompts[i]) for i, _ in rows], device=device)
        self.width = int(lengths.max())
        size = (len(w.layers), 2, len(rows), w.kv_heads, self.width + new, w.head_dim)
        self.cache = torch.empty(size, dtype=w.embedding.dtype, device=device)
        """[L, 2, b, G, P + new, D]; prompts are right-aligned, with the padding before them."""
        self.seats = torch.arange(len(rows), device=device)
        """The index in `rows` of each row of the cache; with `keep`, of finished ones too."""
        self.live = len(rows)
        """Number of cache rows, from the first, that are still being decoded."""
        self.positions = lengths.clone()
        """Position [b] of the next token within its own sequence."""
        self.mask = self._padding_mask(lengths, self.width + new)
        self.logits = self._prefill(prompts, rows, begun)

    @property
    def order(self) -> Tensor:
        """The index [b] in `rows` of each live row."""
        return self.seats[: self.live]

    def _padding_mask(self, lengths: Tensor, width: int) -> Tensor | None:
        """Additive mask [b G, 1, P + new] of the padding; None if there is no padding."""
        padding = self.width - lengths
        if not bool(padding.any()):
            return None
        hidden = torch.arange(width, device=lengths.device) < padding[:, None]
        mask = torch.zeros(hidden.shape, dtype=self.w.embedding.dtype, device=lengths.device)
        mask.masked_fill_(hidden, float("-inf"))
        return mask.repeat_interleave(self.w.kv_heads, 0)[:, None]

    def _prefill(
        self,
        prompts: Sequence[Sequence[int]],
        rows: Sequence[SampleIndex],
        begun: Mapping[int, CachedPrefix],
    ) -> Tensor:
        """Fill the cache with the prompts and return the logits [b, V] after them."""
        logits = []
        unread = [len(p) - (begun[i].tokens if i in begun else 0) for i, p in enumerate(prompts)]
        for start, stop in _slabs(unread, rows):
            unique = list(dict.fromkeys(i for i, _ in rows[start:stop]))
            place = {i: u for u, i in enumerate(unique)}
            owner = torch.tensor(
                [place[i] for i, _ in rows[start:stop]], device=self.positions.device
            )
            asked = [prompts[i] for i in unique]
            if any(i in begun for i in unique):
                known = [begun.get(i) for i in unique]
                after = self._extend_slab(asked, known, owner, start)
            else:
                after = self._prefill_slab(asked, owner, start)
            logits.append(after[owner])
        return torch.cat(logits)

    def _prefill_slab(self, prompts: Sequence[Sequence[int]], owner: Tensor, start: int) -> Tensor:
        """Prefill distinct `prompts` for the rows from `start` that own them; logits [u, V].

        They are right-padded, so plain causal attention needs no mask; in the cache they are
        right-aligned.
        """
        w, device = self.w, owner.device
        lengths = torch.tensor([len(p) for p in prompts], device=device)
        wide = int(lengths.max())
        ids = torch.tensor([[*p, *[0] * (wide - len(p))] for p in prompts], device=device)
        cos, sin = (t[:wide].repeat(len(prompts), 1, 1) for t in (w.cos, w.sin))
        columns = torch.arange(self.width, device=device) - self.width
        source = (columns + lengths[owner, None]).clamp_(min=0)
        gqa = w.heads != w.kv_heads

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            for half, kept in enumerate((k, v)):
                target = self.cache[number, half, start : start + len(owner), :, : self.width]
                target.copy_(kept.transpose(1, 2)[owner[:, None], source].transpose(1, 2))
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=gqa)

        x = _read(w, ids, cos, sin, attend)
        return _logits(w, x[torch.arange(len(prompts)), lengths - 1])

    def _extend_slab(
        self,
        prompts: Sequence[Sequence[int]],
        known: Sequence[CachedPrefix | None],
        owner: Tensor,
        start: int,
    ) -> Tensor:
        """Like `_prefill_slab`, but what was read before is copied from the earlier cache.

        The last m tokens of every prompt are read, m being the largest number that any prompt has
        unread. Everything is right-aligned: a query attends from its sequence's first column to its
        own.
        """
        w, device, end = self.w, owner.device, self.width
        wide = max(
            len(p) - (0 if k is None else k.tokens) for p, k in zip(prompts, known, strict=True)
        )
        lengths = torch.tensor([len(p) for p in prompts], device=device)
        cache = self.cache[:, :, start : start + len(owner), :, :end]
        cache[..., : end - wide, :] = 0
        for row, u in enumerate(owner.tolist()):
            if (beginning := known[u]) is not None:
                first = end - len(prompts[u])
                cache[:, :, row, :, first : first + beginning.tokens] = beginning.read()
        tails = [p[-wide:] for p in prompts]
        ids = torch.tensor([[*[0] * (wide - len(t)), *t] for t in tails], device=device)
        columns = torch.arange(end, device=device)
        fed = columns[end - wide :]
        at = (fed - (end - lengths[:, None])).clamp_(min=0).flatten()
        cos, sin = w.cos[at], w.sin[at]
        heard_from = (columns <= fed[:, None]) & (columns >= (end - lengths)[:, None, None])
        # A query before the start of its prompt attends to itself: its output is not used.
        heard_from = (heard_from | (columns == fed[:, None]))[:, None]
        one_row = torch.tensor([owner.tolist().index(u) for u in range(len(prompts))])
        gqa = w.heads != w.kv_heads

        def attend(number: int, q: Tensor, *fresh: Tensor) -> Tensor:
            for half, kept in enumerate(fresh):
                cache[number, half, :, :, end - wide :] = kept[owner]
            k, v = cache[number] if len(one_row) == len(owner) else cache[number][:, one_row]
            return F.scaled_dot_product_attention(q, k, v, attn_mask=heard_from, enable_gqa=gqa)

        return _logits(w, _read(w, ids, cos, sin, attend)[:, -1])

    def step(self, ids: Tensor, column: int) -> Tensor:
        """Feed one token per live row, ids [b], at cache `column`; returns logits [b, V]."""
        w, b, end = self.w, len(self.order), column + 1
        mask = None if self.mask is None else self.mask[: b * w.kv_heads, :, :end]
        cos, sin = w.cos[self.positions], w.sin[self.positions]
        x = w.embedding[ids]
        for layer, cache in zip(w.layers, self.cache[:, :, :b], strict=True):
            qkv = _project(w, layer, x, cos, sin)
            fresh = qkv[:, w.heads :].view(b, 2, w.kv_heads, w.head_dim)
            cache[:, :, :, column] = fresh.transpose(0, 1)
            q = qkv[:, : w.heads].reshape(b * w.kv_heads, -1, w.head_dim)
            k, v = cache.view(2, b * w.kv_heads, -1, w.head_dim)[:, :, :end]
            scores = torch.bmm(q.mul_(w.head_dim**-0.5), k.transpose(1, 2))
            if mask is not None:
                scores += mask
            heard = torch.bmm(scores.softmax(-1), v)
            x = _residual(w, layer, x, heard.view(b, -1))
        self.positions += 1
        return _logits(w, x)

    def drop(self, alive: Tensor, column: int) -> Tensor:
        """Keep only the `alive` [b] rows, with cache up to `column`; returns the index kept.

        Live rows from the end move into the gaps, so that as few rows as possible are copied.
        """
        count = int(alive.sum())
        keep = torch.arange(count, device=alive.device)
        holes = (~alive[:count]).nonzero()[:, 0]
        movers = alive[count:].nonzero()[:, 0] + count
        keep[holes] = movers
        for hole, mover in zip(holes.tolist(), movers.tolist(), strict=True):
            left, moved = (self.cache[:, :, i, :, :column] for i in (hole, mover))
            finished = left.clone() if self.keep else None
            left.copy_(moved)
            if finished is not None:
                moved.copy_(finished)
        self.seats[holes], self.seats[movers] = self.seats[movers], self.seats[holes]
        if self.mask is not None:
            wide = self.mask.view(len(alive), self.w.kv_heads, 1, -1)
            self.mask = wide[keep].flatten(0, 1)
        self.live, self.positions = count, self.positions[keep]
        return keep


def _slabs(lengths: Sequence[int], rows: Sequence[SampleIndex]) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose distinct prompts, padded, are at most `limits.FAST_PREFILL_TOKENS`.

    `lengths` are the tokens to be read of each prompt.
    """
    start, seen, wide = 0, set[int](), 0
    for at, (i, _) in enumerate(rows):
        wide = max(wide, lengths[i])
        if i not in seen and seen and (len(seen) + 1) * wide > limits.FAST_PREFILL_TOKENS:
            yield start, at
            start, seen, wide = at, set(), lengths[i]
        seen.add(i)
    yield start, len(rows)


class FastEngine:
    """Batched sampling with our own decode loop; see `supports` for which models."""

    def __init__(
        self,
        model: Any,
        stop_ids: Collection[int],
        pad_id: int = 0,
        max_batch_tokens: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Decode with `model` (its weights are read again at every call).

        `max_batch_tokens` bounds rows times (prompt + new tokens) decoded together; the default
        follows from the size of the model's cache. `dtype` is that of weights and cache, by default
        the model's own.
        """
        if not supports(model):
            raise ValueError(f"FastEngine does not support {type(model).__name__}; use HfEngine")
        self.model = model
        self.stop_ids = frozenset(stop_ids)
        self.pad_id = pad_id
        self.dtype: torch.dtype = dtype or model.model.embed_tokens.weight.dtype
        self.max_batch_tokens = max_batch_tokens or self._default_batch_tokens()
        self._memory = PrefixCache()

    def _default_batch_tokens(self) -> int:
        config = self.model.config
        attention = self.model.model.layers[0].self_attn
        keys = config.num_key_value_heads * attention.head_dim
        per_token = limits.cache_bytes_per_token(
            config.num_hidden_layers, keys, self.dtype.itemsize
        )
        return limits.fast_batch_tokens(per_token)

    def _pack(self, weights: _Weights, new: int) -> None:
        """Pack the matrices if that pays for `new` tokens: it leaves none of them readable."""
        pays = limits.fast_packs(self.model.config.hidden_size, new)
        if pays and can_pack(weights.embedding.device, self.dtype):
            for matrix in weights.matrices():
                matrix.pack()

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
        limit = context_limit(self.model.config)
        check_request(prompts, n, sampling, limit)
        if not prompts:
            return []
        longest = max(map(len, prompts)) + sampling.max_new_tokens
        weights = _prepare(self.model, longest, self.dtype)
        # Where groups of episodes take turns, the call before the last one is continued next.
        before = self._memory if sampling.streams else None
        keep = self._memory.goes_on(prompts) or bool(before and before.weights is not None)
        mark = weights_fingerprint(weights.trained()) if keep else None
        self._pack(weights, sampling.max_new_tokens)
        begun = self._begun(prompts, mark)
        flat: dict[SampleIndex, Generated] = {}
        said: list[CachedSequence] = []
        room = limits.FAST_KEPT_BYTES // (1 + (before is not None)) if keep else 0
        for rows in chunks(prompts, n, sampling.max_new_tokens, self.max_batch_tokens):
            u = uniforms(sampling, rows, numbers)
            batch = _Batch(weights, prompts, rows, sampling.max_new_tokens, begun, room > 0)
            made = self._decode(batch, sampling, u)
            flat.update(zip(rows, made, strict=True))
            said += _said(batch, prompts, rows, made)
            room -= batch.cache.nbytes
        self._memory = PrefixCache(said, mark, before)
        return ungroup(n, flat)

    def _begun(
        self, prompts: Sequence[Sequence[int]], mark: Tensor | None
    ) -> dict[int, CachedPrefix]:
        """Cached prefixes, by prompt number, of prompts read with the weights `mark` identifies."""
        made_by = self._memory.weights
        if mark is None or made_by is None or not torch.equal(mark, made_by):
            return {}
        found = ((i, self._memory.beginning(prompt)) for i, prompt in enumerate(prompts))
        return {i: beginning for i, beginning in found if beginning is not None}

    def _decode(self, batch: _Batch, sampling: Sampling, u: Tensor) -> list[Generated]:
        """The rows of one chunk, sampled with uniforms `u` [b, new] float64."""
        w, count = batch.w, len(batch.seats)
        new, device = sampling.max_new_tokens, w.embedding.device
        is_stop = stop_table(self.stop_ids, len(w.head), device)
        u = u.t().contiguous().to(device)
        ids_out = torch.full((count, new), self.pad_id, device=device)
        logprobs_out = torch.zeros(count, new, device=device)
        logits, alive = batch.logits, torch.ones(count, dtype=torch.bool, device=device)
        # Asking an accelerator how many rows are live waits for it; on a CPU it is free.
        patience = 1 if device.type == "cpu" else 8
        living = count
        for t in range(new):
            ids, logprobs = choose(logits, u[t, batch.order], sampling)
            if t == 0:
                check_first(logprobs)
            ids_out[batch.order, t], logprobs_out[batch.order, t] = ids, logprobs
            alive &= ~is_stop[ids]
            column = batch.width + t
            if t % patience == 0 or t == new - 1:
                earlier, living = living, int(alive.sum())
                activity.sampled(earlier - living, earlier * patience)
                if living == 0 or t == new - 1:
                    break
                if (len(alive) - living) * _DROP_FRACTION >= len(alive):
                    kept = batch.drop(alive, column)
                    ids, alive = ids[kept], alive[kept]
            logits = batch.step(ids, column)
        activity.sampled(living, 0)
        return cut(ids_out, logprobs_out, is_stop)


def _said(
    batch: _Batch,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[SampleIndex],
    made: Sequence[Generated],
) -> Iterator[CachedSequence]:
    """The sequences that the rows of a chunk read, and their caches if those are kept."""
    seat = batch.seats.argsort().tolist()
    for number, ((i, _), one) in enumerate(zip(rows, made, strict=True)):
        prompt = prompts[i]
        yield CachedSequence(
            tokens=(*prompt, *one.token_ids[:-1]),
            prompt=len(prompt),
            cache=batch.cache if batch.keep else None,
            row=seat[number],
            column=batch.width - len(prompt),
        )


def _build(setup: EngineSetup) -> FastEngine:
    """Under mixed precision the loop computes in bfloat16, as the trainer's products do."""
    most, dtype = setup.config.max_batch_tokens, None
    if setup.config.autocast:
        dtype = torch.bfloat16
    return FastEngine(setup.model, setup.stop_ids, setup.pad_id, most, dtype)


ENGINE = EngineSpec(
    name="fast",
    summary="our own decode loop over the trainer's weights: Qwen3, Qwen2, Llama",
    build=_build,
    supports=supports,
    several_processes=True,
    options=("max_batch_tokens",),
)
