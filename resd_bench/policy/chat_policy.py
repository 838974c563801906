"""A policy whose model is elsewhere and answers in text: it samples, and cannot be trained.

Each sample is one request. What was answered is kept (`kept_answers`), so a run that is killed and
resumed asks only for what is missing. Left out: a tokenizer; tokens are counted by the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import Any

from resd_bench.agent import State, TeacherKind
from resd_bench.budget import Ledger, Purpose
from resd_bench.errors import UsageError
from resd_bench.objective import Objective
from resd_bench.parsing import visible_answer
from resd_bench.policy.chat_codec import valid_unicode
from resd_bench.policy.engines.base import row_seed
from resd_bench.policy.engines.chat_client import Cancelled, ChatAnswer, ChatClient
from resd_bench.policy.engines.kept_answers import KeptAnswers, request_key
from resd_bench.types import Completion, Example, Messages, Metrics, PromptDialect, Sampling, Stop

_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Request:
    """What every request says, and in which words."""

    model: str
    length_field: str = "max_tokens"
    send_sampling: bool = True
    send_seed: bool = False

    def body(self, messages: Messages, sampling: Sampling, seed: int) -> dict[str, Any]:
        """The request for one answer to a chat; earlier answers are without their thinking."""
        chat = [
            {"role": m.role, "content": valid_unicode(visible_answer(m.content))}
            if m.role == "assistant"
            else {"role": m.role, "content": valid_unicode(m.content)}
            for m in messages
        ]
        body = {"model": self.model, "messages": chat, self.length_field: sampling.max_new_tokens}
        if self.send_sampling:
            top_p = sampling.top_p if sampling.temperature else 1.0
            body |= {"temperature": sampling.temperature, "top_p": top_p}
        return body | ({"seed": seed} if self.send_seed else {})


@dataclass(slots=True)
class Spent:
    """What the answers of a run took so far, evaluations included."""

    answers: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    estimated: int = 0
    """Answers whose tokens the server did not count."""
    overlong: int = 0
    """Prompts that did not fit the model's context."""


