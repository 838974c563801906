"""A language model as a policy: an engine to sample, an optimiser to train, a teacher on demand.

This joins the parts of the package behind `resd_bench.agent.Policy` and charges the ledger. Left
out: what to train on and with which loss, which is up to the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from resd_bench.agent import State, TeacherKind
from resd_bench.budget import Ledger, Purpose
from resd_bench.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from resd_bench.errors import UsageError
from resd_bench.models import adapters
from resd_bench.models.identity import model_identity
from resd_bench.monitoring import activity
from resd_bench.objective import Objective
from resd_bench.policy import limits, loading, lora, trainer
from resd_bench.policy.chat_codec import Codec
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines import registry
from resd_bench.policy.engines.base import (
    Engine,
    Generated,
    NonFiniteLogits,
    RemoteWeightsEngine,
    context_limit,
)
from resd_bench.policy.engines.logprob_gap import LogprobGap
from resd_bench.policy.micro_batches import BatchLimits, TokenizedExample, tokens_read
from resd_bench.policy.parallel.dtensor import in_main_memory
from resd_bench.policy.parallel.place import place
from resd_bench.policy.parallel.placement import WeightPlacement
from resd_bench.policy.score import score
from resd_bench.policy.speed import measure_speed
from resd_bench.policy.teacher import AdapterTeacher, Teacher, put, to_state
from resd_bench.types import (
    Completion,
    Example,
    Messages,
    Metrics,
    PromptDialect,
    Sampling,
    Speed,
    Stop,
)

SKIPPED = 3
"""Consecutive steps that may be skipped because of a non-finite gradient before the run ends."""


@dataclass(slots=True)
class Counts:
    """What happened to prompts and completions since the last update."""

    overlong_prompts: int = 0
    truncated_completions: int = 0
    unclosed_thinking: int = 0


class LMPolicy:
    """`resd_bench.agent.Policy` over a Hugging Face causal language model."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        config: PolicyConfig | None = None,
        ledger: Ledger | None = None,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        """Take over `model`: its weights are trained in place, by all processes of the group."""
        self.config = config = config or PolicyConfig()
        _refuse_non_finite(model)
        self.adapted: Any = _adapted(model, config)
        """The peft model around `model` if an adapter is trained, else None."""
        self._base = model_identity(lora.recorded_base(self.adapted)) if self.adapted else {}
        self.model = model.eval()
        self.ledger = ledger if ledger is not None else Ledger()
        self.codec = Codec(
            tokenizer,
            getattr(model, "generation_config", None),
            model_config=model.config,
            thinking=config.thinking,
        )
        self.parameters = loading.parameters(model)
        self.threads = loading.set_threads(config.threads or None, model)
        held = context_limit(model.config)
        self.context_limit = min(held, config.context_limit or held)
        self.process_group = process_group
        self.layout: WeightPlacement = place(model, process_group, config)
        engine = self._make_engine()
        self.engine = self.layout.engine(engine, self.context_limit)
        self._mirror = engine if isinstance(engine, RemoteWeightsEngine) else None
        """The engine, if new weights must be sent to it."""
        self._meter = LogprobGap()
        self._begun: Ledger | None = None
        """The ledger before the first rollout since the last update."""
        self._drawn: Sampling | None = None
        """How the last rollouts were sampled."""
        self.optimiser = trainer.make_optimiser(model, config.weight_decay)
        self.teacher: Teacher | None = None
        self.updates = 0
        """Calls of `update` so far; counts the warm-up."""
        self.skipped_steps = 0
        """Updates whose gradient norm was not finite."""
        self.skipped_in_a_row = 0
        """Those since the last successful step."""
        self.dialect: PromptDialect = _dialect(model, config)
        self._counts = Counts()
        self._answered = False
        if config.gradient_checkpointing:
            _enable_checkpointing(model)

    @classmethod
    def load(
        cls,
        path_or_name: str | Path,
        config: PolicyConfig | None = None,
        ledger: Ledger | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str = torch.float32,
        revision: str | None = None,
        device_map: str | None = None,
        attention: str | None = None,
        process_group: ProcessGroup = SINGLE_PROCESS,
        weights: bool = True,
        trust_remote_code: bool = False,
    ) -> LMPolicy:
        """The policy of the model at `path_or_name`, see `loading.load_model`."""
        loading.tune_allocator()
        model, tokenizer = loading.load_model(
            path_or_name,
            device=device,
            dtype=dtype,
            revision=revision,
            device_map=device_map,
            attention=attention,
            weights=weights,
            trust_remote_code=trust_remote_code,
        )
        return cls(model, tokenizer, config, ledger, process_group)

    def sample(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Sample `n` completions of each prompt, charged to the ledger under `purpose`.

        A prompt that leaves no room for `max_new_tokens` is not answered: its completions are not
        `sampled`, and are counted. UsageError if no prompt at all could fit, or if none of the
        first ones does.
        """
        room = self.room_for_prompts(sampling.max_new_tokens)
        ids = [self.codec.prompt_ids(messages) for messages in prompts]
        fitting = [i for i, prompt in enumerate(ids) if len(prompt) <= room]
        # Few episodes at a time say nothing about the others: with slots, the rollout decides.
        if ids and not fitting and not self._answered and not sampling.streams:
            raise UsageError(
                f"every prompt is longer than the {room} tokens that {sampling.max_new_tokens} new "
                f"tokens leave in this model's context of {self.context_limit} (the shortest has "
                f"{min(map(len, ids))}): give a smaller --max-new-tokens, or a --model with a "
                "longer context"
            )
        self._answered = True
        if purpose == "rollout":
            self._drawn = sampling
            self._begun = self._begun or replace(self.ledger)
        if purpose != "evaluation":
            self._counts.overlong_prompts += len(ids) - len(fitting)
        named = sampling.numbers(len(ids))
        activity.phase_begins(activity.PHASES[purpose], len(fitting) * n)
        try:
            made = self.engine.generate(
                [ids[i] for i in fitting],
                n=n,
                sampling=sampling,
                numbers=[named[i] for i in fitting],
            )
        except NonFiniteLogits:
            raise self._broken() from None
        activity.settle(len(fitting) * n, sum(len(g.token_ids) for group in made for g in group))
        answers = [[Completion("", stop=Stop.LENGTH)] * n for _ in ids]
        for i, group in zip(fitting, made, strict=True):
            new = sum(len(one.token_ids) for one in group)
            self.ledger.charge_sampling(purpose, len(ids[i]), new, self.parameters)
            answers[i] = [self._completion(one) for one in group]
            if purpose != "evaluation":
                self._count(answers[i])
        return answers

    def _broken(self) -> UsageError:
        """The error that says why nothing can be sampled, and the remedy."""
        tensor = trainer.non_finite(self.model)
        if not tensor:
            return UsageError(
                "the model's logits are not finite, although its weights are: it overflows. Give "
                "--precision float32, or temperatures closer to 1"
            )
        return UsageError(
            f"the model cannot be sampled from after {self.updates} updates: {tensor} holds NaN or "
            f"infinity. Start again with a smaller --learning-rate than "
            f"{self.config.learning_rate:g}, or with --precision float32"
        )

    def room_for_prompts(self, max_new_tokens: int) -> int:
        """Longest prompt that leaves room for `max_new_tokens`; UsageError if none does."""
        return limits.room_for_prompts(self.context_limit, max_new_tokens)

    def speed(self, rows: int) -> Speed | None:
        """Measured speed with `rows` answers at once, not charged; None for other engines' copies.

        A run measures the same with or without it.
        """
        if self._mirror is not None or self.process_group.size > 1:
            return None
        return measure_speed(self.engine, rows)

    def count_tokens(self, text: str) -> int:
        """Number of tokens of `text` on its own."""
        return self.codec.count_tokens(text)

    def _count(self, completions: Sequence[Completion]) -> None:
        cut = [one for one in completions if one.stop is Stop.LENGTH]
        self._counts.truncated_completions += len(cut)
        self._counts.unclosed_thinking += sum(self.codec.left_thinking(one.text) for one in cut)

    def _completion(self, made: Generated) -> Completion:
        text = self.codec.answer(made.token_ids) if made.token_ids else ""
        return Completion(text, made.token_ids, made.logprobs, made.stop)

    def _make_engine(self) -> Engine:
        """The engine that the configuration asks for; UsageError if it cannot be used here."""
        setup = registry.EngineSetup(
            model=self.layout.sampler,
            stop_ids=self.codec.stop_ids,
            pad_id=self.codec.pad_id,
            limit=self.context_limit,
            adapted=self.adapted,
            config=self.config,
            weights=self.layout,
            processes=self.process_group.size,
        )
        return registry.make(self.config.engine, setup)

    def score(
        self,
        prompts: Sequence[Messages],
        completions: Sequence[Completion],
        *,
        temperature: float = 1.0,
    ) -> list[tuple[float, ...]]:
        """Log-probabilities of the tokens of each completion after its prompt, see `Policy`."""
        rows = [
            TokenizedExample(self.codec.prompt_ids(chat), said.token_ids, None, (), 0.0, 1.0)
            for chat, said in zip(prompts, completions, strict=True)
        ]
        fitting = [i for i, row in enumerate(rows) if row.response and self.fits(row)]
        read = [rows[i] for i in fitting]
        c, device = self.config, self.model.get_input_embeddings().weight.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=c.autocast):
            limits = BatchLimits(c.micro_batch_tokens, c.micro_batch_logits)
            found = dict(zip(fitting, score(self.model, read, temperature, limits), strict=True))
        self._charge(0, tokens_read(read)[0])
        return [found.get(i, ()) for i in range(len(rows))]

    def use_teacher(self, kind: TeacherKind, ema_rate: float) -> None:
        """Keep a teacher from now on: a copy of the current weights, frozen or moving.

        If an adapter is trained, the teacher is a second adapter of the same model.
        """
        if kind == "ema" and not 0 < ema_rate <= 1:
            raise UsageError(
                f"EMA rate {ema_rate} must be in (0, 1]; for a teacher that does not move, "
                "choose the frozen one"
            )
        if self.adapted is not None:
            self.teacher = AdapterTeacher.of(self.adapted, kind, ema_rate)
            return
        self.teacher = self.layout.teacher(
            kind, ema_rate, self.config.teacher_precision, self.config.teacher_offload
        )

    def update(
        self, examples: Sequence[Example], objective: Objective, *, batch_size: int
    ) -> Metrics:
        """Take one optimiser step on the sum of per-sequence losses divided by `batch_size`.

        Metrics under `policy/`: `loss`; `grad_norm` before clipping; `lr`; `examples` trained on;
        `tokens` that the student read (prompt and response; a prefix that examples share counts
        once);
        `overlong_examples` and `empty_examples` left out; `shortened_teacher_prompts` that lost
        `shed_sections` to fit the context; since the last update, evaluations not counted,
        `overlong_prompts` not answered, `truncated_completions` cut off by length and
        `unclosed_thinking` among them; `skipped_steps` so far for a non-finite gradient norm. With
        an engine that has weights of its own, also what `LogprobGap.metrics` says, under the
        weights that sampled.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} must be at least 1")
        c = self.config
        activity.phase_begins("training", len(examples))
        lr = trainer.warmed_up(c.learning_rate, self._place(), c.warm_up, c.warmup_from_zero)
        self._begun = None
        self.updates += 1
        self.ledger.updates += 1
        spoken = [e for e in examples if e.completion.token_ids]
        found = [self.row(example) for example in spoken]
        rows = [row for row, _ in found if self.fits(row)]
        shed = [count for row, count in found if self.fits(row) and count]
        trained, scored = tokens_read(rows)
        result = self._step(rows, objective, batch_size, lr) if rows else None
        self._charge(trained, scored)
        metrics = {
            "policy/loss": result.loss if result else 0.0,
            "policy/grad_norm": result.grad_norm if result else 0.0,
            "policy/lr": lr,
            "policy/examples": float(len(rows)),
            "policy/tokens": float(trained),
            "policy/overlong_examples": float(len(spoken) - len(rows)),
            "policy/empty_examples": float(len(examples) - len(spoken)),
            "policy/shortened_teacher_prompts": float(len(shed)),
            "policy/shed_sections": float(sum(shed)),
            "policy/overlong_prompts": float(self._counts.overlong_prompts),
            "policy/truncated_completions": float(self._counts.truncated_completions),
            "policy/unclosed_thinking": float(self._counts.unclosed_thinking),
            "policy/skipped_steps": float(self.skipped_steps),
        }
        self._counts = Counts()
        return metrics | (self._meter.metrics(self.process_group) if self._mirror else {})

    def _place(self) -> float:
        """Updates done, or those that the budget was planned for so far, if that is more."""
        pace = self.config.pace
        spent = pace.done(self._begun or self.ledger, self.ledger) if pace else 0.0
        return max(self.updates, spent)

    def row(self, example: Example) -> tuple[TokenizedExample, int]:
        """The tokenized example, and how many sections were dropped from its teacher's prompt."""
        said = example.completion
        context, shed = self._teacher_prompt(example)
        row = TokenizedExample(
            prompt=self.codec.prompt_ids(example.messages),
            response=said.token_ids,
            teacher_prompt=context,
            behaviour_logprobs=said.logprobs,
            advantage=example.advantage,
            weight=example.weight,
            token_advantages=example.token_advantages,
        )
        return row, shed

    def _teacher_prompt(self, example: Example) -> tuple[list[int] | None, int]:
        """The first of the example's teacher prompts that fits, else the last; and its index."""
        if example.teacher_messages is None:
            return None, 0
        room = self.context_limit - len(example.completion.token_ids)
        prompts = [example.teacher_messages, *example.shorter_teachers]
        for number, messages in enumerate(prompts[:-1]):
            if len(ids := self.codec.prompt_ids(messages)) <= room:
                return ids, number
        return self.codec.prompt_ids(prompts[-1]), len(prompts) - 1

    def fits(self, row: TokenizedExample) -> bool:
        """Whether student and teacher can hold it; one that does not fit is not trained on."""
        return max(row.student_tokens, row.teacher_tokens) <= self.context_limit

    def _step(
        self, rows: Sequence[TokenizedExample], objective: Objective, batch_size: int, lr: float
    ) -> trainer.UpdateResult:
        c = self.config
        if self._mirror and self._drawn:
            objective = self._meter.watching(objective, self._drawn)
        self.layout.invalidate()
        with self.teacher.at_work() if self.teacher else nullcontext():
            result = trainer.train_step(
                self.model,
                self.teacher,
                self.optimiser,
                rows,
                objective,
                batch_size=batch_size,
                learning_rate=lr,
                grad_clip=c.max_gradient_norm,
                limits=BatchLimits(c.micro_batch_tokens, c.micro_batch_logits),
                autocast=c.autocast,
                passes=self.layout,
            )
        self.skipped_in_a_row = 0 if result.stepped else self.skipped_in_a_row + 1
        if not result.stepped:
            self.skipped_steps += 1
            self._check_skipped(result)
        elif self.teacher is not None:
            self.teacher.follow(self.model)
        if result.stepped and self._mirror:
            self._mirror.sync_weights()
        return result

    def _check_skipped(self, result: trainer.UpdateResult) -> None:
        """UsageError if nothing has been learned for several updates."""
        if self.skipped_in_a_row < SKIPPED:
            return
        c = self.config
        raise UsageError(
            f"update {self.updates}: {result.culprit or 'the gradient norm'} is not finite, for "
            f"{SKIPPED} updates in a row, so nothing is learned (loss {result.loss:g}, learning "
            f"rate {c.learning_rate:g}, gradients clipped at {c.max_gradient_norm:g}). Start again "
            "with a smaller --learning-rate or --precision float32, or with an intact --model"
        )

    def _charge(self, trained: int, scored: int) -> None:
        """Charge the tokens that the student was trained on and that the teacher scored."""
        self.ledger.trained_tokens += trained
        self.ledger.scored_tokens += scored
        # Frozen weights need no gradient of their own: that saves a third of the arithmetic.
        per_token = 6.0 if self.adapted is None else 4.0
        self.ledger.flops += self.parameters * (per_token * trained + 2.0 * scored)

    def save(self, folder: str | Path) -> None:
        """Write the trained model and its tokenizer in the format of `transformers`.

        If an adapter is trained, only the adapter is written, in the format that `peft` and vLLM
        read. All processes call this; rank 0 writes.
        """
        whole = self.model if self.adapted is not None else self.layout.whole_model()
        if self.process_group.rank:
            return
        if self.adapted is not None:
            lora.save(self.adapted, folder)
            adapters.note_base(Path(folder), lora.recorded_base(self.adapted), self._base)
        else:
            whole.save_pretrained(str(folder))
        self.codec.tokenizer.save_pretrained(str(folder))

    def _trained(self) -> dict[str, Tensor]:
        """The trained parameters by name; tied ones appear once."""
        if self.adapted is not None:
            return lora.weights(self.adapted, lora.STUDENT)
        return dict(self.model.named_parameters())

    def state_dict(self) -> State:
        """A copy of everything that changes, in main memory: weights, optimiser, teacher, counters.

        If an adapter is trained, only its weights; the model's own are in its folder. All processes
        call this; with FSDP only rank 0 gets tensors.
        """
        state = {
            "model": {name: in_main_memory(p) for name, p in self._trained().items()},
            "optimiser": trainer.optimiser_state(self.optimiser),
            "teacher": to_state(self.teacher),
            "updates": self.updates,
            "skipped_steps": self.skipped_steps,
            "skipped_in_a_row": self.skipped_in_a_row,
            "counts": asdict(self._counts),
        }
        return self.layout.whole_state(state)

    def load_state_dict(self, state: State) -> None:
        """Resume exactly where `state_dict` was taken; ValueError for another model's state."""
        self.layout.invalidate()
        put(self._trained(), state["model"])
        if self._mirror:
            self._mirror.sync_weights()
        trainer.restore_optimiser(self.optimiser, state["optimiser"])
        self.teacher = None
        if (kept := state["teacher"]) is not None:
            self.use_teacher(kept["kind"], kept["ema_rate"])
            assert self.teacher is not None
            self.teacher.restore(kept["weights"])
        self.updates = int(state["updates"])
        self.skipped_steps = int(state["skipped_steps"])
        self.skipped_in_a_row = int(state.get("skipped_in_a_row", 0))
        self._counts = Counts(**state["counts"])
        self._answered = True
        self._begun = None


def _refuse_non_finite(model: Any) -> None:
    """UsageError for weights that are not finite; some attention kernels silently ignore NaN."""
    if tensor := trainer.non_finite(model):
        raise UsageError(
            f"{getattr(model, 'name_or_path', '') or 'the model'}: {tensor} holds NaN or infinity: "
            "give a --model whose weights are intact"
        )


def _adapted(model: Any, config: PolicyConfig) -> Any:
    """The peft model around `model` if an adapter is asked for, else None."""
    if not config.lora_rank:
        return None
    name = adapters.base_name(str(getattr(model, "name_or_path", "")))
    return lora.adapt(model, config.lora_rank, config.lora_alpha, config.adapter_seed, name)


def _enable_checkpointing(model: Any) -> None:
    """Let the layers of `model` recompute activations; UsageError if the model cannot."""
    try:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        raise UsageError(
            f"this model does not support --gradient-checkpointing: {error}"
        ) from error


def _dialect(model: Any, config: PolicyConfig) -> PromptDialect:
    """The dialect asked for, else the one the model's config names (`resd_dialect`), else full."""
    if config.dialect is not None:
        return config.dialect
    return cast(PromptDialect, getattr(model.config, "resd_dialect", "full"))
