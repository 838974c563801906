"""Sampling from a running server that speaks the OpenAI completions API over token ids.

    python -m vllm.entrypoints.openai.api_server --model PATH --logprobs-mode processed_logprobs

Prompts are sent and completions returned as token ids, so that chat templates and training see the
tokens that were sampled; of the known servers, vLLM supports this. A trained adapter is written to
a folder and loaded by the server after each update. Left out: servers that return only text,
training all weights of a model (the API cannot transfer them), streaming.
"""

from __future__ import annotations

import http.client
import json
import os
import tempfile
import time
import urllib.error
import urllib.request
import uuid
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from resd_bench.errors import UsageError, near_miss
from resd_bench.files import reading
from resd_bench.files.redaction import HIDDEN
from resd_bench.policy import lora
from resd_bench.policy.engines.base import Generated, check_request, row_seed
from resd_bench.policy.engines.logprob_gap import GAP_TOLERANCE, GREEDY, measure
from resd_bench.policy.engines.registry import EngineSetup, EngineSpec
from resd_bench.policy.parallel.placement import SingleDevice
from resd_bench.types import Sampling, Stop

REQUESTS = 64
"""Concurrent requests; the server batches them."""
_TIMEOUT_S = 3600.0
_PAUSES_S = (0.5, 4.0, 16.0)
"""Pause before each retry of a request that found no server or a busy one."""
_BUSY = frozenset({429, 502, 503, 504})
_MOVED = frozenset({301, 302, 303, 307, 308})
_MOST_ANSWERED = 256 << 20
"""Maximum bytes of an answer."""
_MOST_TOLD = 1 << 16
"""Maximum bytes read of an error response."""
_MOST_SAID = 1000
"""Maximum characters of a server's message that are passed on."""
_PIECE = 1 << 16
_TOKEN = "token_id:"
"""How vLLM writes a token's id in place of its text."""
_TEMPERED = Sampling(temperature=2.0, max_new_tokens=8)
"""A high temperature, so that it changes the log-probabilities of the tokens drawn."""
_NEUTRAL = {
    # The server takes whatever is missing from the model's generation config.
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


class Refusal(UsageError):
    """A server's answer that is an error; the message quotes it, without the key."""

    def __init__(self, message: str, code: str = "", retry_after: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        """What the server calls the error, such as `insufficient_quota`."""
        self.retry_after = retry_after
        """The header of that name."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as an answer, see `Server._refusal`."""

    def redirect_request(self, *args: Any, **options: Any) -> None:
        return None


class Server:
    """An OpenAI-compatible server at a URL that ends in `/v1`, asked in JSON."""

    def __init__(self, url: str, pauses_s: Sequence[float] = _PAUSES_S) -> None:
        """UsageError if `url` is not a URL. The key is taken from OPENAI_API_KEY.

        It is sent to this server only: redirects are not followed.
        """
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(
                f"--server {url!r} is not a URL: give one such as http://localhost:8000/v1"
            )
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._pauses_s = pauses_s
        self._headers = {"Content-Type": "application/json"}
        self._key = _key()
        if self._key:
            self._headers["Authorization"] = f"Bearer {self._key}"

    def models(self) -> dict[str, Mapping[str, Any]]:
        """What the server says about each model it serves, by name; UsageError if it is down."""
        told = self._ask("models", None, pauses_s=())
        entries = told.get("data") if isinstance(told, dict) else None
        if not isinstance(entries, list) or not all(map(_is_named, entries)):
            raise UsageError(
                f"{self.url} answers, but lists no models: give the URL up to and including /v1"
            )
        return {str(entry["id"]): entry for entry in entries}

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to `body`; UsageError with the server's message if it refuses."""
        return self._ask(path, json.dumps(body).encode(), self._pauses_s)

    def _ask(self, path: str, body: bytes | None, pauses_s: Sequence[float]) -> Any:
        for pause in (*pauses_s, None):
            try:
                return self.ask_once(path, body)
            except urllib.error.HTTPError as error:
                refusal = self.refusal(path, error)
                if error.code not in _BUSY or pause is None:
                    raise refusal from error
            except (OSError, http.client.HTTPException) as error:
                if pause is None:
                    raise UsageError(
                        f"no server answers at {self.url} ({error}). Start one, or give the right "
                        "--server; --resume continues the run"
                    ) from error
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def ask_once(self, path: str, body: bytes | None, timeout_s: float = _TIMEOUT_S) -> Any:
        """The answer to one request; text if it is not JSON.

        HTTPError if it is refused; OSError or HTTPException if there is none within `timeout_s`.
        """
        request = urllib.request.Request(f"{self.url}/{path}", body, self._headers)
        deadline = time.monotonic() + timeout_s
        with self._opener.open(request, timeout=timeout_s) as answer:
            return _decoded(self._read(answer, deadline))

    def _read(self, answer: http.client.HTTPResponse, deadline: float) -> bytes:
        raw = bytearray()
        while piece := answer.read1(_PIECE):
            raw += piece
            if len(raw) > _MOST_ANSWERED:
                most = _MOST_ANSWERED >> 20
                raise UsageError(f"{self.url} answers more than {most} MiB: give another --server")
            # The time limit of a socket counts from the last byte.
            if time.monotonic() > deadline:
                raise TimeoutError("its answer does not end")
        return bytes(raw)

    def refusal(self, path: str, error: urllib.error.HTTPError) -> Refusal:
        """What to tell the user of a refused request; reads its answer."""
        if error.code in _MOVED:
            there = error.headers.get("Location", "elsewhere")
            return Refusal(
                f"{self.url}/{path} answers {error.code}, moved to {there[:200]}: redirects are "
                "not followed, as they could leak your key; give the right --server"
            )
        told, hint = _decoded(error.read(_MOST_TOLD)), ""
        if error.code in (401, 403):
            hint = ". Put the server's key into OPENAI_API_KEY"
        elif error.code == 404 and path == "models":
            hint = ". Give the URL up to and including /v1"
        cause = told.get("error") if isinstance(told, dict) else None
        code = str(cause.get("code", "")) if isinstance(cause, dict) else ""
        message = f"{self.url}/{path} answers {error.code}: {self.said(told)}{hint}"
        return Refusal(message, code, error.headers.get("Retry-After"))

    def said(self, told: Any) -> str:
        """The message in an answer that is an error, without the key, at most `_MOST_SAID` long."""
        told = told.get("error", told) if isinstance(told, dict) else told
        words = str(told.get("message", told) if isinstance(told, dict) else told)
        return (words.replace(self._key, HIDDEN) if self._key else words)[:_MOST_SAID]


class ServerEngine:
    """Samples from a server with the policy's model and, if one is trained, its adapter."""

    def __init__(
        self,
        server: Server,
        name: str | None,
        model: Any,
        stop_ids: Collection[int],
        *,
        limit: int,
        adapted: Any = None,
    ) -> None:
        """Sample from the model `name` of `server`, the only one if None.

        `model` is the trainer's, or a model without weights (on the meta device), which is not
        compared with the server's. UsageError if the server is down, does not serve the model,
        serves a different one, or does not return token ids and log-probabilities.
        """
        self.server = server
        self._weights = SingleDevice(model)
        self.stop_ids = sorted(stop_ids)
        self.limit = limit
        self._adapted = adapted
        self._base = self._name = _choose(server, name, limit)
        self._folder = tempfile.TemporaryDirectory(prefix="resd-server-")
        self._loaded = 0
        """How many times the server was sent an adapter."""
        self._stale = adapted is not None
        self._hollow = next(model.parameters()).device.type == "meta"
        if not self._hollow:
            self._check()

    def sync_weights(self) -> None:
        """Load the adapter before the next sample; UsageError if all weights are trained."""
        if self._adapted is None and not self._hollow:
            raise UsageError(
                "--engine openai cannot send a server the weights of a whole model: train an "
                "adapter (--lora-rank 16), or use --engine vllm"
            )
        self._stale = self._adapted is not None

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        n: int,
        sampling: Sampling,
        numbers: Sequence[int] | None = None,
    ) -> list[list[Generated]]:
        """`n` continuations of each prompt, see `Engine.generate`."""
        check_request(prompts, n, sampling, self.limit)
        if self._stale:
            self._load_adapter()
        named = range(len(prompts)) if numbers is None else numbers
        rows = [
            (prompt, row_seed(sampling, number, sample))
            for prompt, number in zip(prompts, named, strict=True)
            for sample in range(n)
        ]
        flat = _at_once(lambda row: self._one(row[0], row[1], sampling, self.stop_ids), rows)
        return [flat[start : start + n] for start in range(0, len(flat), n)]

    def _one(
        self, prompt: Sequence[int], seed: int, sampling: Sampling, stop_ids: Sequence[int]
    ) -> Generated:
        body = {
            "model": self._name,
            "prompt": list(prompt),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p if sampling.temperature else 1.0,
            "seed": seed,
            "stop_token_ids": list(stop_ids),
            "ignore_eos": not stop_ids,
            "logprobs": 1,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            **_NEUTRAL,
        }
        return _generated(self.server.post("completions", body), stop_ids, self.server.url)

    def _load_adapter(self) -> None:
        """Let the server replace its adapter by the newly trained one."""
        name = f"resd-{uuid.uuid4().hex[:12]}" if not self._loaded else self._name
        # A new path each time: what was computed with the last adapter is cached under its path.
        path = Path(self._folder.name) / f"adapter-{self._loaded}"
        lora.save(self._adapted, path)
        body = {"lora_name": name, "lora_path": str(path), "load_inplace": True}
        try:
            self.server.post("load_lora_adapter", body)
        except UsageError as error:
            raise UsageError(
                f"{error}. To train an adapter, start the server with --enable-lora, a "
                "--max-lora-rank that is large enough and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, "
                f"where it can read {path} (TMPDIR chooses the folder)"
            ) from error
        if not self._loaded:
            weakref.finalize(self, _unload, self.server, name)
        self._name, self._stale = name, False
        self._loaded += 1
        self._check()

    def _check(self) -> None:
        """UsageError if the server's model or its log-probabilities are not the trainer's."""
        gap = measure(self._weights, lambda prompt, how: self._one(prompt, 0, how, ()), GREEDY)
        # A server does not say which precision it computes in.
        allowed = max(GAP_TOLERANCE.values())
        if not max(gap.logprobs, gap.greedy) <= allowed:
            raise UsageError(
                f"{self.server.url} serves another model as {self._base!r} than --model: "
                f"log-probabilities of greedy tokens differ by {gap.logprobs:.3g} nats, and "
                f"rounding explains up to {allowed}. Serve the folder or name that --model gives"
            )
        tempered = measure(
            self._weights, lambda prompt, how: self._one(prompt, 0, how, ()), _TEMPERED
        )
        if not tempered.logprobs <= allowed:
            raise UsageError(
                f"{self.server.url} returns log-probabilities before temperature and top-p: start "
                "it with --logprobs-mode processed_logprobs, so that training gets the right ones"
            )


def _key() -> str:
    """The key in OPENAI_API_KEY, "" without one; UsageError if no header can hold it."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError("OPENAI_API_KEY holds characters that no key has: set it again")
    return key


def _choose(server: Server, name: str | None, limit: int) -> str:
    """The model to ask for; UsageError if it is not served, or not up to `limit` tokens."""
    served = server.models()
    if name is None and len(served) != 1:
        names = ", ".join(sorted(served)) or "none"
        raise UsageError(f"{server.url} serves {len(served)} models: give --server-model ({names})")
    name = next(iter(served)) if name is None else name
    if name not in served:
        raise near_miss(f"model of {server.url} (--server-model)", name, served)
    longest = served[name].get("max_model_len")
    if isinstance(longest, int) and longest < limit:
        raise UsageError(
            f"{server.url} accepts {longest} tokens of prompt and answer and the run asks for "
            f"{limit}: give --context-limit {longest}, or start the server with "
            f"--max-model-len {limit}"
        )
    return name


def _at_once(
    ask: Callable[[tuple[Sequence[int], int]], Generated], rows: Sequence[tuple[Sequence[int], int]]
) -> list[Generated]:
    """Call `ask` for every row, several at a time; the first failure ends the others."""
    pool = ThreadPoolExecutor(min(REQUESTS, max(1, len(rows))))
    try:
        return list(pool.map(ask, rows))
    finally:
        pool.shutdown(cancel_futures=True)


def _generated(answer: Any, stop_ids: Sequence[int], url: str) -> Generated:
    """A completion as tokens, up to the first stop token; UsageError if it has no token ids."""
    try:
        choice = answer["choices"][0]
        told = choice["logprobs"]
        logprobs = tuple(float(p) for p in told["token_logprobs"])
        ids = tuple(choice.get("token_ids") or _named_ids(told["tokens"]))
        if len(ids) != len(logprobs):
            raise ValueError(f"{len(ids)} ids and {len(logprobs)} log-probabilities")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UsageError(
            f"{url} does not return token ids with log-probabilities ({error}): use a server that "
            "supports return_token_ids, such as vLLM 0.11 or newer"
        ) from error
    ends = next((at for at, token in enumerate(ids) if token in stop_ids), None)
    if ends is not None:
        return Generated(ids[: ends + 1], logprobs[: ends + 1], Stop.EOS)
    # Some servers do not return the stop token.
    stopped = choice.get("finish_reason") == "stop"
    return Generated(ids, logprobs, Stop.EOS if stopped else Stop.LENGTH)


def _named_ids(tokens: Sequence[str]) -> list[int]:
    if any(not str(token).startswith(_TOKEN) for token in tokens):
        raise ValueError("tokens are given as text")
    return [int(str(token).removeprefix(_TOKEN)) for token in tokens]


def _is_named(entry: Any) -> bool:
    return isinstance(entry, dict) and "id" in entry


def _decoded(raw: bytes) -> Any:
    text = raw.decode("utf-8", "replace")
    try:
        return reading.parse_json(text)
    except ValueError:
        return text[:200]


def _unload(server: Server, name: str) -> None:
    """Unload the adapter from the server; it may be gone by now."""
    with suppress(UsageError):
        Server(server.url, ()).post("unload_lora_adapter", {"lora_name": name})


def _build(setup: EngineSetup) -> ServerEngine:
    return ServerEngine(
        Server(str(setup.config.server)),
        setup.config.server_model,
        setup.model,
        setup.stop_ids,
        limit=setup.limit,
        adapted=setup.adapted,
    )


ENGINE = EngineSpec(
    name="openai",
    summary="a running server that speaks the OpenAI completions API over token ids",
    build=_build,
    weights="elsewhere",
    adapters_only=True,
    options=("server", "server_model"),
    required=("server",),
)
