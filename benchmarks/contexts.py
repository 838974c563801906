"""What a model does with each kind of context, on the first training tasks of environments.

    OMP_NUM_THREADS=1 python benchmarks/contexts.py ifeval-one finer-few --dialect plain

Each task is attempted without context; then the first of them once with each of: the feedback on
that attempt, the attempt, both, both and the model's own reflection, these and a playbook that the
model wrote from the reflections of a batch, and the environment's solution. Contexts of an attempt
are those of failures only. The table also says how many reflections and curations had the format
that was asked for. This chooses the environments of a model before any method is run. Left out:
learning.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from resd_baselines.base import Attempt, scored_attempts
from resd_baselines.context_update import (
    Curated,
    PromptRole,
    PromptWriter,
    curate,
    reflect,
    with_lessons,
)
from resd_baselines.parse_replies import Reflection
from resd_baselines.playbook import Playbook
from resd_bench import plugins
from resd_bench.budget import Ledger
from resd_bench.config import RunConfig, resolve
from resd_bench.env import TextEnv
from resd_bench.nano.probe import Context, WithContext
from resd_bench.policy.build import build
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.stats import success_interval
from resd_bench.types import Group, Sampling, Task, env_dialect, user

CONTEXTS = (
    "feedback",
    "attempt",
    "attempt + feedback",
    "+ reflection",
    "+ playbook",
    "solution",
)
BATCH = 16
"""Attempts whose reflections one playbook is written from, as in an update of a small model."""


class Contexts:
    """One environment, and a model that is told things about its tasks."""

    def __init__(self, policy: LMPolicy, env: str, level: int, sampling: Sampling) -> None:
        self.policy, self.name, self.level, self.sampling = policy, env, level, sampling
        self.writer = PromptWriter(policy.dialect)
        self.env = self.make()

    def make(self) -> TextEnv:
        """The environment in the model's dialect."""
        dialect = env_dialect(self.policy.dialect)
        return plugins.make_env(self.name, dialect=dialect, feedback_level=self.level)

    def play(self, tasks: Sequence[Task], told: Mapping[str, Context]) -> list[Group]:
        """One attempt at each task, with what is `told` by task id."""
        pack: Any = self.writer.pack
        dialect = self.policy.dialect
        envs = EnvPool(lambda: WithContext(self.make(), pack, told, dialect), isolated=False)
        try:
            return roll_out(
                self.policy.sample,
                envs,
                tasks,
                n=1,
                sampling=self.sampling,
                purpose="evaluation",
                ledger=Ledger(),
                seed=0,
            )
        finally:
            envs.close()

    def write(
        self, attempts: Sequence[Attempt], writer: PromptWriter, temperature: float
    ) -> tuple[Sequence[Reflection], Sequence[Curated]]:
        """Reflections on failed attempts, and curations of the first batch of them."""
        sampling = replace(self.sampling, temperature=temperature)

        def generate(role: PromptRole, prompts: Sequence[str]) -> list[str]:
            made = self.policy.sample(
                [user(prompt) for prompt in prompts], n=1, sampling=sampling, purpose="evaluation"
            )
            return [one.text for (one,) in made]

        book = Playbook()
        made = reflect(book, attempts, writer, generate)
        return made, curate(book, attempts[:BATCH], made[:BATCH], writer, generate)


