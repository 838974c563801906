"""The guess-number curriculum of the embedded model: halving with known misconceptions.

A correct search guesses the middle of what the hints have left. Seven misconceptions can spoil it:
two of form, four about the next guess, and one that belongs to a single number of the search, which
only a review of the attempt can name. All numbers of the game belong to tasks. In pre-training, the
number looked for lies between two whole ones, so that no task is among its exercises: every guess
is too low or too high, and an episode ends when nothing is left, or with the turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from resd_bench.nano.curriculum import (
    CheckedTurn,
    Exercise,
    Mistake,
    OrderedCurriculum,
    blamed,
    verdict_on,
)
from resd_bench.types import CaseResult, Feedback, Task, TurnFeedback
from resd_envs.guess_number import (
    HIGHEST,
    HINTS,
    LOWEST,
    PROMPTS,
    GuessNumberEnv,
    judge,
    read_guess,
)

TURNS = GuessNumberEnv.max_turns
PROMPT = PROMPTS["compact"].format(turns=TURNS)
ORDER = ("words", "stop", "stick", "repeat", "swap", "creep", "forget")
"""Misconceptions in the order in which attempts reveal them."""
PRIORS = {
    "words": 0.50,
    "stop": 0.50,
    "stick": 0.80,
    "repeat": 0.50,
    "swap": 0.50,
    "creep": 0.50,
    "forget": 0.35,
}
"""How often an untaught search gets each point right."""
SHARED = {
    mistake.key: mistake
    for mistake in (
        Mistake(
            "words",
            "there are words before the number",
            ("say the number alone , not guess", "no word before the number"),
            True,
            wrong=("say guess before the number",),
        ),
        Mistake(
            "stop",
            "there is a full stop after the number",
            ("no full stop after the number", "end with the number , not with a stop"),
            True,
            wrong=("put a full stop after the number",),
        ),
        Mistake(
            "repeat",
            "it says a number again",
            ("never say a number twice", "a number that was wrong stays wrong"),
            True,
            wrong=("say the last number again",),
        ),
        Mistake(
            "swap",
            "it goes down after low",
            ("after low go up , after high go down", "low means more , high means less"),
            True,
            wrong=("after low go down , after high go up",),
        ),
        Mistake(
            "creep",
            "it goes on in steps of one",
            ("halve what is left , no steps of one", "take the middle of what is left"),
            True,
            wrong=("go on in steps of one",),
        ),
        Mistake(
            "forget",
            "it forgets the other end",
            ("keep both ends , the last low and the last high", "use the hints of both sides"),
            True,
            wrong=("use the last hint alone",),
        ),
    )
}


@dataclass
class _Play:
    """A simulated episode in the compact dialect."""

    secret: float
    low: int = LOWEST
    high: int = HIGHEST
    last: int = 0
    """The last number guessed; 0 before the first."""
    hint: str = ""
    observations: list[str] = field(default_factory=lambda: [PROMPT])
    said: list[str] = field(default_factory=list)
    told: TurnFeedback = field(default_factory=lambda: TurnFeedback("changed"))
    """What is said of the last answer."""
    won: bool = False

    @property
    def over(self) -> bool:
        """Whether it is won, the turns are used up, or nothing is left to guess."""
        return self.won or len(self.said) >= TURNS or self.low > self.high

    def act(self, action: str) -> None:
        """Take one action, as the environment does."""
        self.said.append(action)
        guess = read_guess(action)
        self.won = guess == self.secret
        self.told = judge(guess, self.low, self.high, "compact")
        if guess is None:
            self.observations.append(HINTS["compact"]["none"])
            return
        self.last, self.hint = guess, "low" if guess < self.secret else "high"
        if self.told.kind == "changed" and self.hint == "low":
            self.low = guess + 1
        elif self.told.kind == "changed":
            self.high = guess - 1
        self.observations.append(HINTS["compact"][self.hint].format(guess=guess))

    @property
    def feedback(self) -> str:
        """The environment's feedback on a failure at level 3."""
        if self.won:
            return ""
        kind = "no_number" if self.told.kind == "invalid" else "wrong_guess"
        case = CaseResult("guess", False, kind, " , ".join(self.observations[1:]))
        return Feedback(0.0, False, 0.0, (case,), "", kind, (0,)).render(3)


