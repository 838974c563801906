"""A language model as a policy: an engine to sample, an optimiser to train, a teacher on demand.

Joins the parts of this package behind `resd_bench.agent.Policy` and charges the ledger. Left out:
what to train on and with which loss, which is the method's business.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from resd_bench.agent import State, TeacherKind
from resd_bench.budget import Ledger, Purpose
from resd_bench.plugins import UsageError
from resd_bench.policy import fast_engine, loading, trainer
from resd_bench.policy.engine import Engine, Generated, context_limit
from resd_bench.policy.hf_engine import HfEngine
from resd_bench.policy.objective import Objective
from resd_bench.policy.tokens import Codec
from resd_bench.types import Completion, Dialect, Example, Messages, Metrics, Sampling, Stop


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """How a language model samples and trains. Defaults follow the paper and its release."""

    learning_rate: float = 1e-6
    """Of AdamW after warm-up. The embedded model wants far more, about 1e-4 to 1e-3."""
    warmup_updates: int = 10
    """Updates of linear warm-up."""
    warmup_from_zero: bool = True
    """Whether the first update has learning rate 0, as in the paper's release."""
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    """Largest gradient norm."""
    micro_batch_tokens: int = 4096
    """Padded tokens (student and teacher) per forward and backward pass."""
    micro_batch_logits: int = 1 << 25
    """Largest number of logits (sequences x response tokens x vocabulary) per pass."""
    autocast: bool = False
    """Train with matrix products in bfloat16; weights stay in their own precision."""
    engine: Literal["auto", "fast", "hf"] = "auto"
    """`fast` decodes Qwen3, Qwen2 and Llama with our own loop, `hf` any model, slowly."""
    max_batch_tokens: int | None = None
    """Tokens (prompt and new) decoded together; None follows from the model's size."""
    context_limit: int | None = None
    """Most tokens of prompt and response; None is what the model can hold."""
    dialect: Literal["auto", "full", "compact"] = "auto"
    """How prompts are worded; `auto` is `compact` for the embedded model, else `full`."""
    threads: int | None = None
    """CPU threads of torch; None is 1 for models below 50 million parameters."""


@dataclass(slots=True)
class Teacher:
    """A second copy of the weights, in float32: a step of 1e-4 is lost in bfloat16."""

    model: Any
    kind: TeacherKind
    ema_rate: float

    @torch.no_grad()
    def follow(self, student: Any) -> None:
        """theta_T <- (1 - rate) theta_T + rate theta, for a teacher that moves (section 3.3)."""
        if self.kind == "frozen":
            return
        pairs = zip(self.model.parameters(), student.parameters(), strict=True)
        for mine, theirs in pairs:
            mine.lerp_(theirs.to(mine.dtype), self.ema_rate)


