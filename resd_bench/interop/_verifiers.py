"""Our environments for verifiers 0.4, which prime-rl and SkyRL read: a taskset, and an env.

    vf-eval resd-verifiers --env.taskset.env guess-number --env.agent.runtime.type subprocess

An episode is stepped in this process: the answers of the model are actions, and observations come
back as the user's turns. So the agent's program, a chat loop, needs no isolation; the default
runtime of verifiers is a hosted one, ours is a local process. Left out: tools, judges.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import verifiers.v1 as vf

from resd_bench import plugins
from resd_bench.env import TextEnv
from resd_bench.types import Dialect, Split

_SEED = 0
"""Of an episode: what an environment draws beyond its task."""


class ResdConfig(vf.TasksetConfig):  # type: ignore[misc]
    """`--env.taskset.NAME`."""

    env: str = "guess-number"
    """Environment, as listed by `resd-bench envs list`."""
    split: Split = "train"
    dialect: Dialect = "full"
    feedback_level: int = 3
    options: dict[str, Any] = {}  # noqa: RUF012
    """Options of the environment."""

    def make(self) -> TextEnv:
        """The environment."""
        return plugins.make_env(
            self.env, dialect=self.dialect, feedback_level=self.feedback_level, **self.options
        )


class ResdData(vf.TaskData):  # type: ignore[misc]
    """A task by name: the environment finds the rest."""

    task: str
    split: Split
    made: ResdConfig
    """What the environment is made from."""


class ResdTask(vf.Task[ResdData, vf.State, vf.TaskConfig]):  # type: ignore[misc]
    """One task of one of our environments."""

    @property
    def key(self) -> str:
        """Stable across runs and machines."""
        return f"{self.data.made.env}/{self.data.task}"

    def begin(self) -> TextEnv:
        """The environment at the start of this task."""
        env: TextEnv = self.data.made.make()
        env.reset(seed=_SEED, options={"task": self.data.task, "split": self.data.split})
        return env

    async def validate(self, runtime: vf.Runtime) -> bool | None:
        """Whether the oracle solves the task; None without one."""
        env = self.begin()
        task = env.find(self.data.task, self.data.split)
        try:
            said = env.oracle(task)
        except NotImplementedError:
            return None
        _, _, ended, cut, info = env.step(said)
        return bool(info.get("success")) if ended or cut else None


class ResdTaskset(vf.Taskset[ResdTask, ResdConfig]):  # type: ignore[misc]
    """The tasks of one split of one of our environments."""

    def load(self) -> Iterator[ResdTask]:
        """In the order of the environment."""
        env = self.config.make()
        for task in env.tasks(self.config.split):
            data = ResdData(
                id=task.id,
                name=task.id,
                prompt=env.opening(task),
                task=task.id,
                split=task.split,
                made=self.config,
            )
            yield ResdTask(data, self.config.task)


class ResdEnvConfig(vf.EnvConfig):  # type: ignore[misc]
    """One agent, without tools, in a local process."""

    agent: vf.AgentConfig = vf.AgentConfig(harness={"id": "null"}, runtime=vf.SubprocessConfig())


class ResdEnv(vf.Env[ResdEnvConfig]):  # type: ignore[misc]
    """Our environment plays the user."""

    async def run(self, task: ResdTask, agents: vf.Agents) -> None:
        """One episode; its reward, `success`, `score` and the kind of failure are recorded."""
        env, over = task.begin(), False
        async with agents.agent.interaction(task) as interaction:
            segment = await interaction.turn()
            while not segment.terminated:
                seen, reward, ended, cut, info = env.step(segment.last_reply)
                if over := ended or cut:
                    break
                segment = await interaction.turn(seen)
        trace = interaction.trace
        trace.record_reward("reward", float(reward) if over else 0.0)
        if over:
            trace.record_metrics({"success": float(info["success"]), "score": info["score"]})
            trace.info["feedback"] = info["feedback"].text


__all__ = ["ResdEnv", "ResdTaskset"]
