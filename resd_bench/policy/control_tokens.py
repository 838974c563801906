"""Control tokens come only from the chat template: text that names one does not become one.

`<|im_end|>` in a task, in feedback or in an earlier answer would end the turn, and what follows
could pose as another speaker. So the text goes through the template with the names of control
tokens masked, and is tokenized by a copy of the tokenizer in which these tokens have unguessable
names: those that the template wrote are renamed, those in the text are split like any other word.
Ordinary text gets exactly the same ids as before. Left out: templates whose turns are marked by
plain text (`[INST]` in Llama 2): no tokenizer can tell those from the same words in a text.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

_MASK = "\ue0f0"
"""A private-use character around the number of a masked name, whose digits are private-use too."""
_DIGITS = "".join(chr(0xE100 + digit) for digit in range(10))
_MASKED = re.compile(f"{_MASK}([{_DIGITS}]+){_MASK}")
_TO_MASK = str.maketrans("0123456789", _DIGITS)
_FROM_MASK = str.maketrans(_DIGITS, "0123456789")
_WORD = re.compile(r"\w")
_BREAK = "\u200b"
"""A zero-width space, which breaks a name up if the tokenizer cannot be copied."""


class ControlTokens:
    """The control tokens of a tokenizer, and how chats are tokenised without forging one."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.special_ids = frozenset(
            [*tokenizer.all_special_ids]
            + [number for number, token in _added(tokenizer).items() if token.special]
        )
        """Tokens that decoding leaves out, however the tokenizer came to treat them as special."""
        self.ids: Mapping[str, int] = _control_ids(tokenizer, self.special_ids)
        """Ids by name: special tokens, and added tokens that are not words (`<think>`)."""
        self._names = [_MASK, *self.ids]
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._lengths = sorted({len(name) for name in self._names}, reverse=True)
        firsts = "".join(re.escape(first) for first in sorted({name[0] for name in self._names}))
        self._first = re.compile(f"[{firsts}]")
        self._words = {str(t) for t in _added(tokenizer).values() if t.single_word}
        """Names that count only if no letter or digit is next to them."""

    def mask(self, text: str) -> str:
        """`text` with the names of control tokens masked, to be passed to a template."""
        return self._replaced(text, lambda name: _mask(self._numbers[name]))

    def unmask(self, shown: str) -> str:
        """A template's output for masked text, with the names restored."""
        return _MASKED.sub(self._name, shown)

    def encode(self, shown: str) -> list[int]:
        """Ids of a template's output for masked text."""
        if self._renamed is None:
            broken = _MASKED.sub(lambda m: _broken(self._name(m)), shown)
            return list(self._tokenizer.encode(broken, add_special_tokens=False))
        core, secret = self._renamed
        own = self._replaced(shown, lambda name: secret.get(name, name))
        return list(core.encode(self.unmask(own), add_special_tokens=False).ids)

    def _replaced(self, text: str, shown: Callable[[str], str]) -> str:
        """`text` with every name of a control token replaced; of several, the longest one."""
        parts, at = [], 0
        for first in self._first.finditer(text):
            start = first.start()
            if start >= at and (name := self._name_at(text, start)):
                parts += [text[at:start], shown(name)]
                at = start + len(name)
        return "".join([*parts, text[at:]])

    def _name_at(self, text: str, start: int) -> str:
        for length in self._lengths:
            name = text[start : start + length]
            if name in self._numbers and not (name in self._words and _in_word(text, start, name)):
                return name
        return ""

    def _name(self, match: re.Match[str]) -> str:
        number = int(match[1].translate(_FROM_MASK))
        return self._names[number] if number < len(self._names) else match[0]

    @cached_property
    def _renamed(self) -> tuple[Any, Mapping[str, str]] | None:
        """A tokenizer whose control tokens have secret names, and these names; None if impossible.

        It is impossible for tokenizers written in Python, and if the copy would behave differently.
        """
        core = getattr(self._tokenizer, "backend_tokenizer", None)
        if core is None:
            return None
        word = secrets.token_hex(16)
        names = {name: f"<{word}{number}>" for name, number in self.ids.items()}
        try:
            copy = _rename(core, names)
        except Exception:
            # Any kind of tokenizer may fail here; then names are broken up instead.
            return None
        same = all(copy.token_to_id(names[name]) == number for name, number in self.ids.items())
        return (copy, names) if same else None


def _added(tokenizer: Any) -> Mapping[int, Any]:
    found: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    return found


def _control_ids(tokenizer: Any, special: frozenset[int]) -> dict[str, int]:
    by_id = {number: str(token) for number, token in _added(tokenizer).items()}
    by_id |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    return {
        name: int(number)
        for number, name in by_id.items()
        if name and number is not None and (number in special or _is_markup(name))
    }


def _is_markup(name: str) -> bool:
    """Whether an added token that is not special is more than a word, number or space."""
    bare = name.strip()
    return len(bare) > 1 and not all(c.isalnum() or c.isspace() for c in bare)


def _mask(number: int) -> str:
    return f"{_MASK}{str(number).translate(_TO_MASK)}{_MASK}"


def _in_word(text: str, start: int, name: str) -> bool:
    end = start + len(name)
    return bool(_WORD.match(text[max(0, start - 1) : start]) or _WORD.match(text[end : end + 1]))


def _broken(name: str) -> str:
    return name if name == _MASK else f"{name[:1]}{_BREAK}{name[1:]}"


def _rename(core: Any, names: Mapping[str, str]) -> Any:
    """A copy of a `tokenizers` tokenizer in which tokens have other names."""
    from tokenizers import Tokenizer

    made = json.loads(core.to_str())
    made["padding"] = made["truncation"] = None
    for token in made["added_tokens"]:
        if token["content"] in names:
            # Whether it is a separate word was checked before it was renamed.
            token |= {"content": names[token["content"]], "single_word": False}
    model = made["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(piece, piece): i for piece, i in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        model["merges"] = [pair for pair in model["merges"] if _joined(pair) not in names]
    return Tokenizer.from_str(json.dumps(made))


def _joined(pair: Any) -> str:
    return pair.replace(" ", "", 1) if isinstance(pair, str) else "".join(pair)