class LMPolicy:
    """`resd_bench.agent.Policy` over a Hugging Face causal language model."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        config: PolicyConfig | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        """Take over `model`: its weights are trained in place."""
        self.model = model.eval()
        self.config = config = config or PolicyConfig()
        self.ledger = ledger if ledger is not None else Ledger()
        self.codec = Codec(tokenizer, getattr(model, "generation_config", None))
        self.parameters = loading.parameters(model)
        self.threads = loading.set_threads(config.threads, model)
        held = context_limit(model.config)
        self.context_limit = min(held, config.context_limit or held)
        self.engine = _make_engine(model, self.codec, config)
        self.optimiser = trainer.make_optimiser(model, config.weight_decay)
        self.teacher: Teacher | None = None
        self.updates = 0
        """Calls of `update` so far; counts the warm-up."""
        self.skipped_steps = 0
        """Updates whose gradient norm was not finite."""
        self.dialect: Dialect = _dialect(model, config)
        self._overlong_prompts = 0

    @classmethod
    def load(
        cls,
        path_or_name: str | Path,
        config: PolicyConfig | None = None,
        ledger: Ledger | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str = torch.float32,
    ) -> LMPolicy:
        """The policy of the model at `path_or_name`, see `loading.load`."""
        loading.tune_allocator()
        model, tokenizer = loading.load(path_or_name, device=device, dtype=dtype)
        policy = cls(model, tokenizer, config, ledger)
        if str(path_or_name) == loading.NANO and policy.config.dialect == "auto":
            policy.dialect = "compact"
        return policy

    def sample(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Sample `n` completions of each prompt, charged to the ledger under `purpose`.

        A prompt that leaves no room for `max_new_tokens` is answered by empty completions that
        ended by length, and counted; UsageError where no prompt at all could fit.
        """
        if sampling.max_new_tokens >= self.context_limit:
            raise UsageError(
                f"{sampling.max_new_tokens} new tokens leave no room for a prompt in a context of "
                f"{self.context_limit} tokens; give a smaller --max-new-tokens"
            )
        ids = [self.codec.prompt_ids(messages) for messages in prompts]
        room = self.context_limit - sampling.max_new_tokens
        fitting = [i for i, prompt in enumerate(ids) if len(prompt) <= room]
        self._overlong_prompts += len(ids) - len(fitting)
        made = self.engine.generate(
            [ids[i] for i in fitting], n=n, sampling=sampling, numbers=fitting
        )
        answers = [[Completion("", stop=Stop.LENGTH)] * n for _ in ids]
        for i, group in zip(fitting, made, strict=True):
            new = sum(len(one.token_ids) for one in group)
            self.ledger.charge_sampling(purpose, len(ids[i]), new, self.parameters)
            answers[i] = [self._completion(one) for one in group]
        return answers

    def _completion(self, made: Generated) -> Completion:
        text = self.codec.decode(made.token_ids)
        return Completion(text, made.token_ids, made.logprobs, made.stop)

    def use_teacher(self, kind: TeacherKind, ema_rate: float) -> None:
        """Keep a teacher from now on: a copy of the present weights, frozen or moving."""
        if kind == "ema" and not 0 < ema_rate <= 1:
            raise UsageError(
                f"EMA rate {ema_rate} must be in (0, 1]; for a teacher that stays, "
                "choose the frozen one"
            )
        model = copy.deepcopy(self.model).float().requires_grad_(False)
        self.teacher = Teacher(model, kind, ema_rate)

    def update(
        self, examples: Sequence[Example], objective: Objective, *, batch_size: int
    ) -> Metrics:
        """Take one optimiser step on the sum of per-sequence losses divided by `batch_size`.

        Metrics under `policy/`: `loss`; `grad_norm` before clipping; `lr`; `examples` trained on;
        `tokens` trained (prompt and response); `overlong_examples` and `empty_examples` left out;
        `overlong_prompts` not answered since the last update; `skipped_steps` so far for a
        non-finite gradient norm.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} must be at least 1")
        c = self.config
        lr = trainer.warmed_up(c.learning_rate, self.updates, c.warmup_updates, c.warmup_from_zero)
        self.updates += 1
        self.ledger.updates += 1
        spoken = [e for e in examples if e.completion.token_ids]
        rows = [row for row in map(self._row, spoken) if self._fits(row)]
        result = self._step(rows, objective, batch_size, lr) if rows else None
        tokens = sum(row.student_tokens for row in rows)
        metrics = {
            "policy/loss": result.loss if result else 0.0,
            "policy/grad_norm": result.grad_norm if result else 0.0,
            "policy/lr": lr,
            "policy/examples": float(len(rows)),
            "policy/tokens": float(tokens),
            "policy/overlong_examples": float(len(spoken) - len(rows)),
            "policy/empty_examples": float(len(examples) - len(spoken)),
            "policy/overlong_prompts": float(self._overlong_prompts),
            "policy/skipped_steps": float(self.skipped_steps),
        }
        self._overlong_prompts = 0
        return metrics

    def _row(self, example: Example) -> trainer.Row:
        said, context = example.completion, example.teacher_messages
        return trainer.Row(
            prompt=self.codec.prompt_ids(example.messages),
            response=said.token_ids,
            teacher_prompt=None if context is None else self.codec.prompt_ids(context),
            behaviour_logprobs=said.logprobs,
            advantage=example.advantage,
            weight=example.weight,
        )

    def _fits(self, row: trainer.Row) -> bool:
        return max(row.student_tokens, row.teacher_tokens) <= self.context_limit

    def _step(
        self, rows: Sequence[trainer.Row], objective: Objective, batch_size: int, lr: float
    ) -> trainer.StepResult:
        c = self.config
        result = trainer.train_step(
            self.model,
            self.teacher.model if self.teacher else None,
            self.optimiser,
            rows,
            objective,
            batch_size=batch_size,
            learning_rate=lr,
            grad_clip=c.grad_clip,
            limits=trainer.Limits(c.micro_batch_tokens, c.micro_batch_logits),
            autocast=c.autocast,
        )
        if not result.stepped:
            self.skipped_steps += 1
        elif self.teacher is not None:
            self.teacher.follow(self.model)
        trained = sum(row.student_tokens for row in rows)
        scored = sum(row.teacher_tokens for row in rows)
        self.ledger.trained_tokens += trained
        self.ledger.scored_tokens += scored
        self.ledger.flops += self.parameters * (6.0 * trained + 2.0 * scored)
        return result

    def state_dict(self) -> State:
        """A copy of everything that moves: weights, optimiser, teacher, counters."""
        teacher = None
        if self.teacher is not None:
            teacher = {
                "kind": self.teacher.kind,
                "ema_rate": self.teacher.ema_rate,
                "weights": _weights(self.teacher.model),
            }
        return {
            "model": _weights(self.model),
            "optimiser": copy.deepcopy(self.optimiser.state_dict()),
            "teacher": teacher,
            "updates": self.updates,
            "skipped_steps": self.skipped_steps,
            "overlong_prompts": self._overlong_prompts,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on exactly where `state_dict` was taken; ValueError for another model's state."""
        _restore(self.model, state["model"])
        self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
        self.teacher = None
        if (kept := state["teacher"]) is not None:
            self.use_teacher(kept["kind"], kept["ema_rate"])
            assert self.teacher is not None
            _restore(self.teacher.model, kept["weights"])
        self.updates = int(state["updates"])
        self.skipped_steps = int(state["skipped_steps"])
        self._overlong_prompts = int(state["overlong_prompts"])