def load(arguments: argparse.ArgumentParser) -> tuple[argparse.Namespace, RunConfig, LMPolicy]:
    """What was given, the model's settings, and the model; adds the options of every probe."""
    arguments.add_argument("envs", nargs="+")
    arguments.add_argument("--model", default="smollm2")
    arguments.add_argument("--tasks", type=int, default=64, help="attempted without context")
    arguments.add_argument("--level", type=int, default=4, help="of feedback")
    arguments.add_argument("--dialect", default=None)
    arguments.add_argument("--max-new-tokens", default=None)
    given = arguments.parse_args()
    flags = {name: getattr(given, name) for name in ("model", "dialect", "max_new_tokens")}
    config = resolve({"method": "base"}, flags)
    print(f"`{shlex.join(['python', *sys.argv])}`\n")
    return given, config, build(config)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--told", type=int, default=None, help="attempted with each context")
    arguments.add_argument("--writer-temperature", type=float, default=1.0)
    arguments.add_argument("--only", default=",".join(CONTEXTS), help="contexts, or empty")
    given, config, policy = load(arguments)
    sampling = Sampling(1.0, 0.95, config.max_new_tokens, seed=1)
    print("| environment | context | success | tokens of an answer | CPU s |")
    print("|---|---|---|---|---|", flush=True)
    for env in given.envs:
        contexts = Contexts(policy, env, given.level, sampling)
        tasks = contexts.env.tasks("train")[: given.tasks]
        first = line(contexts, "none", tasks, {})
        only = [name for name in given.only.split(",") if name]
        if only:
            told = first[: given.told]
            show(contexts, tasks[: given.told], told, only, given.writer_temperature)


def show(
    contexts: Contexts,
    tasks: Sequence[Task],
    first: Sequence[Group],
    only: Sequence[str],
    temperature: float,
) -> None:
    """Print the rows with a context of an environment, after `first` attempts without one."""
    failed = [a for a in scored_attempts(first) if not a.success]
    told: dict[str, dict[str, Context]] = {
        "feedback": {a.task_id: {"feedback": a.feedback} for a in failed},
        "attempt": {a.task_id: {"previous_trial": a.shown} for a in failed},
        "solution": {task.id: {"solution": contexts.env.oracle(task)} for task in tasks},
    }
    told["attempt + feedback"] = joined(told["attempt"], lambda name: told["feedback"][name])
    if {"+ reflection", "+ playbook"} & set(only):
        reflections, curations = contexts.write(failed, contexts.writer, temperature)
        texts = {a.task_id: r.text for a, r in zip(failed, reflections, strict=True)}
        book = contexts.writer.playbook(with_lessons(Playbook(), curations))
        told["+ reflection"] = joined(
            told["attempt + feedback"], lambda name: {"reflection": texts[name]}
        )
        told["+ playbook"] = joined(told["+ reflection"], lambda _: {"playbook": book})
        parsed = sum(one.parsed for one in reflections)
        read = sum(one.additions is not None for one in curations)
        print(f"| {contexts.name} | *reflections parsed* | {parsed} of {len(failed)} | | |")
        print(f"| {contexts.name} | *curations parsed* | {read} of {len(curations)} | | |")
        for text in [*list(texts.values())[:2], *book.splitlines()[:2]]:
            print(f"<!-- {' / '.join(text.splitlines()).replace('-->', '')} -->")
    for context in CONTEXTS:
        if context in only:
            asked = [task for task in tasks if task.id in told[context]]
            # Without a failure there is nothing to tell of an attempt.
            if asked:
                line(contexts, context, asked, told[context])


def joined(told: Mapping[str, Context], more: Callable[[str], Context]) -> dict[str, Context]:
    """What is told, by task id, and more of each."""
    return {name: {**of_one, **more(name)} for name, of_one in told.items()}


def line(
    contexts: Contexts, name: str, tasks: Sequence[Task], told: Mapping[str, Context]
) -> list[Group]:
    """Play, and print a row."""
    start = time.process_time()
    groups = contexts.play(tasks, told)
    played = [trajectory for group in groups for trajectory in group.trajectories]
    found = success_interval([[float(one.feedback.success)] for one in played])
    turns = [len(turn.completion.token_ids) for one in played for turn in one.turns]
    print(
        f"| {contexts.name} | {name} | {found.mean:.1%} [{100 * found.low:.1f}, "
        f"{100 * found.high:.1f}] ({found.n}) | {sum(turns) / max(1, len(turns)):.0f} "
        f"| {time.process_time() - start:.0f} |",
        flush=True,
    )
    return groups


if __name__ == "__main__":
    main()
