"""A hosted model: any server that speaks the OpenAI chat API, asked for text.

    OPENAI_API_KEY=... resd-bench eval --model NAME --env finer --server https://HOST/v1 \\
      --set engine=chat

Text is enough where nothing is trained: `base`, the methods that learn in context, and `eval`. The
key goes to the server on the command line and nowhere else. Left out: log-probabilities and token
ids, which few such servers return; training, which needs both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from resd_bench import packaged_models
from resd_bench.errors import UsageError
from resd_bench.options import NOT_NEGATIVE, POSITIVE, Range
from resd_bench.policy.chat_policy import ChatPolicy, Request
from resd_bench.policy.engines.base import Engine
from resd_bench.policy.engines.chat_client import ChatClient
from resd_bench.policy.engines.kept_answers import KeptAnswers
from resd_bench.policy.engines.registry import EngineSetup, EngineSpec, TextSetup
from resd_bench.policy.engines.server import Server


@dataclass(frozen=True)
class ChatOptions:
    """Options of `--engine chat`."""

    concurrency: Annotated[int, Range(1, 256)] = 8
    """Requests that are under way at a time."""
    attempts: Annotated[int, POSITIVE] = 8
    """Requests for one answer before a server that is busy or fails ends the run."""
    timeout: Annotated[float, Range(0.1, 1e6)] = 600.0
    """Seconds that one answer may take."""
    price_in: Annotated[float, NOT_NEGATIVE] = 0.0
    """Price of a million prompt tokens, in any currency; with `price_out` it gives the cost."""
    price_out: Annotated[float, NOT_NEGATIVE] = 0.0
    """Price of a million new tokens."""
    keep: bool = True
    """Keep answers in the cache folder, so that no sample is asked for and paid twice."""
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the maximum number of new tokens."""
    send_sampling: bool = True
    """Send temperature and top-p; some reasoning models refuse them."""
    send_seed: bool = False
    """Send the seed of each sample; some servers refuse it."""


def _policy(setup: TextSetup) -> ChatPolicy:
    config, own = setup.config, setup.own
    name = config.server_model or setup.model
    if config.server_model is None and setup.model in packaged_models.NAMES:
        raise UsageError(
            f"--engine chat asks a server for a model by the name it has there, and {name!r} is "
            "embedded here: give --model NAME (or --server-model NAME if it is served there)"
        )
    server = Server(str(config.server))
    return ChatPolicy(
        ChatClient(server, own.attempts, own.timeout),
        Request(name, own.length_field, own.send_sampling, own.send_seed),
        KeptAnswers.of(server.url, name) if own.keep else None,
        concurrency=own.concurrency,
        prices=(own.price_in, own.price_out),
        dialect=config.dialect or "full",
    )


def _no_tokens(setup: EngineSetup) -> Engine:
    raise UsageError(
        "--engine chat returns text without token ids, so there is no local model to sample with "
        "it, and nothing that `engines check` examines"
    )


ENGINE = EngineSpec(
    name="chat",
    summary="a hosted model behind the OpenAI chat API; text only, trains nothing",
    build=_no_tokens,
    weights="elsewhere",
    options=("server", "server_model"),
    required=("server",),
    config=ChatOptions,
    text_policy=_policy,
)