def _make_engine(model: Any, codec: Codec, config: PolicyConfig) -> Engine:
    """The engine `config` asks for; UsageError where it does not serve this model."""
    fast = fast_engine.supports(model)
    if config.engine == "fast" and not fast:
        raise UsageError(
            f"the fast engine does not know {type(model).__name__}; use --engine hf or auto"
        )
    if config.engine == "hf" or not fast:
        tokens = config.max_batch_tokens or 32768
        return HfEngine(model, codec.stop_ids, codec.pad_id, tokens)
    return fast_engine.FastEngine(model, codec.stop_ids, codec.pad_id, config.max_batch_tokens)


def _dialect(model: Any, config: PolicyConfig) -> Dialect:
    """The dialect asked for, else the one the model's config names (`resd_dialect`), else full."""
    if config.dialect != "auto":
        return config.dialect
    return cast(Dialect, getattr(model.config, "resd_dialect", "full"))


def _weights(model: Any) -> dict[str, Tensor]:
    """A copy of the parameters, tied ones once."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@torch.no_grad()
def _restore(model: Any, weights: Mapping[str, Tensor]) -> None:
    mine = dict(model.named_parameters())
    if mine.keys() != weights.keys():
        odd = sorted(mine.keys() ^ weights.keys())
        raise ValueError(f"the saved state is of another model; parameters that differ: {odd[:3]}")
    for name, parameter in mine.items():
        parameter.copy_(weights[name])
