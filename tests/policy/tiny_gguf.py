"""A tiny random model as a GGUF file, written in llama.cpp's conventions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers

from tests.policy import tiny

gguf: Any = pytest.importorskip("gguf", reason="GGUF ABSENT: pip install '.[gguf]'")

MERGES = ["h e", "l l", "he ll", "Ġ w"]
WORDS = ["he", "ll", "hell", "Ġw"]
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = [*tiny.SPECIALS, *ALPHABET, *WORDS]
CONTEXT = 4096
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
WHOLE = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def model(family: str = "llama", **changes: Any) -> Any:
    """The model that `write` writes: dimensions are multiples of a block of 32."""
    options: dict[str, Any] = {
        "vocab_size": len(TOKENS),
        "intermediate_size": 64,
        "max_position_embeddings": CONTEXT,
    }
    return tiny.model(family, **(options | changes))


def write(
    file: Path,
    family: str = "llama",
    kind: str = "F32",
    *,
    template: str | None = tiny.TEMPLATE,
    metadata: dict[str, Any] | None = None,
    without: str = "no such tensor",
    extra: dict[str, Any] | None = None,
    **changes: Any,
) -> Any:
    """Write a tiny model to `file`, matrices stored as `kind`; returns the model.

    `metadata` is added, the tensors whose name contains `without` are left out, and `extra` ones
    are put in.
    """
    made = model(family, **changes)
    writer = gguf.GGUFWriter(str(file), family)
    _write_config(writer, made.config, family, metadata or {})
    _write_tokenizer(writer, template)
    for key, value in (metadata or {}).items():
        add = {int: writer.add_uint32, str: writer.add_string}[type(value)]
        add(key, value)
    for name, values in _tensors(made, family).items():
        if without not in name:
            _write_tensor(writer, name, values, kind)
    for name, values in (extra or {}).items():
        writer.add_tensor(name, np.asarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return made


def _write_config(writer: Any, config: Any, family: str, replaced: dict[str, Any]) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    if "llama.block_count" not in replaced:
        writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if family == "llama":
        writer.add_rope_dimension_count(config.head_dim)
    if family == "qwen3":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)


def _write_tokenizer(writer: Any, template: str | None) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(TOKENS)
    control, normal = int(gguf.TokenType.CONTROL), int(gguf.TokenType.NORMAL)
    writer.add_token_types([control if t in tiny.SPECIALS else normal for t in TOKENS])
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(TOKENS.index(tiny.END))
    writer.add_pad_token_id(TOKENS.index(tiny.PAD))
    if template is not None:
        writer.add_chat_template(template)


def _tensors(made: Any, family: str) -> dict[str, Any]:
    """Weights under llama.cpp's names; Llama's queries and keys in the order it rotates them in."""
    found = {}
    for name, value in made.state_dict().items():
        if name == "lm_head.weight" and made.config.tie_word_embeddings:
            continue
        module, _, suffix = name.rpartition(".")
        if module in WHOLE:
            stored = WHOLE[module]
        else:
            _, _, number, inner = module.split(".", 3)
            stored = f"blk.{number}.{NAMES[inner]}"
        if family == "llama" and stored.endswith(("attn_q", "attn_k")):
            value = _permute(value, made.config.head_dim)
        found[f"{stored}.{suffix}"] = value.detach().numpy()
    return found


def _permute(value: torch.Tensor, head_dim: int) -> torch.Tensor:
    heads = value.shape[0] // head_dim
    halves = value.reshape(heads, 2, head_dim // 2, *value.shape[1:])
    return halves.swapaxes(1, 2).reshape(value.shape)


def _write_tensor(writer: Any, name: str, values: Any, kind: str) -> None:
    stored = gguf.GGMLQuantizationType[kind]
    if values.ndim == 1 or kind == "F32":
        writer.add_tensor(name, values.astype(np.float32))
    elif kind == "F16":
        writer.add_tensor(name, values.astype(np.float16))
    else:
        writer.add_tensor(name, gguf.quantize(values, stored), raw_dtype=stored)
