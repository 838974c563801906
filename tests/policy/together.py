"""What a process of a team computes; the same functions give the reference of a process alone.

    python -m torch.distributed.run --nproc_per_node 2 -m tests.policy.together FOLDER [ENGINE]

FOLDER holds `alone.pt`, states of one process to resume from. Each process writes what it found to
FOLDER/<layout>-<rank>.pt.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resd_bench.config import RunConfig, resolve
from resd_bench.distributed.join import join
from resd_bench.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from resd_bench.jobs.run import Watcher, run
from resd_bench.objective import Objective, TokenBatch, TokenObjective
from resd_bench.policy import lora, trainer
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines import registry
from resd_bench.policy.engines.base import Generated
from resd_bench.policy.engines.hf import HfEngine
from resd_bench.policy.engines.logprob_gap import measure
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.micro_batches import BatchLimits
from resd_bench.policy.parallel.dtensor import gather_full
from resd_bench.types import Completion, Example, Sampling, user
from tests.policy import tiny

CONFIG = PolicyConfig(learning_rate=0.01, warmup_updates=0, micro_batch_tokens=120)
SAMPLING = Sampling(max_new_tokens=12, seed=3)
TEXTS = ("abc", "a longer question", "q", "so", "the longest of all of these questions")
FEW_LOGITS = 260 * 4
"""Of which a response of nine tokens has more."""


def example(text: str, answer: str, teacher: str | None) -> Example:
    ids = (*tiny.tokenizer().encode(answer, add_special_tokens=False), 1)
    context = None if teacher is None else user(teacher + text)
    return Example(user(text), Completion(answer, ids), context, weight=1.0 + len(answer))


EXAMPLES = [
    example("abc", "xy", "hint "),
    example("a longer one, of many tokens", "z", "a hint of some length "),
    example("q", "an answer of several tokens", "hint "),
    example("r", "another", None),
    example("s", "one more answer", None),
    example("t", "u", "hint "),
    example("v", "w", "hint "),
]


def per_token(batch: TokenBatch) -> Tensor:
    """Weighted KL(student || teacher), or negative log-likelihood without a teacher, [b, T]."""
    p = batch.student_logits.log_softmax(-1)
    if batch.teacher_logits is None:
        found = -p.gather(-1, batch.token_ids[..., None])[..., 0]
    else:
        found = (p.exp() * (p - batch.teacher_logits.log_softmax(-1))).sum(-1)
    return batch.weights[:, None] * found


OBJECTIVE = TokenObjective(per_token)


class CopyingEngine:
    """As vLLM does, it samples from a copy of the weights, taken over when they have changed."""

    def __init__(self, setup: registry.EngineSetup) -> None:
        assert setup.weights is not None
        self.weights, self.stale = setup.weights, True
        self.model = type(setup.model)(setup.model.config).eval()
        self.engine = HfEngine(self.model, setup.stop_ids)

    def sync_weights(self) -> None:
        self.stale = True

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        n: int,
        sampling: Sampling,
        numbers: Sequence[int] | None = None,
    ) -> list[list[Generated]]:
        if self.stale:
            self.model.load_state_dict(dict(lora.merged_state(self.weights.trained_model)))
            gap = measure(self.weights, self.continued)
            assert max(gap.logprobs, gap.greedy) < 1e-4
            self.stale = False
        return self.engine.generate(prompts, n=n, sampling=sampling, numbers=numbers)

    def continued(self, prompt: Sequence[int], sampling: Sampling) -> Generated:
        return HfEngine(self.model, ()).generate([prompt], n=1, sampling=sampling)[0][0]


COPYING = registry.EngineSpec(
    "copying", "a copy of the weights", CopyingEngine, weights="copy", several_processes=True
)
OTHERS = registry.find_engine


def find_engine(name: str) -> registry.EngineSpec | None:
    """`registry.find_engine`, which also finds `copying`."""
    return COPYING if name == "copying" else OTHERS(name)


def tiny_model(engine: str, seed: int = 0, **changes: Any) -> Any:
    """A model that the engine serves: on a CPU, vLLM wants heads of 32."""
    size: dict[str, Any] = {"head_dim": 32} if engine == "vllm" else {}
    return tiny.model(seed=seed, initializer_range=0.1, **size, **changes)


def policy(process_group: ProcessGroup, seed: int = 0, **options: Any) -> LMPolicy:
    config = replace(CONFIG, engine_memory=0.0625, **options)
    model = tiny_model(config.engine, seed)
    subject = LMPolicy(model, tiny.tokenizer(), config, process_group=process_group)
    subject.use_teacher("ema", 0.3)
    return subject


def gradients(
    subject: LMPolicy, examples: Iterable[Example], objective: Objective, logits: int
) -> dict[str, Any]:
    """Loss and gradient of one step over a batch of eight."""
    rows = [subject.row(one)[0] for one in examples]
    limits = BatchLimits(CONFIG.micro_batch_tokens, logits)
    subject.model.zero_grad()
    with trainer.checkpointed(subject.model):
        loss, _ = trainer.backward(
            subject.model,
            subject.teacher,
            rows,
            objective,
            batch_size=8,
            limits=limits,
            passes=subject.layout,
        )
    named = subject.model.named_parameters()
    found = {n: gather_full(p.grad).clone() for n, p in named if p.grad is not None}
    subject.optimiser.zero_grad()
    return {"loss": loss, "gradient": found}


def broken(batch: TokenBatch) -> Tensor:
    """Not finite for one of the examples only."""
    losses = OBJECTIVE(batch)
    return torch.where(batch.weights == 1.0 + len("z"), losses * float("inf"), losses)


def held(tensor: Any) -> int:
    """Numbers of `tensor` that are in this process."""
    return int((tensor.to_local() if hasattr(tensor, "to_local") else tensor).numel())


def findings(process_group: ProcessGroup, start: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Everything that must not depend on the group; `start` is a state to resume from."""
    subject = policy(process_group, **options)
    prompts = [user(text) for text in TEXTS]
    found: dict[str, Any] = {}
    found["before"] = subject.sample(prompts, n=2, sampling=SAMPLING, purpose="rollout")
    found["held"] = sum(held(p) for p in subject.model.parameters())
    # The teacher must differ from the student, or its gradient vanishes.
    subject.load_state_dict(start)
    found["whole"] = gradients(subject, EXAMPLES, OBJECTIVE, 1 << 30)
    found["pieces"] = gradients(subject, EXAMPLES, OBJECTIVE, FEW_LOGITS)
    found["one row"] = gradients(subject, EXAMPLES[:1], OBJECTIVE, 1 << 30)
    found["metrics"] = [subject.update(EXAMPLES, OBJECTIVE, batch_size=8) for _ in range(2)]
    found["skipped"] = subject.update(EXAMPLES, broken, batch_size=8)["policy/skipped_steps"]
    found["after"] = subject.sample(prompts, n=1, sampling=SAMPLING, purpose="rollout")
    found["ledger"] = subject.ledger
    found["state"] = subject.state_dict()
    return found