class ChatPolicy:
    """`resd_bench.agent.Policy` over a chat server."""

    def __init__(
        self,
        client: ChatClient,
        request: Request,
        kept: KeptAnswers | None,
        *,
        concurrency: int = 8,
        prices: tuple[float, float] = (0.0, 0.0),
        dialect: PromptDialect = "full",
    ) -> None:
        """`prices` are those of a million prompt tokens and of a million new ones."""
        self.client, self.request, self.kept = client, request, kept
        self.concurrency, self.prices = concurrency, prices
        self.dialect: PromptDialect = dialect
        self.ledger = Ledger()
        self.spent = Spent()
        self.found = 0
        """Answers of this session that were kept before."""
        self._truncated = self._overlong = 0
        self._answered = False

    def sample(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Sample `n` completions of each prompt, charged to the ledger under `purpose`.

        A prompt that does not fit the model's context is not answered, and counted. UsageError if
        none of the first ones fits, and for what the server refuses or fails to answer.
        """
        named = sampling.numbers(len(prompts))
        seeds = [row_seed(sampling, number, j) for number in named for j in range(n)]
        rows = [(prompts[at // n], seed) for at, seed in enumerate(seeds)]
        bodies = [(self.request.body(chat, sampling, seed), seed) for chat, seed in rows]
        replies = self._ask_all(bodies)
        if replies and not self._answered and not any(replies) and not sampling.streams:
            raise UsageError(
                "no prompt fits the context of the server's model: give shorter prompts, a smaller "
                "--max-new-tokens, or another --model"
            )
        self._answered = True
        answers = [self._charged(reply, purpose) for reply in replies]
        return [answers[start : start + n] for start in range(0, len(answers), n)]

    def _ask_all(self, bodies: Sequence[tuple[dict[str, Any], int]]) -> list[ChatAnswer | None]:
        """An answer to each request, several at a time; the first failure ends the others.

        What is under way by then is awaited and kept, since it is paid for.
        """
        keys = [request_key(body, seed) for body, seed in bodies]
        replies = [self.kept.get(key) if self.kept else None for key in keys]
        missing = [at for at, reply in enumerate(replies) if reply is None]
        self.found += len(replies) - len(missing)
        self.client.stop.clear()
        with ThreadPoolExecutor(self.concurrency) as pool:
            asked = {at: pool.submit(self._ask, *bodies[at], keys[at]) for at in missing}
            try:
                wait(asked.values(), return_when=FIRST_EXCEPTION)
            finally:
                self.client.stop.set()
                pool.shutdown(cancel_futures=True)
        failures = [one.exception() for one in asked.values() if not one.cancelled()]
        for failure in failures:
            if failure is not None and not isinstance(failure, Cancelled):
                raise failure
        return [asked[at].result() if at in asked else reply for at, reply in enumerate(replies)]

    def _ask(self, body: dict[str, Any], seed: int, key: str) -> ChatAnswer | None:
        try:
            reply = self.client.ask(body, seed)
        except BaseException:
            self.client.stop.set()
            raise
        if self.kept is not None and reply is not None:
            self.kept.put(key, reply)
        return reply

    def _charged(self, reply: ChatAnswer | None, purpose: Purpose) -> Completion:
        if reply is None:
            self._overlong += 1
            self.spent.overlong += 1
            return Completion("", stop=Stop.LENGTH)
        self.spent.answers += 1
        self.spent.prompt_tokens += reply.prompt_tokens
        self.spent.new_tokens += reply.new_tokens
        self.spent.estimated += not reply.counted
        self.ledger.charge_sampling(purpose, reply.prompt_tokens, reply.new_tokens, 0)
        if purpose != "evaluation":
            self._truncated += reply.stop is Stop.LENGTH
        return Completion(reply.text, stop=reply.stop, count=reply.new_tokens)

    @property
    def cost(self) -> float:
        """What the answers so far cost at the given prices, kept ones included."""
        tokens = (self.spent.prompt_tokens, self.spent.new_tokens)
        return sum(n * price / _MILLION for n, price in zip(tokens, self.prices, strict=True))

    def spending(self) -> str:
        """How many tokens its answers took so far, and what they cost, in one sentence."""
        spent = self.spent
        parts = [
            f"{spent.answers} answers of {self.request.model}: {spent.prompt_tokens:,} prompt "
            f"tokens, {spent.new_tokens:,} new ones"
        ]
        if any(self.prices):
            parts.append(f"cost {self.cost:.4g}")
        if self.found:
            parts.append(f"{self.found} of them kept from before, not asked for again")
        if spent.estimated:
            parts.append(f"tokens of {spent.estimated} estimated, as the server did not count")
        if spent.overlong:
            parts.append(f"{spent.overlong} prompts too long for the model's context")
        return "; ".join(parts)

    def update(
        self, examples: Sequence[Example], objective: Objective, *, batch_size: int
    ) -> Metrics:
        """An update without examples: it counts, and nothing is trained. UsageError with any.

        Metrics under `policy/`: of the whole run so far, evaluations included, `answers`,
        `prompt_tokens`, `new_tokens` and their `cost`; since the last update, `overlong_prompts`
        and `truncated_completions`, as in `LMPolicy.update`.
        """
        if examples:
            raise _untrainable("train on")
        self.ledger.updates += 1
        metrics = {
            "policy/examples": 0.0,
            "policy/answers": float(self.spent.answers),
            "policy/prompt_tokens": float(self.spent.prompt_tokens),
            "policy/new_tokens": float(self.spent.new_tokens),
            "policy/cost": self.cost,
            "policy/overlong_prompts": float(self._overlong),
            "policy/truncated_completions": float(self._truncated),
        }
        self._overlong = self._truncated = 0
        return metrics

    def score(
        self,
        prompts: Sequence[Messages],
        completions: Sequence[Completion],
        *,
        temperature: float = 1.0,
    ) -> list[tuple[float, ...]]:
        """UsageError: there are no log-probabilities."""
        raise _untrainable("score with")

    def use_teacher(self, kind: TeacherKind, ema_rate: float) -> None:
        """UsageError: there are no weights to copy."""
        raise _untrainable("teach with")

    def state_dict(self) -> State:
        """What was spent, and the counts since the last update."""
        counts = {"truncated": self._truncated, "overlong": self._overlong}
        return {"spent": asdict(self.spent), "counts": counts}

    def load_state_dict(self, state: State) -> None:
        """Resume from `state_dict`."""
        self.spent = Spent(**state["spent"])
        self._truncated = int(state["counts"]["truncated"])
        self._overlong = int(state["counts"]["overlong"])
        self._answered = True


def _untrainable(what: str) -> UsageError:
    return UsageError(
        f"--engine chat has no tokens and no weights to {what}: give a method that trains nothing "
        "(base, ace, gepa), or another --engine"
    )
