"""What a process of a team computes; the same functions give the reference of a process alone.

    python -m torch.distributed.run --nproc_per_node 2 -m tests.policy.together FOLDER

FOLDER holds `alone.pt`, the state of one process to resume from. Each process writes what it found
to FOLDER/<layout>-<rank>.pt.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
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
from resd_bench.policy import trainer
from resd_bench.policy.config import PolicyConfig
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


def policy(process_group: ProcessGroup, seed: int = 0, **options: Any) -> LMPolicy:
    model = tiny.model(seed=seed, initializer_range=0.1)
    subject = LMPolicy(
        model, tiny.tokenizer(), replace(CONFIG, **options), process_group=process_group
    )
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


def run_config(folder: Path) -> RunConfig:
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


def whole_run(folder: Path, process_group: ProcessGroup, *watchers: Watcher) -> None:
    """A run of RESD with a tiny random model; resumed if part of it exists."""

    def build(config: RunConfig) -> LMPolicy:
        model = tiny.model(initializer_range=0.1, max_position_embeddings=8192)
        settings = PolicyConfig(learning_rate=1e-3, warmup_updates=0)
        return LMPolicy(model, tiny.tokenizer(), settings, process_group=process_group)

    run(run_config(folder), resume=True, policy=build, watchers=watchers)


def main(folder: Path) -> None:
    from resd_bench.distributed.torch_group import TorchGroup

    torch.set_num_threads(1)
    copied = join("cpu")
    assert isinstance(copied, TorchGroup)
    layouts = {"ddp": copied, "fsdp": TorchGroup(copied.accelerator, sharded=True)}
    start = torch.load(folder / "alone.pt", weights_only=False)
    for name, process_group in layouts.items():
        # Recomputing activations gathers shares again; it changes no number.
        made = findings(process_group, start["plain"], gradient_checkpointing=name == "fsdp")
        torch.save(made, folder / f"{name}-{process_group.rank}.pt")
        whole_run(folder / name, process_group)
    lora = findings(copied, start["lora"], lora_rank=2)
    torch.save(lora, folder / f"lora-{copied.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
