"""The embedded model's tokenizer: byte-level BPE, trained on its own documents.

Any text is encoded and decoded exactly. Pieces are cut so that a route of a program, a word or a
name is at most a token or two, while symbols of a problem and digits of a number stay separate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, _START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"

PIECES = (
    r"\A(?:user|assistant)\n"  # who speaks: what is said starts afresh
    r"|\n +\[[A-Z]+\] "  # a route up to its target
    r"|\n +[A-Z]+ "  # NEXT and its blank
    r"|\n[A-Z]+(?:_[A-Z]+)* "  # a header up to its name
    r"|\n?<[a-z]+>\n?"  # a section mark
    r"|\n *[a-z]+(?:_[a-z]+)*"  # the first word of a line
    r"|[a-z]\d[A-Z]?:?"  # a node name of the chain
    r"| ?[A-Z]?[a-z]+(?:_[a-z]+)*| ?[A-Z]+"  # a word, a part of a tag
    r"| \d|0+|\d| ?[^\sA-Za-z\d]+|:?\n+|\s+"
)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)


def chat_parts(turns: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """A chat as rendered by the template, cut before and after each reply with its end mark."""
    gap, parts = "", []
    for said, reply in turns:
        head = f"{gap}{_START}user\n{said}{END}\n{_START}assistant\n"
        parts.append((head, reply + END))
        gap = "\n"
    return parts


def train(texts: Iterable[str], vocabulary: int) -> Any:
    """Train a tokenizer of at most `vocabulary` tokens; returns a `PreTrainedTokenizerFast`."""
    tokenizer = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, _START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
