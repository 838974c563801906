"""Hide what may be a secret before it is written: API keys, passwords, access tokens.

Secrets are recognised by the name of what holds a value (`api_key`, `HF_TOKEN`), by the shape of
the value, and by being the value of an environment variable with such a name. Token counts and a
model's special tokens are not secrets. Left out: secrets in prompts and answers, which are measured
data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "<hidden>"
"""Replaces a hidden value."""
_WORDS = frozenset(
    {"secret", "secrets", "password", "passwd", "pwd", "passphrase", "credential", "credentials"}
    | {"apikey", "privatekey", "authorization", "bearer", "cookie", "auth", "passcode", "dsn"}
)
_OF_DATA = frozenset(
    {"answer", "sort", "primary", "foreign", "group", "row", "task", "dict", "map", "index"}
)
"""Before `key`, they make a key of data, which is not a secret."""
_OF_MODELS = frozenset(
    {"pad", "eos", "bos", "unk", "sep", "cls", "mask", "stop", "end", "start", "image"}
    | {"special", "new"}
)
"""Before `token`, they make a token of a model, which is not a secret."""
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_KEY = re.compile(r"""(?<![\w.-])(-{0,2}[A-Za-z_][\w.-]*+)["']?\s*+[=:]\s*+""")
_VALUE = re.compile(r""""[^"]*"?|'[^']*'?|[^\s"',;&}\]]+""")
_LOGIN = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_SHAPES = re.compile(
    r"\b(?:sk-[\w-]{8,}|hf_\w{10,}|gh[pousr]_\w{20,}|xox[a-z]-[\w-]{10,}|AKIA[0-9A-Z]{16}"
    r"|eyJ[\w-]{8,2000}\.[\w-]+\.[\w-]*)|(?<=Bearer )\S+|(?<=Basic )\S+"
)
_SHORTEST = 8
"""Least length of an environment variable's value that is searched for."""


def looks_secret(name: str) -> bool:
    """Whether a name suggests a secret: `api_key`, `env.password`, `TOKEN`."""
    words = [word.lower() for word in _PARTS.findall(name)]
    if not _WORDS.isdisjoint(words) or name.lower().lstrip("-").rpartition(".")[2] == "key":
        return True
    pairs = list(zip(["", *words], words, strict=False))
    return any(
        (after == "key" and before not in _OF_DATA)
        or (after == "token" and before not in _OF_MODELS)
        for before, after in pairs
    )


def redact(text: str) -> str:
    """`text` with whatever may be a secret hidden."""
    text = _LOGIN.sub(HIDDEN, text)
    text = _without_values(text)
    text = _SHAPES.sub(HIDDEN, text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and looks_secret(name):
            text = text.replace(value, HIDDEN)
    return text


def _without_values(text: str) -> str:
    """`text` without what follows `api_key=`, `password: ` and the like."""
    parts, at = [], 0
    for match in _KEY.finditer(text):
        if match.start() < at or not looks_secret(match[1]):
            continue
        if (value := _VALUE.match(text, match.end())) is not None:
            parts += [text[at : match.end()], HIDDEN]
            at = value.end()
    return "".join([*parts, text[at:]])


def redact_command(words: Iterable[str]) -> list[str]:
    """A command line with the values hidden of options whose names look secret."""
    shown: list[str] = []
    before = ""
    for word in words:
        is_value = before.startswith("--") and "=" not in before and not word.startswith("--")
        shown.append(HIDDEN if is_value and looks_secret(before) else redact(word))
        before = word
    return shown


def redact_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings without values whose keys look secret and without logins in addresses."""
    return {key: HIDDEN if _hides(key, own) else _redacted(own) for key, own in values.items()}


def _hides(key: object, value: object) -> bool:
    return value is not None and not isinstance(value, bool) and looks_secret(str(key))


def _redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return redact_values(value)
    if isinstance(value, list | tuple):
        return type(value)(_redacted(item) for item in value)
    return _LOGIN.sub(HIDDEN, value) if isinstance(value, str) else value
