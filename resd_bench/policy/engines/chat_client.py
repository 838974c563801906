"""One answer of a chat server: asked, asked again while that may help, and read.

A server that is busy says so to all requests at once: after a 429 none is sent until the time it
names, or a growing one, is over. Left out: streaming, tools, images, several answers per request.
"""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.policy.chat_codec import valid_unicode
from resd_bench.policy.engines.server import Refusal, Server
from resd_bench.seeds import derive
from resd_bench.types import Stop

PATH = "chat/completions"
MOST_WAIT_S = 600.0
"""A server that asks to wait longer ends the run, which can be resumed."""
_FIRST_PAUSE_S, _MOST_PAUSE_S = 1.0, 60.0
"""Pause after the first failure, doubled after each further one, where the server names none."""
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_NO_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_OVERLONG = ("context_length_exceeded", "maximum context length")
_CHARACTERS_PER_TOKEN = 4
"""An estimate, where a server does not count."""
_MOST_TOKENS = 10**9


class Cancelled(Exception):
    """Another request has failed, so this one is not sent again."""


class Malformed(ValueError):
    """An answer is not a chat completion."""


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """An answer, and what it took."""

    text: str
    stop: Stop
    """`LENGTH` where the token limit cut it off, else `EOS`."""
    prompt_tokens: int
    new_tokens: int
    """Tokens sampled, those of hidden reasoning included."""
    counted: bool = True
    """Whether the server counted the tokens; otherwise they are estimated from characters."""


@dataclass
class ChatClient:
    """Asks a server for chat completions; may be used by several threads at a time."""

    server: Server
    attempts: int
    """Requests for one answer, after which the failure is the user's."""
    timeout_s: float
    first_pause_s: float = _FIRST_PAUSE_S
    closed_until: float = 0.0
    """When the next request may be sent, by the monotonic clock."""
    stop: Event = field(default_factory=Event)
    """Set when nothing more is to be sent."""

    def ask(self, body: Mapping[str, Any], name: int) -> ChatAnswer | None:
        """The answer to `body`; None if the prompt does not fit the model's context.

        `name` is that of the random stream that spreads retries. UsageError for what the server
        refuses, and after `attempts` failures; Cancelled once `stop` is set.
        """
        raw = json.dumps(body).encode()
        for attempt in range(1, self.attempts + 1):
            self._wait(self.closed_until - time.monotonic())
            asked: float | None = None
            try:
                told = self.server.ask_once(PATH, raw, self.timeout_s)
                return read_reply(told, body)
            except urllib.error.HTTPError as error:
                failure: UsageError = (refusal := self.server.refusal(PATH, error))
                if _is_overlong(refusal):
                    return None
                if error.code not in _AGAIN or refusal.code in _NO_MONEY:
                    raise _with_hint(refusal, body) from None
                asked = seconds_to_wait(refusal.retry_after)
                if error.code == 429:
                    until = time.monotonic() + self._pause(asked, attempt, name)
                    self.closed_until = max(self.closed_until, until)
            except Malformed as error:
                failure = UsageError(
                    f"{self.server.url}/{PATH} gives no chat completion: "
                    f"{self.server.said(str(error))}"
                )
            except (OSError, http.client.HTTPException) as error:
                failure = UsageError(f"no answer from {self.server.url} ({error})")
            if asked is not None and asked > MOST_WAIT_S:
                raise UsageError(f"{failure}; it asks to wait {asked:.0f} s. {_RESUME}")
            if attempt < self.attempts:
                self._wait(self._pause(asked, attempt, name))
        raise UsageError(f"{failure}, {self.attempts} times in a row. {_RESUME}")

    def _pause(self, asked: float | None, attempt: int, name: int) -> float:
        """Seconds until the next request: what was asked, or a growing time; spread by `name`."""
        growing = min(_MOST_PAUSE_S, self.first_pause_s * 2.0 ** (attempt - 1))
        spread = derive(name, attempt) / 2**63
        return growing * (0.5 + spread / 2) if asked is None else asked + spread * growing / 2

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(max(0.0, seconds)):
            raise Cancelled


_RESUME = "What was answered is kept: the same command goes on from there, a run with --resume"


def seconds_to_wait(header: str | None) -> float | None:
    """The seconds that a Retry-After header names, as a number or a date; None without a time."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            until = parsedate_to_datetime(header)
        except ValueError:
            return None
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        seconds = (until - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def read_reply(told: Any, body: Mapping[str, Any]) -> ChatAnswer:
    """The answer in what a server told; Malformed if there is none."""
    try:
        choice = told["choices"][0]
        message = choice["message"]
        given = message.get("content")
        text = _text(message.get("refusal") or "" if given is None else given)
    except (LookupError, TypeError, AttributeError):
        raise Malformed(_excerpt(told)) from None
    cut = choice.get("finish_reason") == "length"
    usage = told.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    prompt, new = (_count(counts.get(f"{name}_tokens")) for name in ("prompt", "completion"))
    said = sum(len(m["content"]) for m in body["messages"])
    return ChatAnswer(
        valid_unicode(text),
        Stop.LENGTH if cut else Stop.EOS,
        _estimate(said) if prompt is None else prompt,
        _estimate(len(text)) if new is None else new,
        counted=prompt is not None and new is not None,
    )


def _text(content: Any) -> str:
    """The text of a message, which may be a list of parts."""
    if isinstance(content, list):
        return "".join(_text(part["text"]) for part in content if part.get("type") == "text")
    if not isinstance(content, str):
        raise TypeError
    return content


def _count(value: Any) -> int | None:
    is_count = type(value) is int and 0 <= value <= _MOST_TOKENS
    return value if is_count else None


def _estimate(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)


def _excerpt(told: Any) -> str:
    """The start of an answer that is none, or the message in it."""
    cause = told.get("error") if isinstance(told, dict) else None
    message = cause.get("message") if isinstance(cause, dict) else cause
    return ascii(message or told)[:200]


def _is_overlong(refusal: Refusal) -> bool:
    return any(sign in f"{refusal.code} {refusal}" for sign in _OVERLONG)


def _with_hint(refusal: Refusal, body: Mapping[str, Any]) -> UsageError:
    """The refusal, with the option that leaves out what the server does not take."""
    hints = {
        "max_completion_tokens": "--set engine.length_field=max_completion_tokens",
        "temperature": "--set engine.send_sampling=false",
        "top_p": "--set engine.send_sampling=false",
        "seed": "--set engine.send_seed=false",
    }
    words = str(refusal)
    for name, option in hints.items():
        named = name in words and (name in body) == ("false" in option)
        if named:
            return UsageError(f"{words}. Perhaps {option}")
    return refusal
