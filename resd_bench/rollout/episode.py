"""Attempts in progress: their conversation, their turns, and how they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from resd_bench.env import context_full
from resd_bench.rollout.vector_env import EpisodeSlot, StepResult, Vector
from resd_bench.types import (
    Answer,
    Completion,
    Feedback,
    FeedbackLevel,
    Message,
    Messages,
    Metrics,
    Stop,
    Task,
    Trajectory,
    Turn,
    TurnFeedback,
)

_UNSCORED = Feedback(reward=0.0, success=False, score=0.0, kind="environment_error")
"""Placeholder for a missing verdict; the trajectory's `stop` is `error`."""


@dataclass
class RunningEpisode:
    """One attempt in progress."""

    task: Task
    slot: EpisodeSlot
    attempt: int = 0
    """Its number among the attempts at the task."""
    messages: Messages = ()
    turns: list[Turn] = field(default_factory=list)
    feedback: Feedback = _UNSCORED
    stop: Stop = Stop.EOS
    error: str = ""
    live: bool = True
    unanswered: bool = False
    several: bool = False
    """Whether the environment has several turns."""
    level: int = FeedbackLevel.FAILURES
    """The environment's feedback level."""

    def begin(self, posed: StepResult) -> None:
        """Record the first observation."""
        if posed.error:
            self._fail(posed.error)
        else:
            self.messages = (Message("user", posed.observation),)
            level: Any = posed.info.get("feedback_level")
            if level in range(len(FeedbackLevel)):
                self.level = level

    def take_turn(self, completion: Completion, answer: StepResult) -> None:
        """Record an action and its result, which may end the episode."""
        told = answer.info.get("turn")
        note = told if isinstance(told, TurnFeedback) else None
        self.turns.append(Turn(self.messages, completion, note))
        self.several |= answer.max_turns > 1
        if answer.error:
            self._fail(answer.error)
        elif answer.last:
            self._end(answer, completion)
        elif len(self.turns) >= answer.max_turns:
            self._fail(f"RuntimeError: no verdict after {len(self.turns)} turns, its own limit")
        else:
            said = Message("assistant", completion.text)
            self.messages = (*self.messages, said, Message("user", answer.observation))

    def _end(self, answer: StepResult, completion: Completion) -> None:
        self.feedback = answer.info["feedback"]
        truncated = completion.stop is Stop.LENGTH
        self.stop = Stop.TURNS if answer.cut else Stop.LENGTH if truncated else Stop.EOS
        self.live = False

    def end_unanswered(self) -> None:
        """End as a failure, because the policy could not take the next turn."""
        self.feedback, self.stop, self.live = context_full(self.level), Stop.LENGTH, False
        self.unanswered = True

    def _fail(self, error: str) -> None:
        self.feedback, self.stop, self.live = _UNSCORED, Stop.ERROR, False
        self.error = error

    def trajectory(self) -> Trajectory:
        """The finished attempt."""
        turns = tuple(self.turns)
        unread = self.messages[-1].content if self.unanswered and turns else ""
        feedback = self.feedback
        if self.several and not self.error:
            counted = turn_metrics(turns, feedback.success)
            feedback = replace(feedback, metrics={**counted, **feedback.metrics})
        return Trajectory(
            self.task, turns, feedback, self.stop, self.error, self.unanswered, unread
        )


def begin_all(vector: Vector, episodes: Sequence[RunningEpisode]) -> None:
    """Begin these episodes."""
    posed = vector.reset([episode.slot for episode in episodes])
    for episode, answer in zip(episodes, posed, strict=True):
        episode.begin(answer)


def take_turns(
    vector: Vector, episodes: Sequence[RunningEpisode], said: Sequence[Completion]
) -> None:
    """Step each episode with what was said in it; one for which nothing was sampled ends."""
    pairs = list(zip(episodes, said, strict=True))
    taken = [(episode, completion) for episode, completion in pairs if completion.sampled]
    unanswered = [episode for episode, completion in pairs if not completion.sampled]
    for episode in unanswered:
        episode.end_unanswered()
    vector.leave([episode.slot for episode in unanswered])
    answers = vector.step(
        [episode.slot for episode, _ in taken],
        [Answer(completion.text, completion.stop) for _, completion in taken],
    )
    for (episode, completion), answer in zip(taken, answers, strict=True):
        episode.take_turn(completion, answer)


def turn_metrics(turns: Sequence[Turn], success: bool) -> Metrics:
    """Measurements of an episode of several turns, among those of its feedback.

    `turns` taken; `turns_to_success`, the same of a success; `wasted_turns` and `invalid_turns`,
    shares of the turns, where the environment says of turns what they did.
    """
    found: Metrics = {"turns": float(len(turns))}
    if success:
        found["turns_to_success"] = float(len(turns))
    kinds = [turn.feedback.kind if turn.feedback else "" for turn in turns]
    if any(kinds):
        found["wasted_turns"] = kinds.count("wasted") / len(turns)
        found["invalid_turns"] = kinds.count("invalid") / len(turns)
    return found
