"""Guess a number: the smallest environment of several turns, for tests, notebooks and plugins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from resd_bench.env import CUT_OFF, TRUNCATED, Reply, TextEnv
from resd_bench.seeds import stream
from resd_bench.types import (
    CaseResult,
    Dialect,
    Feedback,
    Split,
    Task,
    TurnFeedback,
    was_cut_off,
)

LOWEST, HIGHEST = 1, 200
SIZES: Mapping[Split, int] = {"train": 120, "validation": 40, "test": 40}

PROMPTS: Mapping[Dialect, str] = {
    "full": (
        f"I think of a whole number from {LOWEST} to {HIGHEST}. Guess it in at most {{turns}} "
        "tries. After each wrong guess I say whether it was too low or too high. The last line of "
        "each answer must be your guess and nothing else."
    ),
    "compact": f"guess {LOWEST} {HIGHEST}",
}
HINTS: Mapping[Dialect, Mapping[str, str]] = {
    "full": {
        "low": "{guess} is too low.",
        "high": "{guess} is too high.",
        "none": "That was no guess: the last line must be a whole number and nothing else.",
    },
    "compact": {"low": "{guess} low", "high": "{guess} high", "none": "no number"},
}
IN_VAIN: Mapping[Dialect, Mapping[str, str]] = {
    "full": {
        "none": "The answer was not a whole number.",
        "wasted": "The hints before it left only numbers from {least} to {most}.",
    },
    "compact": {"none": "no number", "wasted": "left {least} {most}"},
}
"""What is said about a turn in vain, apart from the hint."""
MAX_DIGITS = 9


class GuessNumberEnv(TextEnv):
    """Find a whole number from 1 to 200 from the hints "too low" and "too high".

    ## Description
    Bisection finds every number within the eight turns. An answer without a guess uses up a turn.

    ## Action Space
    Any string (`Utf8Text`). The guess is its last line that is not blank; it must be a whole
    number and nothing else.

    ## Observation Space
    Any string (`Utf8Text`): the prompt, then for each wrong guess whether it was too low or too
    high; last the feedback.

    ## Rewards
    1 for the right guess, else 0.

    ## Episode End
    With the right guess; truncated after eight turns.

    ## Information
    `task_id`, `split`, `feedback_level`; at the end `feedback`, `success`, `score`, `stop_reason`.
    Feedback: 2 the class of the last mistake (`wrong_guess`, `no_number` or `truncated`), 3 every
    guess with the hint it got, 4 and 5 the number. After each step `turn` says whether the guess
    was `invalid`, `wasted` because earlier hints excluded it, or `changed` what is known.

    ## Arguments
    - `dialect`: `full` or `compact`.
    - `feedback_level`: 0 to 5. The hints between turns are the game and do not depend on it.

    ## Version History
    - v0: first version.
    """

    name = "guess-number"
    verify_seconds = 5.0
    max_turns = 8
    # Eight of two hundred numbers, if hints are ignored.
    chance = 0.04

    def __init__(self, *, dialect: Dialect = "full", feedback_level: int = 3) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        self._hints: list[str] = []
        self._last_kind = ""
        self._left = (LOWEST, HIGHEST)
        """The least and the greatest number that the hints leave."""

    def tasks(self, split: Split) -> Sequence[Task]:
        """One task per number; 120 train, 40 validation and 40 test."""
        return _tasks(split, self.dialect, self.max_turns)

    def opening(self, task: Task) -> str:
        """Pose the task and forget the guesses of the last episode."""
        self._hints, self._left = [], (LOWEST, HIGHEST)
        return task.prompt

    def reply(self, task: Task, action: str) -> Reply:
        """End on the right guess, else give a hint."""
        guess, secret = read_guess(action), int(task.data["number"])
        if guess == secret:
            success = Feedback(1.0, True, 1.0, (CaseResult("guess", True, "pass"),))
            return Reply(feedback=success, turn=TurnFeedback("changed"))
        if guess is None and was_cut_off(action):
            # The next observation says so by itself.
            self._last_kind = TRUNCATED
            self._hints.append(CUT_OFF[self.dialect])
            return Reply(turn=TurnFeedback("invalid"))
        self._last_kind = "no_number" if guess is None else "wrong_guess"
        word = "none" if guess is None else "low" if guess < secret else "high"
        self._hints.append(HINTS[self.dialect][word].format(guess=guess))
        return Reply(self._hints[-1], turn=self._judge(guess, secret))

    def _judge(self, guess: int | None, secret: int) -> TurnFeedback:
        """What a wrong guess was good for; what the hints leave after it is kept."""
        least, most = self._left
        told = judge(guess, least, most, self.dialect)
        if guess is not None and told.kind == "changed":
            self._left = (guess + 1, most) if guess < secret else (least, guess - 1)
        return told

    def give_up(self, task: Task) -> Feedback:
        """The verdict when the turns are used up."""
        number = str(task.data["number"])
        told = (" , " if self.dialect == "compact" else " ").join(self._hints)
        case = CaseResult("guess", False, self._last_kind, told, number)
        return Feedback(0.0, False, 0.0, (case,), "", self._last_kind, (0,), number)

    def oracle(self, task: Task) -> str:
        """The number itself, which ends the episode in one turn."""
        return str(task.data["number"])


def judge(guess: int | None, least: int, most: int, dialect: Dialect) -> TurnFeedback:
    """Whether a guess told anything, where hints had left the numbers from `least` to `most`."""
    if guess is None:
        return TurnFeedback("invalid", IN_VAIN[dialect]["none"])
    if not least <= guess <= most:
        return TurnFeedback("wasted", IN_VAIN[dialect]["wasted"].format(least=least, most=most))
    return TurnFeedback("changed")


def read_guess(action: str) -> int | None:
    """The whole number on the last line that is not blank; None if it holds anything else."""
    last = action.rstrip().rpartition("\n")[2].strip()
    digits = last.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > MAX_DIGITS:
        return None
    return int(last)


@cache
def _tasks(split: Split, dialect: Dialect, turns: int) -> tuple[Task, ...]:
    numbers = stream(0, "guess-number").permutation(range(LOWEST, HIGHEST + 1)).tolist()
    splits = list(SIZES)
    begin = sum(SIZES[earlier] for earlier in splits[: splits.index(split)])
    prompt = PROMPTS[dialect].format(turns=turns)
    return tuple(
        Task(f"guess-number/{split}/{place:03d}", split, prompt, {"number": number})
        for place, number in enumerate(numbers[begin : begin + SIZES[split]])
    )
