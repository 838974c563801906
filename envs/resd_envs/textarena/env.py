"""TextArena's games for one player as a multi-turn environment: moves and verdicts.

Games are in `ids.py`, playing one is in `engine.py`, and solutions are in `solve.py`. The package
(Guertler et al. 2025, arXiv 2504.11442) is an extra.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files

from resd_bench.env import Reply, TextEnv
from resd_bench.errors import UsageError
from resd_bench.types import CaseResult, Dialect, Feedback, FeedbackLevel, Split, Task
from resd_envs.games.record import REPLIES, CommandOutcome, Record
from resd_envs.textarena.engine import Engine, Game, GameState, usable
from resd_envs.textarena.ids import OFFERED
from resd_envs.textarena.solve import solve
from resd_envs.textworld.journal import printable

MOST_MOVE_CHARS = 100
"""Maximum length of a move."""
DECORATION = "`*>\"' \t."
SIZES: Mapping[Split, int] = {"train": 128, "validation": 32, "test": 64}
TURN: Sequence[Split] = ("train", "train", "validation", "train", "test", "train", "test")
"""The splits to which distinct games are assigned in turn."""
MOST_SEEDS = 2000
"""Seeds that are examined before a game counts as having no more variety."""
WORST_SCORE, BEST_SCORE = 0.0, 0.99
"""Bounds on the score of a game that is not won."""


class TextArenaEnv(TextEnv):
    """Play one of TextArena's games for one player and win it.

    ## Description
    Puzzles and games such as Sudoku, Minesweeper, Mastermind, Sokoban, Rush Hour, 2048 and the
    guessing of numbers; `id` names any that needs no data, no key and no second player. At most 128
    train, 32 validation and 64 test games, from seeds; no game is in two splits, and if there are
    only few distinct ones, as with numbers to guess, each occurs once.

    ## Action Space
    Any string (`Utf8Text`). The move is the last `[...]` in it, else its last line that is not
    blank, which is put into brackets. More than 100 characters are not a move.

    ## Observation Space
    Any string (`Utf8Text`). First the rules and the state of the game, then its reply to each move;
    the reply to an invalid one is the reason. The compact dialect leaves out general remarks about
    moves, and blank lines. Last the feedback.

    ## Rewards
    1 for a game whose own reward is 1 or more and that did not end with an invalid move, else 0.
    `info["score"]` is the largest share of it that was done, as the game itself reports (0 if it
    does not).

    ## Episode End
    When the game ends: won, lost, at its own limit, or at the second invalid move in a row;
    truncated when the answers are used up.

    ## Information
    `task_id`, `split`, `feedback_level`; at the end `feedback`, `success`, `score`, `stop_reason`.
    Feedback: 2 the class of failure (`nothing_done`, `turn_limit`, `lost`, `invalid_move`); 3 the
    moves that were not valid and why, repeated ones, those that brought progress, and the last
    ones; 4 also the first move of a winning sequence; 5 all of it. For Blackjack none is known.

    ## Arguments
    - `dialect`: `full` or `compact`.
    - `feedback_level`: 0 to 5. The game's texts between turns do not depend on it.
    - `id`: TextArena's name of a game, such as `Sudoku-v0-easy`.

    ## Version History
    - v0: first version, of TextArena 0.7.
    """

    name = "textarena-guess-the-number"
    max_turns = 15
    isolated = True
    """These are third-party games: one that loops in C can be ended only with its process."""

    def __init__(
        self, *, dialect: Dialect = "full", feedback_level: int = 3, id: str = "GuessTheNumber-v0"
    ) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        usable(id)
        self.id = id
        kind = OFFERED[id]
        # One class serves all games, so these belong to the instance.
        self.name = short_name(id)
        self.max_turns = kind.turns  # type: ignore[misc]
        self.chance = kind.chance
        self._engine: Engine | None = None
        self._state = GameState("")
        self._record = Record()
        self._best = 0.0

    def tasks(self, split: Split) -> Sequence[Task]:
        """The games of `split`; if there are few distinct ones, each is examined for this."""
        return _tasks(self.id, split, self.dialect)

    @property
    def engine(self) -> Engine:
        """Plays the game at hand; made when it is first needed."""
        if self._engine is None:
            self._engine = Engine()
        return self._engine

    def opening(self, task: Task) -> str:
        """How moves are made, the rules, and the state of the game."""
        self._state = self.engine.start(_game(task))
        self._record, self._best = Record(), 0.0
        return f"{task.prompt}\n\n{self._told()}"

    def reply(self, task: Task, action: str) -> Reply:
        """Make the move of the answer."""
        move = read_move(action)
        state = self._state = self.engine.act(move)
        progress = state.score > self._best and not state.refused
        self._best = max(self._best, state.score)
        taken = CommandOutcome.NOT_POSSIBLE if move else CommandOutcome.NO_COMMAND
        self._record.note(
            move, taken if state.refused else CommandOutcome.DONE, _reason(state.refused), progress
        )
        turn = self._record.last_turn(self.dialect)
        if state.won:
            success = Feedback(1.0, True, 1.0, (CaseResult("game", True, "pass"),))
            return Reply(feedback=success, turn=turn)
        if not state.over:
            told = self._told() or REPLIES[self.dialect][CommandOutcome.DONE]
            return Reply(told, turn=turn)
        kind = "invalid_move" if state.refused else "turn_limit" if state.out_of_turns else "lost"
        return Reply(feedback=self._failure(task, kind), turn=turn)

    def _told(self) -> str:
        if self.dialect == "full":
            return self._state.text
        lines = (line.rstrip() for line in self._state.text.splitlines())
        return "\n".join(line for line in lines if line)

    def give_up(self, task: Task) -> Feedback:
        """The verdict when the answers are used up."""
        return self._failure(task, self._record.failure)

    def _failure(self, task: Task, kind: str) -> Feedback:
        """The verdict on a failure; the game's own final text would give the solution away."""
        report = self._record.report(self.dialect, lost=kind == "lost")
        way = self._way(task) if self.feedback_level >= FeedbackLevel.EXPECTED else []
        score = min(BEST_SCORE, max(WORST_SCORE, self._best))
        case = CaseResult("game", False, kind, report, "".join(way[:1]))
        return Feedback(0.0, False, score, (case,), "", kind, (0,), "\n".join(way))

    def _way(self, task: Task) -> list[str]:
        try:
            return self.oracle(task).splitlines()
        except NotImplementedError:
            return []

    def oracle(self, task: Task) -> str:
        """Moves that win, one per line; NotImplementedError if none are known."""
        return "\n".join(find_solution(_game(task)))


