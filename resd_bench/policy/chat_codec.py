"""From chats to tokens with the chat template, back to plain text, and which tokens end a turn.

Templates differ. If one has no system role, the system text goes in front of the first user
message. Earlier answers are shown without their thinking, whether the template removes it or not.
Thinking tags stay in decoded text even if the tokenizer treats them as special, and an opening tag
that the template wrote is put back in front of the answer, so that the text itself shows which part
is thinking. Left out: tools, images, reasoning marked by anything but `<think>`, and re-tokenizing
completions (training uses the sampled tokens). `control_tokens` keeps text from forging a turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.models.chat_renderer import RENDERER, TemplateRefused
from resd_bench.parsing import visible_answer
from resd_bench.policy.config import Thinking
from resd_bench.policy.control_tokens import ControlTokens
from resd_bench.types import Message, Messages

OPEN, _CLOSE = "<think>", "</think>"
_CACHED_PROMPTS = 16384
_SWITCHES = ("enable_thinking", "thinking")
"""Names that chat templates use for the variable that turns thinking on and off."""
_PROBE = "resdprobe"
"""Text that no template contains."""


class Codec:
    """A tokenizer with a chat template, and what a sampling engine must know about it."""

    def __init__(
        self,
        tokenizer: Any,
        generation_config: Any = None,
        template_options: Mapping[str, Any] | None = None,
        *,
        model_config: Any = None,
        thinking: Thinking = "auto",
    ) -> None:
        """`template_options` are passed to the chat template, with what `thinking` asks for.

        UsageError if the tokenizer has no chat template or no token ends a turn.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise UsageError(
                f"the tokenizer {_name(tokenizer)!r} has no chat template: use a chat model, or "
                "add a chat_template.jinja next to its weights"
            )
        self.tokenizer = tokenizer
        self._control = ControlTokens(tokenizer)
        self._options = dict(template_options or {})
        if thinking != "auto":
            self._options |= dict.fromkeys(_SWITCHES, thinking == "on")
        vocabulary = _vocabulary(model_config)
        found = _stop_ids(tokenizer, generation_config, model_config) | self._closing_ids()
        if not found:
            raise UsageError(
                f"the tokenizer {_name(tokenizer)!r} names no end-of-sequence token: set eos_token "
                "in tokenizer_config.json or eos_token_id in generation_config.json"
            )
        self.stop_ids = frozenset(i for i in found if 0 <= i < vocabulary)
        """Ids that end a turn: end of sequence, the generation config's end-of-turn tokens, and
        the control token with which the chat template closes an answer."""
        if not self.stop_ids:
            raise UsageError(
                f"the end-of-sequence ids {sorted(found)} of {_name(tokenizer)!r} are outside the "
                f"model's vocabulary of {vocabulary}: set eos_token_id in generation_config.json"
            )
        pad = tokenizer.pad_token_id
        usable = pad is not None and 0 <= int(pad) < vocabulary
        self.pad_id: int = int(pad) if usable else min(self.stop_ids)
        """Pads batches; a stop token if the tokenizer has no pad token that the model knows."""
        self._encode = lru_cache(_CACHED_PROMPTS)(self._encode_anew)

    def prompt_ids(self, messages: Messages) -> list[int]:
        """Ids of the chat up to where the assistant's next turn begins.

        The text of messages never becomes a control token. UsageError if the chat template refuses
        the chat, or does not finish.
        """
        return list(self._encode(messages))

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text on its own, without special tokens."""
        return len(self.tokenizer.encode(valid_unicode(text), add_special_tokens=False))

    def _encode_anew(self, messages: Messages) -> tuple[int, ...]:
        try:
            shown = self._render(self._as_taken(messages))
        except TemplateRefused as error:
            roles = ", ".join(message.role for message in messages)
            raise UsageError(
                f"the chat template of {_name(self.tokenizer)!r} refuses a chat of {roles}: "
                f"{error}. Use a model whose template takes these roles in this order"
            ) from error
        return tuple(int(i) for i in self._control.encode(shown))

    def _render(self, messages: Sequence[Message], *, answering: bool = True) -> str:
        """The chat as masked text, up to the assistant's next turn if `answering`."""
        mask = self._control.mask
        chat = [{"role": m.role, "content": mask(valid_unicode(m.content))} for m in messages]
        variables = {
            "messages": chat,
            "tools": None,
            "documents": None,
            "add_generation_prompt": answering,
            **self.tokenizer.special_tokens_map,
            **self._options,
        }
        return RENDERER.render(self._template, variables)

    @cached_property
    def _template(self) -> str:
        try:
            return str(self.tokenizer.get_chat_template(None, None))
        except ValueError as error:
            raise UsageError(f"the tokenizer {_name(self.tokenizer)!r}: {error}") from None

    def _as_taken(self, messages: Messages) -> Sequence[Message]:
        """The chat as the template accepts it, with earlier answers without their thinking."""
        said = [
            Message(m.role, visible_answer(m.content)) if m.role == "assistant" else m
            for m in messages
        ]
        if not any(m.role == "system" for m in said) or self._has_system_role:
            return said
        told = [m.content for m in said if m.role == "system"]
        rest = [m for m in said if m.role != "system"]
        if not rest or rest[0].role != "user":
            return [Message("user", "\n\n".join(told)), *rest]
        return [Message("user", "\n\n".join([*told, rest[0].content])), *rest[1:]]

    @cached_property
    def _has_system_role(self) -> bool:
        """Whether the template shows system messages."""
        return _PROBE in self._probe(Message("system", _PROBE), Message("user", "x"))

    @cached_property
    def opens_thinking(self) -> bool:
        """Whether the template itself opens the thinking, so answers lack the opening tag."""
        prompt = self._probe(Message("user", "x"))
        return prompt.rfind(OPEN) > prompt.rfind(_CLOSE)

    def answer(self, ids: Sequence[int]) -> str:
        """The text of an answer, with the opening tag in front if the template wrote it."""
        return (f"{OPEN}\n" if self.opens_thinking else "") + self.decode(ids)

    def left_thinking(self, text: str) -> bool:
        """Whether an answer ends before its thinking does."""
        opened = text.rfind(OPEN)
        return _CLOSE not in text[max(opened, 0) :] and (self.opens_thinking or opened >= 0)

    def _probe(self, *messages: Message, answering: bool = True) -> str:
        """The chat as rendered by the template; "" if it refuses the chat."""
        try:
            return self._control.unmask(self._render(messages, answering=answering))
        except TemplateRefused:
            return ""

    def _closing_ids(self) -> set[int]:
        """The control token right after an answer in the template, if there is one.

        It is needed for base models whose config does not name it, such as `<|im_end|>`.
        """
        chat = (Message("user", "x"), Message("assistant", _PROBE))
        text = self._probe(*chat, answering=False)
        after = text.partition(_PROBE)[2].lstrip()
        ids = self.tokenizer.encode(after, add_special_tokens=False) if after else []
        return set(ids[:1]) & {*self._control.special_ids, *self._control.ids.values()}

    def decode(self, ids: Sequence[int]) -> str:
        """Text of sampled ids, without special and stop tokens but with thinking tags.

        Bytes that are not UTF-8, such as half an emoji, become U+FFFD.
        """
        text: str = self.tokenizer.decode(
            [i for i in ids if i not in self._hidden],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        return text

    @cached_property
    def _hidden(self) -> frozenset[int]:
        tags = {self._control.ids[tag] for tag in (OPEN, _CLOSE) if tag in self._control.ids}
        return (self._control.special_ids - tags) | self.stop_ids


def valid_unicode(text: str) -> str:
    """`text` with lone surrogates, which no tokenizer accepts, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _name(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)


def _vocabulary(model_config: Any) -> int:
    """Rows of the model's embedding; without a config, no bound."""
    if model_config is None:
        return 2**31 - 1
    return int(model_config.get_text_config().vocab_size)


def _stop_ids(tokenizer: Any, *configs: Any) -> set[int]:
    given = [tokenizer.eos_token_id, *(getattr(c, "eos_token_id", None) for c in configs)]
    flat = [i for g in given for i in (g if isinstance(g, list | tuple) else [g])]
    return {int(i) for i in flat if i is not None}