def _answer(play: _Play, wrong: Mapping[str, Mistake]) -> str:
    """The next answer of a search with the given mistakes."""
    text = str(_guess(play, wrong))
    text = f"guess {text}" if "words" in wrong else text
    return f"{text} ." if "stop" in wrong else text


def _guess(play: _Play, wrong: Mapping[str, Mistake]) -> int:
    low, high, last, up = play.low, play.high, play.last, play.hint == "low"
    if last and "stick" in wrong and wrong["stick"].where[1] == str(last):
        return last
    if last and "repeat" in wrong:
        return last
    if last and "swap" in wrong:
        return max(LOWEST, last // 2) if up else min(HIGHEST, (last + HIGHEST + 1) // 2)
    if last and "creep" in wrong:
        return last + 1 if up else last - 1
    if last and "forget" in wrong:
        low, high = (last + 1, HIGHEST) if up else (LOWEST, last - 1)
    return (low + high) // 2


def _played(secret: float, mistakes: Mapping[str, Mistake]) -> _Play:
    play = _Play(secret)
    while not play.over:
        play.act(_answer(play, mistakes))
    return play


class GuessCurriculum(OrderedCurriculum):
    """See `resd_bench.nano.curriculum.Curriculum` and `TurnCurriculum`."""

    order = ORDER

    def exercise(self, rng: np.random.Generator) -> Exercise:
        return _exercise(float(rng.integers(LOWEST, HIGHEST)) + 0.5)

    def of_task(self, task: Task) -> Exercise:
        return _exercise(float(task.data["number"]))

    def priors(self, exercise: Exercise) -> Mapping[str, float]:
        return PRIORS

    def mistake(self, exercise: Exercise, key: str, rng: np.random.Generator) -> Mistake:
        if key in SHARED:
            return SHARED[key]
        path = _played(float(exercise.content[0]), {}).said[:-1] or ["100"]
        place = int(rng.integers(len(path)))
        number = path[place]
        symptom = f"it stays at {number}"
        return Mistake(key, symptom, (f"go on after {number}",), False, (place, number))

    def answer(self, exercise: Exercise, mistakes: Mapping[str, Mistake]) -> str:
        play = _played(float(exercise.content[0]), mistakes)
        lines = [f"> {play.said[0]}"]
        for seen, said in zip(play.observations[1:], play.said[1:], strict=False):
            lines += [seen, f"> {said}"]
        return "\n".join(lines)

    def chat(self, exercise: Exercise, response: str) -> tuple[tuple[str, str], ...]:
        """The turns of an answer: each observation and the guess that followed it."""
        play = _replay(exercise, response)
        return tuple(zip(play.observations, play.said, strict=False))

    def checked(
        self, exercise: Exercise, mistakes: Mapping[str, Mistake]
    ) -> tuple[CheckedTurn, ...]:
        """See `TurnCurriculum`."""
        play, turns = _Play(float(exercise.content[0])), list[CheckedTurn]()
        while not play.over:
            asked = play.observations[-1]
            said, right, fault = blamed(ORDER, mistakes, lambda left: _answer(play, left))
            play.act(said)
            verdict = verdict_on(play.told.kind, fault)
            turns.append(CheckedTurn(asked, said, right, fault, verdict, play.told.text))
        return tuple(turns)

    def instead(
        self, exercise: Exercise, said: Sequence[str], mistakes: Mapping[str, Mistake]
    ) -> str:
        """See `TurnCurriculum`."""
        return _answer(_after(exercise, said), mistakes)

    def feedback(self, exercise: Exercise, response: str) -> tuple[bool, str]:
        play = _replay(exercise, response)
        return play.won, play.feedback


def _exercise(secret: float) -> Exercise:
    return Exercise(PROMPT, "number", (f"{secret:g}",), f"number {secret:g}")


def _replay(exercise: Exercise, response: str) -> _Play:
    """The episode in which the guesses of a transcript were made."""
    says = (line for line in response.splitlines() if line.startswith("> "))
    return _after(exercise, [line.removeprefix("> ") for line in says])


def _after(exercise: Exercise, said: Sequence[str]) -> _Play:
    """The episode in which these guesses were made, to its end."""
    play = _Play(float(exercise.content[0]))
    for action in said:
        if not play.over:
            play.act(action)
    return play


CURRICULUM = GuessCurriculum()
"""The object of the entry point `guess-number` in the group `resd_bench.curricula`."""
