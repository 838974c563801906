"""Evaluations in addition to the reported one; each is off unless a run asks for it.

    validation   other tasks of the same environment, to choose a checkpoint by
    playbook, teacher, ...   the reported tasks, with what the method remembers in the prompt
    env:NAME     tasks of another environment, before and after training, to measure forgetting

Their rows are in `evals.jsonl` too, with the name of the evaluation in `panel`, which rows of the
reported evaluation lack. None of them is charged, and none affects what is learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from resd_bench.agent import Agent, Contextual
from resd_bench.budget import Ledger, Purpose
from resd_bench.config import RunConfig
from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.evaluation.held_out import EvalSet, eval_rows, evaluate
from resd_bench.options import names_in
from resd_bench.records.manifest import content_hash
from resd_bench.rollout.contract import checked_tasks
from resd_bench.rollout.rollout import Act, EnvPool
from resd_bench.types import Completion, Group, Message, Messages, Sampling, Task

VALIDATION = "validation"
ELSEWHERE = "env:"
"""Prefix of `panel` for another environment."""


@dataclass(frozen=True)
class OtherEnvironment:
    """Another environment, and what is evaluated on it."""

    envs: EnvPool
    eval_set: EvalSet
    env: TextEnv
    """An instance to get tasks from."""


@dataclass
class ExtraEvaluations:
    """All extra evaluations of a run."""

    validation: EvalSet | None = None
    contexts: bool = False
    elsewhere: Mapping[str, OtherEnvironment] = field(default_factory=dict)

    def rows(
        self,
        agent: Agent,
        envs: EnvPool,
        eval_set: EvalSet,
        groups: Sequence[Group],
        update: int,
        ledger: Ledger,
    ) -> list[dict[str, Any]]:
        """Rows for every evaluation; `groups` is the result of the reported one."""
        found: list[dict[str, Any]] = []
        if self.validation is not None:
            done = evaluate(agent.act, envs, self.validation, ledger)
            rows = eval_rows(done, update, ledger)
            found += [row | {"split": VALIDATION, "panel": VALIDATION} for row in rows]
        if self.contexts and isinstance(agent, Contextual):
            for name, rewording in agent.contexts(groups, eval_set.sampling).items():
                done = evaluate(reworded(agent.act, rewording), envs, eval_set, ledger)
                found += [row | {"panel": name} for row in eval_rows(done, update, ledger)]
        return found

    def rows_elsewhere(self, agent: Agent, update: int, ledger: Ledger) -> list[dict[str, Any]]:
        """Rows for the first and the last evaluation only."""
        return [
            row | {"panel": ELSEWHERE + name}
            for name, place in self.elsewhere.items()
            for row in eval_rows(
                evaluate(agent.act, place.envs, place.eval_set, ledger), update, ledger
            )
        ]

    def close(self) -> None:
        """Close the other environments."""
        for place in self.elsewhere.values():
            place.envs.close()


def validation_tasks(
    env: TextEnv, config: RunConfig, used: Sequence[Task]
) -> Sequence[Task] | None:
    """The first `eval_validation` validation tasks, None for 0.

    UsageError if there are none, or if one of them is among the tasks `used` elsewhere.
    """
    if not config.eval_validation:
        return None
    tasks = checked_tasks(env, "validation")[: config.eval_validation]
    if not tasks or config.eval_split == "validation":
        raise UsageError(
            f"{config.env}: --eval-validation {config.eval_validation} needs validation tasks "
            f"besides the reported ones ({len(tasks)} there, --eval-split {config.eval_split}): "
            "give 0"
        )
    if {content_hash(task) for task in tasks} & {content_hash(task) for task in used}:
        raise UsageError(
            f"{config.env}: a validation task is also a training or {config.eval_split} task: a "
            "checkpoint chosen by it would be biased. Fix the environment so that its splits are "
            "disjoint"
        )
    return tasks


def other_environments(config: RunConfig) -> list[str]:
    """The names in `eval_also`; UsageError for the run's own environment, or a repeated one."""
    names = names_in(config.eval_also)
    if config.env in names or len(set(names)) < len(names):
        raise UsageError(
            f"--eval-also {config.eval_also}: give other environments than {config.env}, once each"
        )
    return names


def config_for(name: str, config: RunConfig) -> RunConfig:
    """`config`, changed to the test tasks of the environment `name`."""
    return replace(config, env=name, env_options={}, eval_split="test")


def reworded(act: Act, rewording: Mapping[str, str]) -> Act:
    """`act`, with the first user message of each chat replaced as `rewording` says."""

    def posed(messages: Messages) -> Messages:
        for place, message in enumerate(messages):
            if message.role == "user":
                text = rewording.get(message.content, message.content)
                return (*messages[:place], Message("user", text), *messages[place + 1 :])
        return messages

    def answer(
        prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        return act([posed(chat) for chat in prompts], n=n, sampling=sampling, purpose=purpose)

    return answer
