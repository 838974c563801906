"""The architecture of a causal language model, without loading its weights.

It comes from the table of published models below, or from a model's own `config.json`; the modules
are then made without storage (torch's meta device) and counted, so parameter counts are exact. Left
out: models with custom code, vision parts, and which weights a file really holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from resd_bench.errors import UsageError

_QWEN3 = {"model_type": "qwen3", "vocab_size": 151_936, "head_dim": 128, "num_key_value_heads": 8}
_SHORT, _LONG = 40_960, 262_144


def _qwen3(
    hidden: int, layers: int, feed_forward: int, heads: int, tied: bool, context: int = _SHORT
) -> dict[str, Any]:
    return _QWEN3 | {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": feed_forward,
        "num_attention_heads": heads,
        "tie_word_embeddings": tied,
        "max_position_embeddings": context,
    }


PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "Qwen/Qwen3-0.6B": _qwen3(1024, 28, 3072, 16, True),
    "Qwen/Qwen3-1.7B": _qwen3(2048, 28, 6144, 16, True),
    "Qwen/Qwen3-4B": _qwen3(2560, 36, 9728, 32, True),
    "Qwen/Qwen3-4B-Thinking-2507": _qwen3(2560, 36, 9728, 32, True, _LONG),
    "Qwen/Qwen3-8B": _qwen3(4096, 36, 12_288, 32, False),
    "Qwen/Qwen3-30B-A3B-Thinking-2507": _qwen3(2048, 48, 6144, 32, False, _LONG)
    | {
        "model_type": "qwen3_moe",
        "num_key_value_heads": 4,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
    },
}
"""Settings of published models, from the `config.json` of each on the Hugging Face Hub."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes that determine memory and arithmetic."""

    kind: str
    """`model_type` of its config, e.g. qwen3."""
    parameters: int
    """All parameters; tied ones count once."""
    active: int
    """Parameters used for one token: in a mixture of experts, those of the chosen experts."""
    layers: int
    hidden: int
    queries: int
    """Width of all query heads together (H D)."""
    keys: int
    """Width of all key heads together, and of all value heads (G D)."""
    feed_forward: int
    """Width of the feed-forward block, summed over the experts that one token visits."""
    vocabulary: int
    context: int
    """Maximum number of tokens of prompt and response together."""
    tied: bool
    """Whether the output layer shares the embedding's weights."""
    adapted: int
    """Inputs plus outputs of all linear layers except the output layer: times the rank, this is the
    number of an adapter's parameters."""

    @property
    def output(self) -> int:
        """Weights of the output layer."""
        return self.vocabulary * self.hidden

    @property
    def embeddings(self) -> int:
        """Weights of the embedding, and of the output layer if it has its own."""
        return self.output if self.tied else 2 * self.output


@cache
def read(model: str, revision: str | None = None) -> Architecture:
    """The architecture of `model`: a name in the table, a model folder, a GGUF file or a hub name.

    UsageError if it is none of these, or if its config cannot be reached.
    """
    from transformers import AutoConfig

    if model in PUBLISHED and revision is None:
        return of_config(AutoConfig.for_model(**PUBLISHED[model]))
    from resd_bench.models import gguf
    from resd_bench.policy import loading

    if (file := loading.fetch_gguf(model, revision)) is not None:
        return of_config(gguf.config(file))
    config = loading.read_config(model, revision)
    try:
        return of_config(config)
    except (ValueError, LookupError, AttributeError, TypeError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"the config of {model!r} cannot be read: {first}") from error


def of_config(config: Any) -> Architecture:
    """The architecture that a config of `transformers` describes."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    visited, experts = _experts(text)
    total = sum(p.numel() for p in model.parameters())
    routed = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    output = model.get_output_embeddings()
    linears = (m for m in model.modules() if type(m) is torch.nn.Linear and m is not output)
    return Architecture(
        kind=str(config.model_type),
        parameters=total,
        active=total - routed + routed * visited // experts,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        queries=heads * head,
        keys=kv_heads * head,
        feed_forward=_feed_forward(text, visited if routed else 1),
        vocabulary=output.weight.shape[0],
        context=int(getattr(text, "max_position_embeddings", None) or 2**31 - 1),
        tied=output.weight is model.get_input_embeddings().weight,
        adapted=sum(m.in_features + m.out_features for m in linears),
    )


def _experts(text: Any) -> tuple[int, int]:
    """Number of experts that a token visits, and of all experts; 1 and 1 without experts."""
    every = getattr(text, "num_experts", None) or getattr(text, "num_local_experts", None) or 1
    return int(getattr(text, "num_experts_per_tok", None) or 1), int(every)


def _feed_forward(text: Any, visited: int) -> int:
    one = getattr(text, "moe_intermediate_size", None) if visited > 1 else None
    return visited * int(one or text.intermediate_size)
