"""For authors of environments and methods: a scripted policy, `check_env` and `check_agent`.

Checks raise AssertionError with the property that does not hold. Left out: the leak audit and the
calibration of rarity.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resd_bench.agent import Agent, MethodSpec, State, TeacherKind
from resd_bench.budget import Ledger, Purpose
from resd_bench.env import TextEnv
from resd_bench.manifest import content_hash
from resd_bench.types import (
    Completion,
    Dialect,
    Example,
    Feedback,
    Group,
    Messages,
    Metrics,
    Sampling,
    Split,
    Step,
    Stop,
    Task,
    Trajectory,
    Turn,
    user,
)

if TYPE_CHECKING:
    from resd_bench.policy.objective import Objective

Script = Callable[[str, int, int], str]
"""Text of the last message, seed and number of the sample in; the answer out."""

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
ODD_ACTIONS = ("", " ", "\x00\x07", "\ud800", "naïve 🌍", "x" * 100_000, "```\n```")
"""What language models do emit, at times."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request a scripted policy got."""

    prompts: tuple[Messages, ...]
    n: int
    sampling: Sampling
    purpose: Purpose


@dataclass
class ScriptedPolicy:
    """A policy whose answers are a function of the prompt; an update only counts.

    Token ids are the code points of the answer, each with log-probability 0.
    """

    answer: Script
    dialect: Dialect = "compact"
    ledger: Ledger = field(default_factory=Ledger)
    calls: list[Call] = field(default_factory=list)
    updates: list[tuple[Example, ...]] = field(default_factory=list)
    """The examples of each update since the policy was made."""
    count: int = 0
    """Updates in all; what a checkpoint holds."""
    teacher: tuple[TeacherKind, float] | None = None

    def sample(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Answer by the script, charged to the ledger."""
        self.calls.append(Call(tuple(prompts), n, sampling, purpose))
        return [
            [self._complete(messages, sampling, purpose, i, j) for j in range(n)]
            for i, messages in enumerate(prompts)
        ]

    def _complete(
        self, messages: Messages, sampling: Sampling, purpose: Purpose, i: int, j: int
    ) -> Completion:
        text = self.answer(messages[-1].content, sampling.seed + i, j)
        ids = tuple(ord(c) for c in text[: sampling.max_new_tokens])
        self.ledger.charge_sampling(purpose, sum(len(m.content) for m in messages), len(ids), 1)
        stop = Stop.LENGTH if len(text) > len(ids) else Stop.EOS
        return Completion("".join(map(chr, ids)), ids, (0.0,) * len(ids), stop)

    def use_teacher(self, kind: TeacherKind, ema_rate: float) -> None:
        """Remember that a teacher was asked for."""
        self.teacher = (kind, ema_rate)

    def update(
        self, examples: Sequence[Example], objective: Objective, *, batch_size: int
    ) -> Metrics:
        """Count; nothing is learned."""
        assert len(examples) <= batch_size, "more examples than the batch has samples"
        self.updates.append(tuple(examples))
        self.count += 1
        self.ledger.updates += 1
        return {"policy/examples": float(len(examples))}

    def state_dict(self) -> State:
        return {"count": self.count}

    def load_state_dict(self, state: State) -> None:
        self.count = int(state["count"])


def check_env(env: TextEnv) -> None:
    """Prove what the harness relies on of an environment; AssertionError names what fails."""
    from gymnasium.utils.env_checker import check_env as check_gymnasium

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The checker cannot know that a space of all strings has no rendering to check.
        check_gymnasium(env, skip_render_check=True)
    _check_tasks(env)
    task = env.tasks("train")[0]
    for action in ODD_ACTIONS:
        _check_episode(env, task, action)
    _check_oracle(env, task)


def _check_tasks(env: TextEnv) -> None:
    tasks = {split: list(env.tasks(split)) for split in SPLITS}
    assert tasks["train"], "there are no training tasks"
    assert tasks["test"], "there are no test tasks"
    ids = [task.id for split in SPLITS for task in tasks[split]]
    assert len(ids) == len(set(ids)), "task ids are not unique"
    for split in SPLITS:
        assert [t.id for t in env.tasks(split)] == [t.id for t in tasks[split]], (
            f"two calls of tasks({split!r}) differ"
        )
        assert all(task.split == split for task in tasks[split]), f"a task of {split} denies it"
    contents = [{content_hash(task) for task in tasks[split]} for split in SPLITS]
    overlap = (
        (contents[0] & contents[1]) | (contents[0] & contents[2]) | (contents[1] & contents[2])
    )
    assert not overlap, f"{len(overlap)} tasks are in more than one split"


def _play(env: TextEnv, task: Task, action: str) -> tuple[list[str], dict[str, Any]]:
    """Repeat one action until the episode ends; observations and the last info."""
    observation, info = env.reset(seed=7, options={"task": task.id})
    assert info["task_id"] == task.id, "reset did not pose the task it was asked for"
    observations = [observation]
    for _ in range(env.max_turns):
        observation, reward, over, cut, info = env.step(action)
        observations.append(observation)
        if over or cut:
            feedback = info.get("feedback")
            assert isinstance(feedback, Feedback), "an episode ended without info['feedback']"
            assert 0 <= feedback.score <= 1, f"score {feedback.score} is not in [0, 1]"
            assert reward == feedback.reward, "the reward differs from the feedback's"
            assert info["success"] == feedback.success, "info['success'] differs from feedback's"
            return observations, info
    raise AssertionError(f"an episode went on after max_turns = {env.max_turns} turns")


def _check_episode(env: TextEnv, task: Task, action: str) -> None:
    first, info = _play(env, task, action)
    again, info_again = _play(env, task, action)
    assert first == again, f"the same seed and action {action[:20]!r} gave other observations"
    assert info["feedback"] == info_again["feedback"], "the same seed and action: other feedback"
    assert not info["success"], f"the answer {action[:20]!r} counts as a success"
    assert len(info["feedback"].text) <= Feedback.MAX_CHARS, "feedback is longer than MAX_CHARS"


def _check_oracle(env: TextEnv, task: Task) -> None:
    try:
        answer = env.oracle(task)
    except NotImplementedError:
        return
    _, info = _play(env, task, answer)
    assert info["success"], "the oracle's answer does not succeed"


def check_agent(spec: MethodSpec, options: Mapping[str, Any] | None = None) -> None:
    """Prove what the harness relies on of a method; AssertionError names what fails."""
    first, second = _agent(spec, options), _agent(spec, options)
    for update in range(3):
        assert first[1].learn(_groups(spec.group_size), _step(update)) == second[1].learn(
            _groups(spec.group_size), _step(update)
        ), "the same groups and seed gave other metrics"
        assert first[0].updates == second[0].updates, "the same groups gave other examples"
    _check_saved(spec, options, first[1])
    empty = first[1].learn(_groups(spec.group_size, Stop.ERROR), _step(3))
    assert all(isinstance(value, float | int) for value in empty.values()), "metrics are numbers"


def _check_saved(spec: MethodSpec, options: Mapping[str, Any] | None, agent: Agent) -> None:
    import io

    import torch

    buffer = io.BytesIO()
    torch.save(agent.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    policy, restored = _agent(spec, options)
    restored.load_state_dict(state)
    assert policy.count == 3, "state_dict leaves out the policy's own state"
    groups = _groups(spec.group_size)
    assert restored.learn(groups, _step(9)) == _copy(spec, options, state).learn(groups, _step(9))
    assert isinstance(restored.context(), Mapping), "context() is not a mapping"
    pickle.dumps(restored.context())


def _copy(spec: MethodSpec, options: Mapping[str, Any] | None, state: State) -> Agent:
    _, agent = _agent(spec, options)
    agent.load_state_dict(state)
    return agent


def _agent(spec: MethodSpec, options: Mapping[str, Any] | None) -> tuple[ScriptedPolicy, Agent]:
    policy = ScriptedPolicy(lambda prompt, seed, j: f"answer {(len(prompt) + seed + j) % 7}")
    return policy, spec.build(policy, spec.config(**(options or {})))


def _step(update: int) -> Step:
    return Step(update, update // 2, update % 2, Sampling(max_new_tokens=64, seed=update), update)


def _groups(n: int, stop: Stop = Stop.EOS) -> list[Group]:
    """Four tasks attempted n times; the attempts of one task in two succeed."""
    groups = []
    for number in range(4):
        task = Task(f"t{number}", "train", f"question {number}")
        attempts = []
        for j in range(n):
            right = (number + j) % 2 == 0 and stop is not Stop.ERROR
            text = "" if right else f"passed 0 of 1: wrong_answer {number}"
            feedback = Feedback(float(right), right, float(right), text=text)
            words = f"attempt {j}"
            ids = tuple(map(ord, words))
            completion = Completion(words, ids, (-0.5,) * len(ids))
            turns = (Turn(user(task.prompt), completion),)
            attempts.append(Trajectory(task, turns, feedback, stop))
        groups.append(Group(task, tuple(attempts)))
    return groups
