"""Tiny random models and a byte-level tokenizer with a chat template, built on the spot."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

END, PAD, USER, ASSISTANT = "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>"
SPECIALS = [PAD, END, USER, ASSISTANT]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CLASSES: dict[str, tuple[Any, Any]] = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}


def tokenizer() -> Any:
    """One token per byte, four special ones; ids 0 to 3 are pad, end, user, assistant."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(SPECIALS)
    make: Any = PreTrainedTokenizerFast
    made = make(tokenizer_object=core, eos_token=END, pad_token=PAD)
    made.chat_template = TEMPLATE
    return made


def model(family: str = "qwen3", seed: int = 0, **changes: Any) -> Any:
    """A random decoder of 260 tokens; wide initial weights, so that logits are far apart."""
    make_config, make_model = CLASSES[family]
    options: dict[str, Any] = {
        "vocab_size": 260,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16 if family != "qwen2" else 8,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "initializer_range": 0.3,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    torch.manual_seed(seed)
    made = make_model(make_config(**(options | changes))).eval()
    with torch.no_grad():  # fresh norms are all ones and biases zero: move them to be seen
        for name, parameter in made.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def prompts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    """Random prompts of ordinary tokens."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(4, 260, (n,), generator=generator).tolist() for n in lengths]
