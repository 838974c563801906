"""A third-party plugin: three tiny environments and a method, found by entry point alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resd_bench.agent import MethodSpec, Policy, State
from resd_bench.budget import Purpose
from resd_bench.config import RunConfig
from resd_bench.env import Reply, TextEnv
from resd_bench.seeds import derive
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import (
    CaseResult,
    Completion,
    Example,
    Feedback,
    Group,
    Messages,
    Metrics,
    Sampling,
    Split,
    Step,
    Task,
)

if TYPE_CHECKING:
    from torch import Tensor

    from resd_bench.objective import TokenBatch

SIZES: Mapping[Split, int] = {"train": 10, "validation": 3, "test": 6}


class SayEnv(TextEnv):
    """Say the word of the prompt."""

    name = "toy-say"
    answer_in_prompt = True

    def tasks(self, split: Split) -> Sequence[Task]:
        return [
            Task(f"{split}-{i}", split, f"say {split}{i}", {"word": f"{split}{i}"})
            for i in range(SIZES[split])
        ]

    def verify(self, task: Task, action: str) -> Feedback:
        right = action == task.data["word"]
        case = CaseResult("word", right, "pass" if right else "wrong_answer")
        return Feedback(float(right), right, float(right), (case,))

    def oracle(self, task: Task) -> str:
        return str(task.data["word"])


class CountEnv(SayEnv):
    """Say 1, then 2, then the word."""

    name = "toy-count"
    max_turns = 4

    def reply(self, task: Task, action: str) -> Reply:
        if action in ("1", "2"):
            return Reply(f"go on after {action}")
        return Reply(feedback=self.verify(task, action))

    def oracle(self, task: Task) -> str:
        return str(task.data["word"])


class CrashEnv(SayEnv):
    """Fails on every other training task, and whenever it hears `crash`."""

    name = "toy-crash"

    def verify(self, task: Task, action: str) -> Feedback:
        if action == "crash" or (task.split == "train" and task.id[-1] in "13579"):
            raise RuntimeError("the verifier broke")
        return super().verify(task, action)


@dataclass(frozen=True)
class Options:
    """Options of the toy method."""

    remember: int = 3
    """Successes to remember."""
    rate: float = 0.5
    """A number."""
    wait: float = 0.0
    """Seconds that an update takes."""
    imitate_all: bool = False
    """Train on every attempt, not on the successful ones alone."""


def likelihood(batch: TokenBatch) -> Tensor:
    """Negative log-likelihood of each sequence's tokens, [b]."""
    logprobs = batch.student_logits.log_softmax(-1)
    chosen = logprobs.gather(-1, batch.token_ids[..., None])[..., 0]
    return -(chosen * batch.mask).sum(-1)


class Learner:
    """Trains on whatever there is, and remembers what succeeded."""

    def __init__(self, policy: Policy, options: Options) -> None:
        self.policy, self.options = policy, options
        self.solved: list[str] = []

    def act(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        return self.policy.sample(prompts, n=n, sampling=sampling, purpose=purpose)

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        time.sleep(self.options.wait)
        attempts = [attempt for group in groups for attempt in group.trajectories]
        good = [a for a in attempts if a.feedback.success]
        self.solved = [*self.solved, *(a.task.id for a in good)][-self.options.remember :]
        chosen = attempts if self.options.imitate_all else good
        examples = [Example(a.turns[-1].messages, a.turns[-1].completion) for a in chosen]
        metrics = self.policy.update(examples, likelihood, batch_size=len(attempts))
        return metrics | {"toy/solved": float(len(self.solved))}

    def context(self) -> Mapping[str, Any]:
        return {"solved": self.solved}

    def state_dict(self) -> State:
        return {"policy": self.policy.state_dict(), "solved": self.solved}

    def load_state_dict(self, state: State) -> None:
        self.policy.load_state_dict(state["policy"])
        self.solved = list(state["solved"])


PRESETS = {"release": {"rate": 0.25}}
LEARNER = MethodSpec("toy-learner", "Learns by counting.", Options, Learner, 1, PRESETS)
GROUP = MethodSpec("toy-group", "The same in groups.", Options, Learner, 4, PRESETS)


class CountingPolicy(ScriptedPolicy):
    """Right the more often the more updates it had, by its own random streams."""

    def _complete(
        self, messages: Messages, sampling: Sampling, purpose: Purpose, i: int, j: int
    ) -> Completion:
        word = messages[0].content.removeprefix("say ")
        draw = derive(sampling.seed, i, j) % 1000 / 1000
        said = word if draw < min(0.9, 0.02 + 0.03 * self.count) else f"no{draw}"
        self.answer = lambda prompt, seed, sample: said
        return super()._complete(messages, sampling, purpose, i, j)


def policy(config: RunConfig) -> CountingPolicy:
    """What `build_policy` is replaced by in tests."""
    return CountingPolicy(lambda prompt, seed, j: "")
