"""Random models of real architectures, with tokenizers trained on the spot.

Each follows its family: ChatML with thinking (Qwen3), headers without a pad token (Llama 3), turns
without a system role over byte-fallback tokens (Gemma 2 and 3).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CORPUS = [
    "the robot moves every red part to the left and the blue part to the right",
    "<think> first read the task, then the feedback </think> the answer is below",
    "a function returns the sum of two numbers; def add(a, b): return a + b",
    "user assistant system model previous trial reflection feedback solution playbook",
]

CHATML = (
    "{%- for m in messages -%}"
    "{{ '<|im_start|>' + m.role + '\n' }}"
    "{%- if m.role == 'assistant' -%}"
    "{{ m.content.split('</think>')[-1].lstrip('\n') }}"
    "{%- else -%}{{ m.content }}{%- endif -%}"
    "{{ '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}OPENING{%- endif -%}"
)
QWEN3 = CHATML.replace(
    "OPENING",
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{ '<think>\n\n</think>\n\n' }}{%- endif -%}",
)
QWEN3_THINKING = CHATML.replace("OPENING", "{{ '<think>\n' }}")
LLAMA3 = (
    "{{- bos_token }}"
    "{%- for m in messages -%}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}"
    "{{ m.content | trim + '<|eot_id|>' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif -%}"
)
GEMMA = (
    "{{- bos_token }}"
    "{%- if messages[0].role == 'system' -%}"
    "{{ raise_exception('System role not supported') }}{%- endif -%}"
    "{%- for m in messages -%}"
    "{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('Conversation roles must alternate') }}{%- endif -%}"
    "{%- set role = 'model' if m.role == 'assistant' else m.role -%}"
    "{{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)


@dataclass(frozen=True)
class Family:
    """What a family's tokenizer and model are made of."""

    template: str
    specials: tuple[str, ...]
    roles: dict[str, str]
    """Special tokens by role, e.g. `eos_token`."""
    config: Any
    model: Any
    changes: dict[str, Any]
    byte_fallback: bool = False
    opening: str = ""
    """How a prompt ends."""


_QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN_ROLES = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
_GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
_GEMMA_ROLES = {"eos_token": "<eos>", "bos_token": "<bos>", "pad_token": "<pad>"}
FAMILIES = {
    "qwen3": Family(
        QWEN3, _QWEN, _QWEN_ROLES, Qwen3Config, Qwen3ForCausalLM,
        {"tie_word_embeddings": True, "head_dim": 16}, opening="<|im_start|>assistant\n",
    ),
    "qwen3-thinking": Family(
        QWEN3_THINKING, _QWEN, _QWEN_ROLES, Qwen3Config, Qwen3ForCausalLM,
        {"tie_word_embeddings": False, "head_dim": 16}, opening="<|im_start|>assistant\n<think>\n",
    ),
    "llama": Family(
        LLAMA3,
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
         "<|eot_id|>"),
        {"eos_token": "<|end_of_text|>", "bos_token": "<|begin_of_text|>"},
        LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": False},
        opening="<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "gemma2": Family(
        GEMMA, _GEMMA, _GEMMA_ROLES, Gemma2Config, Gemma2ForCausalLM,
        {"final_logit_softcapping": 3.0, "head_dim": 16, "sliding_window": 8},
        byte_fallback=True, opening="<start_of_turn>model\n",
    ),
    "gemma3": Family(
        GEMMA, _GEMMA, _GEMMA_ROLES, Gemma3TextConfig, Gemma3ForCausalLM,
        {"head_dim": 16, "sliding_window": 8}, byte_fallback=True,
        opening="<start_of_turn>model\n",
    ),
}  # fmt: skip
NAMES = list(FAMILIES)


def tokenizer(name: str) -> Any:
    """The family's tokenizer: byte-level BPE, or BPE over spaces as ▁ with byte fallback."""
    family = FAMILIES[name]
    core = _with_fallback(family) if family.byte_fallback else _byte_level(family)
    make: Any = PreTrainedTokenizerFast
    extra = [token for token in family.specials if token not in family.roles.values()]
    made = make(tokenizer_object=core, **family.roles, additional_special_tokens=extra)
    made.chat_template = family.template
    return made


def _byte_level(family: Family) -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=list(family.specials), initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    core.train_from_iterator(CORPUS, trainer)
    if "<|im_end|>" in family.specials:
        core.add_tokens([AddedToken("<think>"), AddedToken("</think>")])
    return core


def _with_fallback(family: Family) -> Tokenizer:
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=80, show_progress=False)
    trained.train_from_iterator(CORPUS, trainer)
    bpe = json.loads(trained.to_str())["model"]
    pieces = [*family.specials, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [*(["\n"] if "\n" not in bpe["vocab"] else []), *bpe["vocab"]]
    core = Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate(pieces)},
            merges=[tuple(pair) for pair in bpe["merges"]],
            byte_fallback=True,
            unk_token="<unk>",
        )
    )
    core.normalizer = normalizers.Replace(" ", "▁")
    spaces = decoders.Replace("▁", " ")
    core.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse()])
    core.add_special_tokens(list(family.specials))
    return core


def model(name: str, seed: int = 0, **changes: Any) -> Any:
    """A small random model of the family, with wide initial weights."""
    family, ids = FAMILIES[name], tokenizer(name)
    options: dict[str, Any] = {
        "vocab_size": len(ids),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "eos_token_id": ids.eos_token_id,
        "bos_token_id": ids.bos_token_id,
        "pad_token_id": ids.pad_token_id,
    }
    torch.manual_seed(seed)
    made: Any = family.model(family.config(**(options | family.changes | changes)))
    return made.eval()


def save(name: str, folder: Path, **changes: Any) -> Path:
    """Model and tokenizer of a family as a folder that `transformers` reads."""
    model(name, **changes).save_pretrained(folder)
    tokenizer(name).save_pretrained(folder)
    return folder
