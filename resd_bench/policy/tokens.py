"""Between chats and tokens: the chat template in, plain text out, and which tokens end a turn.

Left out: tools, images, and re-tokenising completions (training uses the tokens sampled).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from resd_bench.plugins import UsageError
from resd_bench.types import Messages

_CACHED_PROMPTS = 16384


class Codec:
    """A tokenizer with a chat template, and what a sampling engine must know of it."""

    def __init__(
        self,
        tokenizer: Any,
        generation_config: Any = None,
        template_options: Mapping[str, Any] | None = None,
    ) -> None:
        """`template_options` are handed to the chat template (e.g. `enable_thinking`).

        UsageError where the tokenizer has no chat template or no token ends a turn.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise UsageError(
                f"the tokenizer {_name(tokenizer)!r} has no chat template: use a chat model, or "
                "add a chat_template.jinja beside its weights"
            )
        self.tokenizer = tokenizer
        self.stop_ids = _stop_ids(tokenizer, generation_config)
        """Ids that end a turn: end of sequence and the generation config's end-of-turn tokens."""
        if not self.stop_ids:
            raise UsageError(
                f"the tokenizer {_name(tokenizer)!r} names no end-of-sequence token: set eos_token "
                "in tokenizer_config.json or eos_token_id in generation_config.json"
            )
        pad = tokenizer.pad_token_id
        self.pad_id: int = min(self.stop_ids) if pad is None else int(pad)
        self._options = dict(template_options or {})
        self._encode = lru_cache(_CACHED_PROMPTS)(self._encode_anew)

    def prompt_ids(self, messages: Messages) -> list[int]:
        """Ids of the chat up to where the assistant's next turn begins."""
        return list(self._encode(messages))

    def _encode_anew(self, messages: Messages) -> tuple[int, ...]:
        chat = [{"role": m.role, "content": m.content} for m in messages]
        ids = self.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=False, **self._options
        )
        return tuple(int(i) for i in ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of sampled ids, special tokens left out."""
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _name(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)


def _stop_ids(tokenizer: Any, generation_config: Any) -> frozenset[int]:
    given = [tokenizer.eos_token_id, getattr(generation_config, "eos_token_id", None)]
    flat = [i for g in given for i in (g if isinstance(g, list | tuple) else [g])]
    return frozenset(int(i) for i in flat if i is not None)
