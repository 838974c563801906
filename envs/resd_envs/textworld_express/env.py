"""TextWorldExpress as a multi-turn environment: prompts, commands, verdicts.

Games are in `games.py`, playing one is in `engine.py`, and the wording of the compact dialect is in
`brief.py`. The package (Jansen and Côté 2023, arXiv 2208.01174) is an extra.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files

from resd_bench.env import Reply, TextEnv
from resd_bench.errors import UsageError, near_miss
from resd_bench.types import CaseResult, Dialect, Feedback, FeedbackLevel, Split, Task
from resd_envs.games.packages import TEXTWORLD_EXPRESS, require
from resd_envs.games.record import REPLIES, CommandOutcome, Record, read_printable_command
from resd_envs.textworld_express.brief import brief
from resd_envs.textworld_express.engine import Engine
from resd_envs.textworld_express.games import TIERS, Game, GameName, Level, Tier, games

WALK = "`look around`, `inventory`, `move DIRECTION`"
DOORS = "`open door to DIRECTION`, `close door to DIRECTION`"
BOXES = "`open THING`, `close THING`, `put THING in THING`"
_COMMANDS: Mapping[GameName, str] = {
    "arithmetic": "`look around`, `inventory`, `take THING`, `read THING`, `put THING in THING`",
    "coin": f"{WALK}, {DOORS}, `take THING`",
    "cookingworld": (
        f"{WALK}, {DOORS}, `examine THING`, `take THING`, {BOXES}, `read cookbook`, "
        "`cook THING in THING`, `chop THING`, `slice THING`, `dice THING`, `eat THING`, "
        "`prepare meal`"
    ),
    "mapreader": f"{WALK}, `task`, `read map`, `take THING`, `put THING in THING`",
    "peckingorder": (
        "`look around`, `inventory`, `read instructions book`, `take THING`, `put THING in THING`"
    ),
    "simonsays": "what Simon says, word for word",
    "sorting": "`look around`, `inventory`, `take THING`, `put THING in THING`",
    "twc": f"{WALK}, `take THING`, {BOXES}",
}
COMPACT: Mapping[GameName, str] = {
    "arithmetic": "compute",
    "coin": "find coin",
    "cookingworld": "cook and eat",
    "mapreader": "read map",
    "peckingorder": "follow instructions",
    "simonsays": "simon says",
    "sorting": "sort",
    "twc": "tidy up",
}
REFUSED = re.compile(
    r"You can't |That is already |You are unable |Can only |Your inventory currently"
)
"""The beginning of the reply to a command without effect."""
SYNONYMS = (
    (re.compile(r"\b(?:the|a|an) "), ""),
    (re.compile(r"^(?:go|walk|head|run)(?: to)? (?=north|south|east|west)"), "move "),
    (re.compile(r"^(?:north|south|east|west)$"), r"move \g<0>"),
    (re.compile(r"^(?:get|grab|pick up) "), "take "),
    (re.compile(r"^(?:l|look)$"), "look around"),
    (re.compile(r"^i$"), "inventory"),
)
"""Synonyms from other text games."""


class TextWorldExpressEnv(TextEnv):
    """Play one of the eight text games of TextWorldExpress and win it.

    ## Description
    `coin`: search a house for a coin. `cookingworld`: read a recipe, gather, cut and cook what it
    says, prepare the meal and eat it. `twc`: put things where they belong. `mapreader`: fetch the
    coin from the named room, with the help of a map. `arithmetic`: solve a problem and put that
    many things into the box. `sorting`: put things into the box, smallest quantity first.
    `simonsays`: do what Simon says, or (`hard`) everything that he said at the beginning.
    `peckingorder`: follow the instructions in a book in order. The games are as in the package;
    `easy` ones are smaller, `hard` ones larger. 256 train, 64 validation and 128 test games per
    tier, from the package's seeds for these splits; no game is in two of them. Needs Java.

    ## Action Space
    Any string (`Utf8Text`). The command is its last line that is not blank. `full` also takes usual
    synonyms (`go north`, `get coin`); `compact` requires commands word for word. Only commands that
    the game has listed ever reach it.

    ## Observation Space
    Any string (`Utf8Text`). `full`: the rules and the task, then the game's text. `compact`: the
    same in fewer words, e.g. `kitchen , stove , counter : knife , north wood door closed`. If an
    answer is not a possible command, the observation says so. Last the feedback.

    ## Rewards
    1 for winning, else 0; nothing in between. `info["score"]` is the largest share of the goal's
    parts that was reached, as the game counts them.

    ## Episode End
    When the game is won or lost; truncated when the commands are used up.

    ## Information
    `task_id`, `split`, `feedback_level`; at the end `feedback`, `success`, `score`, `stop_reason`.
    Feedback: 2 how many parts of the goal were reached and the class of failure (`nothing_done`,
    `turn_limit`, `lost`); 3 what went wrong: what was not understood, not possible or said again
    and again, what brought progress, the last commands; 4 also the command that reaches the next
    part; 5 commands that win.

    ## Arguments
    - `dialect`: `full` or `compact`.
    - `feedback_level`: 0 to 5. The game's texts between turns do not depend on it.
    - `game`: one of the eight.
    - `level`: `medium`; for some games also `easy` and `hard`.
    - `admissible`: whether each observation lists the commands that are possible.

    ## Version History
    - v0: first version, of TextWorldExpress 1.1.
    """

    name = "textworld-express-coin"
    max_turns = 60
    isolated = True
    """A game that hangs can be ended only with its process."""

    def __init__(
        self,
        *,
        dialect: Dialect = "full",
        feedback_level: int = 3,
        game: GameName = "coin",
        level: Level = "medium",
        admissible: bool = False,
    ) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        self.tier = find_tier(game, level)
        require(TEXTWORLD_EXPRESS)
        self.admissible = admissible
        # One class serves all tiers, so these belong to the instance.
        self.name = self.tier.name
        self.max_turns = self.tier.turns  # type: ignore[misc]
        # The task itself names commands there.
        self.answer_in_prompt = game in ("mapreader", "simonsays")  # type: ignore[misc]
        self._engine: Engine | None = None
        self._record = Record()
        self._best = 0.0

    def tasks(self, split: Split) -> Sequence[Task]:
        """The games of `split`, which do not have to be made for this."""
        return _tasks(self.tier, split, self.dialect)

    @property
    def engine(self) -> Engine:
        """Plays the game at hand; made when it is first needed."""
        if self._engine is None:
            self._engine = Engine()
        return self._engine

    def opening(self, task: Task) -> str:
        """The rules, the objective of this game and the first scene."""
        self._state = self.engine.start(_game(task))
        self._goals = self.engine.goals
        self._record, self._best = Record(), 0.0
        parts = [task.prompt, self.engine.description, self._state.text]
        if self.dialect == "compact":
            return "\n".join([task.prompt, *map(brief, parts[1:])]) + self._possible()
        return "\n\n".join(parts) + self._possible()

    def reply(self, task: Task, action: str) -> Reply:
        """Do what the answer commands, if that is possible."""
        said = read_printable_command(action)
        command = resolve_command(said, self._state.possible, self.dialect)
        if command is None:
            outcome = _why_not(said, self._state.possible)
            told = REPLIES[self.dialect][outcome]
            self._record.note(said, outcome)
            return Reply(told + self._possible(), turn=self._record.last_turn(self.dialect))
        state = self._state = self.engine.act(command)
        refused = REFUSED.match(state.text)
        outcome = CommandOutcome.NOT_POSSIBLE if refused else CommandOutcome.DONE
        self._record.note(command, outcome, state.text, progress=state.score > self._best)
        self._best = max(self._best, state.score)
        turn = self._record.last_turn(self.dialect)
        if state.won:
            return Reply(feedback=self._success(), turn=turn)
        if state.lost:
            return Reply(feedback=self._failure(task, "lost"), turn=turn)
        told = brief(state.text) if self.dialect == "compact" else state.text
        told = told or REPLIES[self.dialect][CommandOutcome.DONE]
        return Reply(told + self._possible(), turn=turn)

    def _possible(self) -> str:
        if not self.admissible:
            return ""
        if self.dialect == "compact":
            return "\ncan " + " , ".join(self._state.possible)
        return "\n\nYou can: " + ", ".join(self._state.possible)

    def give_up(self, task: Task) -> Feedback:
        """The verdict when the commands are used up."""
        return self._failure(task, self._record.failure)

    def _success(self) -> Feedback:
        cases = tuple(CaseResult(f"part {n + 1}", True, "pass") for n in range(self._goals))
        return Feedback(1.0, True, 1.0, cases)

    def _failure(self, task: Task, kind: str) -> Feedback:
        """The verdict on a failure; the first unreached part of the goal says what happened."""
        # A game may be lost at its last part, after all the others.
        passed = min(int(self._best * self._goals + 1e-6), self._goals - 1)
        report = self._record.report(self.dialect, lost=kind == "lost")
        right, solution = "", ""
        if self.feedback_level >= FeedbackLevel.EXPECTED:
            way = find_solution(_game(task))
            right, solution = self._next(task, way, passed), "\n".join(way)
        cases = [
            CaseResult(f"part {n + 1}", n < passed, "pass" if n < passed else kind)
            for n in range(self._goals)
        ]
        cases[passed] = CaseResult(f"part {passed + 1}", False, kind, report, right)
        score = passed / self._goals
        return Feedback(0.0, False, score, tuple(cases), "", kind, (passed,), solution)

    def _next(self, task: Task, way: Sequence[str], passed: int) -> str:
        """The command on the way to the goal that reaches more parts of it than were reached."""
        states = self.engine.play(_game(task), way)
        reached = (n for n, state in enumerate(states) if state.score * self._goals > passed + 0.5)
        return way[next(reached, len(way)) - 1]

    def oracle(self, task: Task) -> str:
        """Commands that win, one per line; they are played line by line."""
        return "\n".join(find_solution(_game(task)))


def find_tier(game: str, level: str) -> Tier:
    """The tier of a game; UsageError with the nearest name if there is none."""
    levels = {tier.level: tier for tier in TIERS.values() if tier.game == game}
    if not levels:
        raise near_miss("game of TextWorldExpress", game, _COMMANDS)
    if level not in levels:
        raise UsageError(
            f"the game {game!r} of TextWorldExpress has no level {level!r}: give "
            f"{' or '.join(sorted(levels))}"
        )
    return levels[level]


def resolve_command(said: str, possible: Sequence[str], dialect: Dialect) -> str | None:
    """The possible command that was given; None if there is none.

    `compact` requires it word for word; `full` accepts synonyms from other text games.
    """
    by_name = {command.lower(): command for command in possible}
    if said in by_name or dialect == "compact":
        return by_name.get(said)
    for pattern, word in SYNONYMS:
        said = pattern.sub(word, said)
    return by_name.get(said)


def _why_not(said: str, possible: Sequence[str]) -> CommandOutcome:
    if not said:
        return CommandOutcome.NO_COMMAND
    verbs = {command.split()[0] for command in possible}
    return (
        CommandOutcome.NOT_POSSIBLE if said.split()[0] in verbs else CommandOutcome.NOT_UNDERSTOOD
    )


@cache
def find_solution(game: Game) -> tuple[str, ...]:
    """Commands that win, found once per process."""
    return Engine().find_solution(game)


def _game(task: Task) -> Game:
    return Game(**task.data)


@cache
def _tasks(tier: Tier, split: Split, dialect: Dialect) -> tuple[Task, ...]:
    prompt = COMPACT[tier.game] if dialect == "compact" else _manual(tier)
    return tuple(
        Task(f"{tier.name}/{split}/{number:03d}", split, prompt, asdict(game))
        for number, game in enumerate(games(tier, split))
    )


def _manual(tier: Tier) -> str:
    """The rules in the full dialect."""
    folder = files("resd_envs.textworld_express")
    text = folder.joinpath("prompts/full.md").read_text(encoding="utf-8")
    fields = {"{commands}": _COMMANDS[tier.game], "{turns}": str(tier.turns)}
    for name, value in fields.items():
        if text.count(name) != 1:
            raise UsageError(f"prompts/full.md must hold the field {name} exactly once")
        text = text.replace(name, value)
    return text.strip()
