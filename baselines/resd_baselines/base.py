"""What all methods have in common, and the method that learns nothing.

An `Attempt` is a trajectory as text, the form in which methods show it to the model. `PolicyAgent`
is an agent that answers with its policy and has no memory of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from resd_baselines.losses import nll_objective
from resd_baselines.prompts import PACK
from resd_bench.agent import MethodSpec, Policy, State
from resd_bench.budget import Purpose
from resd_bench.parsing import visible_answer, without_reasoning
from resd_bench.types import (
    Completion,
    Example,
    Group,
    Message,
    Messages,
    Metrics,
    Sampling,
    Step,
    Stop,
    Trajectory,
    Turn,
    user,
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One scored trajectory as text."""

    task_id: str
    group: int
    """Index of its group in the step: attempts in one group are peers."""
    prompt: str
    """The first message of the task."""
    response: str
    """The model's answer, including thinking; a transcript if there were several turns."""
    feedback: str
    success: bool
    reward: float = 0.0
    turns: tuple[Turn, ...] = ()
    cut_off: bool = False
    """Whether the token limit or the end of the context cut it off."""
    show_unfinished: bool = False
    """Whether unfinished thinking is shown too (release)."""
    unread: str = ""
    """What the environment said after the last turn, where the context had no room for another."""

    @property
    def observations(self) -> tuple[str, ...]:
        """What the environment said after each turn; of the last one it is the feedback."""
        between = tuple(turn.messages[-1].content for turn in self.turns[1:])
        return (*between, self.unread or self.feedback)

    @property
    def shown(self) -> str:
        """The response as prompts show it: the graded answer, without thinking."""
        return shown(self.response, self.show_unfinished)


def shown(response: str, show_unfinished: bool = False) -> str:
    """A response as prompts show it; `show_unfinished` keeps unfinished thinking."""
    return without_reasoning(response) if show_unfinished else visible_answer(response)


def scored_attempts(groups: Sequence[Group], *, show_unfinished: bool = False) -> list[Attempt]:
    """Every attempt with a verdict and at least one turn, without failures of the environment.

    `show_unfinished` as in `Attempt`.
    """
    return [
        _attempt(trajectory, number, show_unfinished)
        for number, group in enumerate(groups)
        for trajectory in group.trajectories
        if trajectory.stop is not Stop.ERROR and trajectory.turns
    ]


def _attempt(trajectory: Trajectory, group: int, show_unfinished: bool) -> Attempt:
    prompt = next(
        (m.content for m in trajectory.turns[0].messages if m.role == "user"),
        trajectory.task.prompt,
    )
    response = trajectory.response if len(trajectory.turns) == 1 else PACK.attempt(trajectory.turns)
    feedback, last = trajectory.feedback, trajectory.turns[-1].completion
    return Attempt(
        trajectory.task.id,
        group,
        prompt,
        response,
        feedback.text,
        feedback.success,
        feedback.reward,
        trajectory.turns,
        Stop.LENGTH in (trajectory.stop, last.stop),
        show_unfinished,
        trajectory.unread,
    )


TeacherPrompt = str | Sequence[Messages]
"""What a teacher sees: a text that replaces the first user message of every turn, or one whole
conversation for each turn."""


def make_examples(
    attempt: Attempt,
    *,
    teachers: Sequence[TeacherPrompt] | None = None,
    advantage: float = 0.0,
    weight: float = 1.0,
) -> list[Example]:
    """One example per turn of `attempt`.

    `teachers` are the teacher's prompt and shorter ones, the longest first; None for a method
    without a teacher. An empty sequence says that the teacher knows nothing about this attempt:
    then there is nothing to learn from it, and no example. Raises `ValueError` for a teacher with
    more or fewer conversations than turns.
    """
    if teachers is None:
        shown: list[tuple[Messages, ...]] = [()] * len(attempt.turns)
    elif teachers:
        by_teacher = [_conversations(attempt.turns, teacher) for teacher in teachers]
        shown = list(zip(*by_teacher, strict=True))
    else:
        return []
    return [
        Example(turn.messages, turn.completion, next(iter(few), None), advantage, weight, few[1:])
        for turn, few in zip(attempt.turns, shown, strict=True)
    ]


def _conversations(turns: Sequence[Turn], teacher: TeacherPrompt) -> Sequence[Messages]:
    """What `teacher` shows at each turn."""
    if isinstance(teacher, str):
        return [replace_prompt(turn.messages, teacher) for turn in turns]
    return teacher


def replace_prompt(messages: Messages, content: str) -> Messages:
    """`messages` with another first user message; system messages and later turns stay."""
    first = next(i for i, message in enumerate(messages) if message.role == "user")
    return (*messages[:first], Message("user", content), *messages[first + 1 :])


TurnWeighting = Literal["attempt", "turn"]