def starting_state(**options: Any) -> dict[str, Any]:
    """The state of a process alone after an update."""
    subject = policy(SINGLE_PROCESS, seed=1, **options)
    subject.update(EXAMPLES, OBJECTIVE, batch_size=8)
    return subject.state_dict()


def run_config(folder: Path, engine: str = "auto") -> RunConfig:
    settings = {
        "env": "guess-number",
        "method": "resd",
        "model": "tiny",
        "budget": "3upd",
        "batch_size": 2,
        "inner_steps": 2,
        "eval_every": 2,
        "eval_tasks": 1,
        "eval_samples": 1,
        "checkpoint_every": 1,
        "max_new_tokens": 6,
        "dialect": "compact",
        "device": "cpu",
        "engine": engine,
    }
    return resolve(settings, {"out": str(folder)})


class Killed(BaseException):
    """Ends a process as a kill would: nothing is saved on the way out."""


class Killer:
    """Kills a run after some updates."""

    def __init__(self, after: int) -> None:
        self.after = after

    def updated(self, row: dict[str, Any]) -> None:
        if row["update"] == self.after:
            raise Killed

    def evaluated(self, point: Any) -> None:
        pass


def whole_run(
    folder: Path, process_group: ProcessGroup, *watchers: Watcher, engine: str = "auto"
) -> None:
    """A run of RESD with a tiny random model; resumed if part of it exists."""

    def build(config: RunConfig) -> LMPolicy:
        model = tiny_model(engine, max_position_embeddings=8192)
        settings = PolicyConfig(
            learning_rate=1e-3, warmup_updates=0, engine=engine, engine_memory=0.0625
        )
        return LMPolicy(model, tiny.tokenizer(), settings, process_group=process_group)

    run(run_config(folder, engine), resume=True, policy=build, watchers=watchers)


OPTIONS: dict[str, dict[str, Any]] = {
    "ddp": {},
    # Recomputing activations gathers shards again; it changes no number.
    "fsdp": {"gradient_checkpointing": True},
    "lora": {"lora_rank": 2},
    "fsdp-lora": {"lora_rank": 2},
    "fsdp-copying": {"engine": "copying"},
    "fsdp-lora-copying": {"engine": "copying", "lora_rank": 2},
}
"""Settings of each layout."""
RECORDED = ("ddp", "fsdp")
"""Layouts that also write the record of a run."""


def kind(layout: str) -> str:
    """Which of the starting states a layout resumes from."""
    return "lora" if "lora" in layout else "plain"


def main(folder: Path, engine: str = "auto") -> None:
    from resd_bench.distributed.torch_group import TorchGroup

    torch.set_num_threads(1)
    copied = join("cpu")
    assert isinstance(copied, TorchGroup)
    sharded = TorchGroup(copied.accelerator, sharded=True)
    start = torch.load(folder / "alone.pt", weights_only=False)
    for name, options in OPTIONS.items():
        if engine != "auto" and "engine" in options:
            continue
        process_group = sharded if "fsdp" in name else copied
        made = findings(process_group, start[kind(name)], **{"engine": engine, **options})
        torch.save(made, folder / f"{name}-{process_group.rank}.pt")
        if name in RECORDED:
            whole_run(folder / name, process_group, engine=engine)


if __name__ == "__main__":
    registry.find_engine = find_engine
    main(Path(sys.argv[1]), *sys.argv[2:])
