"""How much is computed at a time: the limits of sampling and training that are not settings.

Engines and trainer keep within them, and `run --dry-run` plans with them. Read them through this
module (`limits.MICRO_BATCH_TOKENS`), so that a changed limit reaches every user of it. Nothing that
needs torch is imported here, as planning does without.
"""

from __future__ import annotations

from resd_bench.errors import UsageError

MICRO_BATCH_TOKENS = 4096
"""Padded tokens (student and teacher) per forward and backward pass, unless `PolicyConfig` says."""
MICRO_BATCH_LOGITS = 1 << 25
"""Logits (sequences x response tokens x vocabulary) held at a time, unless `PolicyConfig` says."""

FAST_ARCHITECTURES = {
    "qwen3": "Qwen3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "llama": "LlamaForCausalLM",
}
"""The models that the engine `fast` supports: `model_type` and class."""
FAST_CACHE_BYTES = 512 << 20
"""Bytes of key-value cache for the sequences that `fast` decodes together."""
FAST_PREFILL_TOKENS = 4096
"""Tokens per prefill pass of `fast`: keeps activations in the CPU cache and padding small."""
FAST_PACKED_WIDTH = 256
"""Least width of a model whose weights `fast` packs on a CPU; nano's are half as wide."""
FAST_PACKED_TOKENS = 32
"""Fewest new tokens for which it packs them: packing takes as long as a few products."""
FAST_KEPT_BYTES = 1 << 30
"""Bytes of key-value caches that `fast` keeps for the episodes' next turns: whole chunks only."""

HF_BATCH_TOKENS = 32_768
"""Tokens (prompt and new) that the engine `hf` decodes together."""

VLLM_CPU_CACHE_BYTES = 512 << 20
"""vLLM's key-value cache on a CPU, unless `--engine-memory` says."""
VLLM_GPU_CACHE_SHARE = 0.3
"""vLLM's key-value cache as a share of free GPU memory, unless `--engine-memory` says; the trainer
needs the rest."""


def cache_bytes_per_token(layers: int, keys: int, width: int) -> int:
    """Bytes of keys and values of one token: `keys` numbers of `width` bytes per layer, twice."""
    return 2 * layers * keys * width


def fast_batch_tokens(per_token: int) -> int:
    """Tokens (prompt and new) that `fast` decodes together, of `per_token` bytes of cache each."""
    return max(FAST_CACHE_BYTES // per_token, 1)


def fast_packs(width: int, new: int) -> bool:
    """Whether `fast` packs a model's weights on a CPU that can, for so many new tokens."""
    return width >= FAST_PACKED_WIDTH and new >= FAST_PACKED_TOKENS


def micro_batch_rows(tokens: int, logits: int) -> int:
    """Number of sequences of this many tokens (student and teacher) and logits per micro-batch.

    At least one: if it alone has more logits than are allowed, the loss is computed in chunks.
    """
    rows = MICRO_BATCH_TOKENS // tokens
    if logits <= MICRO_BATCH_LOGITS:
        rows = min(rows, MICRO_BATCH_LOGITS // logits)
    return max(1, rows)


def room_for_prompts(context: int, max_new_tokens: int) -> int:
    """Longest prompt that leaves room in `context` for an answer; UsageError if none does."""
    if max_new_tokens >= context:
        raise UsageError(
            f"{max_new_tokens} new tokens leave no room for a prompt in a context of {context} "
            "tokens; give a smaller --max-new-tokens"
        )
    return context - max_new_tokens