@dataclass(frozen=True)
class TurnOptions:
    """How the turns of an attempt share its weight."""

    turn_weighting: TurnWeighting = "attempt"
    """Weight of an attempt with several turns: `attempt`: the same as that of any other, shared
    equally by its turns; `turn`: one for each turn, so that long attempts count for more."""

    def turn_weights(self, turns: Sequence[int]) -> list[float]:
        """Factor on each turn of attempts with so many `turns`, for a loss averaged over all turns.

        With the mean number of turns over its own, each attempt counts the same in that average.
        """
        if self.turn_weighting == "turn":
            return [1.0] * len(turns)
        return [sum(turns) / len(turns) / own for own in turns]


TurnCredit = Literal["attempt", "turn"]


@dataclass(frozen=True)
class CreditOptions(TurnOptions):
    """How the outcome of an attempt is credited to its turns."""

    turn_credit: TurnCredit = "attempt"
    """Credit of a turn: `attempt`: the outcome of its attempt, whatever the turn did; `turn`: the
    same, but no success for a turn of which the environment says that it was wasted or invalid."""

    def earns(self, turn: Turn) -> bool:
        """Whether `turn` has a share in a success of its attempt."""
        return self.turn_credit == "attempt" or not turn.in_vain


PER_TURN = {"turn_weighting": "turn"}
"""What runs did before there was the option; see `MethodSpec.former`."""


def peers(attempts: Sequence[Attempt], place: int, *, success: bool) -> list[Attempt]:
    """The other attempts of the group of `attempts[place]` that succeeded, or that failed."""
    group = attempts[place].group
    return [
        other
        for number, other in enumerate(attempts)
        if number != place and other.group == group and other.success == success
    ]


def count_turns(attempts: Sequence[Attempt]) -> int:
    """Number of sequences that a loss is averaged over: every turn of every attempt; at least 1."""
    return max(1, sum(len(attempt.turns) for attempt in attempts))


def mean_reward(group: Group) -> float:
    """Mean reward of a task's attempts with a verdict; 0 without any."""
    rewards = [attempt.reward for attempt in scored_attempts([group])]
    return sum(rewards) / len(rewards) if rewards else 0.0


def share(count: int, total: int) -> float:
    """`count` / `total`; 0 if `total` is 0."""
    return count / total if total else 0.0


def signal_metrics(attempts: Sequence[Attempt], informative: int) -> Metrics:
    """How much there was to learn from in a step, the same for every method.

    `signal/attempts`: those with a verdict; `signal/examples`: share of them that gave an example
    to learn from (for GRPO: a nonzero advantage); `signal/success_rate`: share that succeeded.
    """
    successes = sum(attempt.success for attempt in attempts)
    return {
        "signal/attempts": float(len(attempts)),
        "signal/examples": share(informative, len(attempts)),
        "signal/success_rate": share(successes, len(attempts)),
    }


class PolicyAgent:
    """Answers with its policy, learns nothing, remembers nothing."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def act(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Answer each prompt `n` times."""
        return self.policy.sample(prompts, n=n, sampling=sampling, purpose=purpose)

    def ask(self, prompts: Sequence[str], sampling: Sampling, purpose: Purpose) -> list[str]:
        """One answer to each of the method's own questions, asked of the policy alone."""
        chats = [user(prompt) for prompt in prompts]
        answers = self.policy.sample(chats, n=1, sampling=sampling, purpose=purpose)
        return [answer.text for answer, *_ in answers]

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """An update without examples: it counts, but trains nothing."""
        attempts = scored_attempts(groups)
        learned = self.policy.update([], nll_objective, batch_size=count_turns(attempts))
        return {**learned, **signal_metrics(attempts, 0)}

    def context(self) -> Mapping[str, Any]:
        """Nothing."""
        return {}

    def state_dict(self) -> State:
        """The policy's state."""
        return {"policy": self.policy.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Resume from `state_dict`."""
        self.policy.load_state_dict(state["policy"])


class PromptedAgent(PolicyAgent):
    """Shows its policy a memory in words, in rollouts and in evaluations; its weights stay."""

    def memory(self) -> str:
        """What the policy is shown now, as its dialect words it; "" for nothing."""
        raise NotImplementedError

    def posed(self, messages: Messages) -> Messages:
        """`messages` with the memory around the task."""
        if not (memory := self.memory()):
            return messages
        task = next(message.content for message in messages if message.role == "user")
        shown = PACK.student(self.policy.dialect, prompt=task, playbook=memory)
        return replace_prompt(messages, shown)

    def act(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Answer each prompt `n` times, with the memory in it."""
        posed = [self.posed(messages) for messages in prompts]
        return super().act(posed, n=n, sampling=sampling, purpose=purpose)

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """An update that trains nothing; what the memory learns from is failures."""
        attempts = scored_attempts(groups)
        failures = sum(not attempt.success for attempt in attempts)
        return {**super().learn(groups, step), **signal_metrics(attempts, failures)}


@dataclass(frozen=True)
class BaseConfig:
    """The base model has no options."""


def _build(policy: Policy, config: BaseConfig) -> PolicyAgent:
    return PolicyAgent(policy)


BASE = MethodSpec(
    name="base",
    summary="The model as it is: attempts tasks, learns nothing.",
    config=BaseConfig,
    build=_build,
    learns=False,
)