def short_name(id: str) -> str:
    """The short name of a game: `GuessTheNumber-v0` is `textarena-guess-the-number`."""
    return "textarena-" + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", id).replace("-v0", "").lower()


def read_move(action: str) -> str:
    """The last `[...]` of an answer, else its last line in brackets; "" if none, or a long one.

    Whatever is not printable ASCII becomes `?`.
    """
    end = action.rfind("]")
    begin = action.rfind("[", 0, end) if end >= 0 else -1
    if begin >= 0:
        inner = action[begin + 1 : end]
    else:
        inner = action.rstrip().rpartition("\n")[2].strip(DECORATION)
    if len(inner) > MOST_MOVE_CHARS:
        return ""
    inner = printable(" ".join(inner.split()))
    return f"[{inner}]" if inner else ""


def _reason(refused: str) -> str:
    """What is wrong with a move, from the game's text about it."""
    reason = refused.partition("Reason: ")[2].partition(" Please resubmit")[0] or refused
    return reason.removeprefix("Invalid Move: ")


@cache
def find_solution(game: Game) -> tuple[str, ...]:
    """Moves that win, found once per process."""
    return tuple(solve(game))


def _game(task: Task) -> Game:
    return Game(**task.data)


@cache
def _tasks(name: str, split: Split, dialect: Dialect) -> tuple[Task, ...]:
    prompt = "move in [ ]" if dialect == "compact" else _manual(OFFERED[name].turns)
    short = short_name(name)
    return tuple(
        Task(f"{short}/{split}/{place:03d}", split, prompt, {"name": name, "seed": seed})
        for place, seed in enumerate(_seeds(name)[split])
    )


@cache
def _seeds(name: str) -> Mapping[Split, Sequence[int]]:
    """The seeds of each split: distinct games are assigned to the splits in turn."""
    found: dict[Split, list[int]] = {split: [] for split in SIZES}
    wanted = sum(SIZES.values())
    for place, seed in enumerate(_different(name)):
        if place == wanted:
            break
        found[TURN[place % len(TURN)]].append(seed)
    return found


def _different(name: str) -> Iterator[int]:
    """Seeds of distinct games, the same on every machine."""
    if not OFFERED[name].few:
        yield from range(MOST_SEEDS)
        return
    engine, seen = Engine(), set[str]()
    for seed in range(MOST_SEEDS):
        try:
            opening = engine.start(Game(name, seed)).text
        except ArithmeticError:
            # In Lights Out, a seed may leave no light on.
            continue
        content = _content(engine, opening)
        if content not in seen:
            seen.add(content)
            yield seed


def _content(engine: Engine, opening: str) -> str:
    """What distinguishes a game with this beginning: what is visible, and what is hidden."""
    env = engine.env
    if hasattr(env, "clues"):
        # For logic puzzles only the clues count: their tables are shuffled.
        return "|".join(sorted(env.clues))
    state = env.state.game_state
    return repr([opening, state.get("game_number"), state.get("secret_code")])


def _manual(turns: int) -> str:
    """How moves are made, in the full dialect."""
    text = files("resd_envs.textarena").joinpath("prompts/full.md").read_text(encoding="utf-8")
    if text.count("{turns}") != 1:
        raise UsageError("prompts/full.md must hold the field {turns} exactly once")
    return text.replace("{turns}", str(turns)).strip()
