"""A running TextArena game: its texts, and how it ends.

The games draw from Python's global random generator, and print. Here each game has the generator to
itself while it plays and restores it afterwards, so simultaneous games do not affect each other or
anything else. A game gets one move at a time: some games extract several from an answer, in an
order that changes with Python's hash seed.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from resd_bench.errors import UsageError
from resd_envs.games.packages import TEXTARENA, require
from resd_envs.textarena.ids import OFFERED, find_kind

PROGRESS = ("_get_percentage_completion", "_progress", "_calculate_progress")
"""Names that games use for the share that is done."""
KEPT = 8
"""Number of cached initial states of games that are slow to make."""


@dataclass(frozen=True, slots=True)
class Game:
    """Everything that determines a game."""

    name: str
    """TextArena's name."""
    seed: int


@dataclass(frozen=True, slots=True)
class GameState:
    """A game's text and state."""

    text: str
    """Its latest text; "" if there is none."""
    refused: str = ""
    """Why it did not accept the last move; "" if it did."""
    over: bool = False
    won: bool = False
    out_of_turns: bool = False
    """Whether it ended because its own limit was reached."""
    score: float = 0.0
    """The share that is done, as far as the game reports it."""


class Engine:
    """Plays one game at a time; `start` it before anything else."""

    def __init__(self) -> None:
        require(TEXTARENA)
        self._env: Any = None
        self._chance: Any = None
        """State of the random generator, as the game left it."""
        self._refused = ""
        """Why the game did not accept the last move; "" if it did."""

    def start(self, game: Game) -> GameState:
        """Begin a game."""
        if OFFERED[game.name].slow:
            env, self._chance = _kept(game)
            self._env = copy.deepcopy(env)
        else:
            self._env, self._chance = _begun(game)
        return GameState("\n".join(self._heard()))

    def act(self, move: str) -> GameState:
        """Make a move."""
        with _alone(self._chance) as chance:
            over, _ = self._env.step(action=move)
            score = self._score()
        self._chance = chance()
        text, refused = "\n".join(self._heard()), self._refused
        if not over:
            return GameState(text, refused, score=score)
        rewards, infos = self._env.close()
        info, limit = infos[0], self._env.state.max_turns
        invalid = bool(info["invalid_move"])
        return GameState(
            text,
            str(info["reason"]) if invalid else "",
            over=True,
            # In some games the reward of an invalid move is not a number.
            won=not invalid and float(rewards[0]) >= 1,
            out_of_turns=not invalid and limit is not None and self._env.state.turn >= limit,
            score=score,
        )

    def fork(self) -> Engine:
        """Another engine with the same game in its current state."""
        other = copy.copy(self)
        other._env = copy.deepcopy(self._env)
        return other

    @property
    def env(self) -> Any:
        """The game's own object, for code that may know what it hides."""
        return self._env

    def _heard(self) -> list[str]:
        """The game's text since the last call, without repetitions of the player's."""
        from textarena import ObservationType

        heard, refusals = [], []
        for _, text, kind in self._env.get_observation()[1]:
            # Some games repeat a move with its arguments in the wrong order.
            if kind is ObservationType.PLAYER_ACTION or not isinstance(kind, ObservationType):
                continue
            heard.append(text.strip())
            if kind is ObservationType.GAME_ADMIN:
                refusals.append(" ".join(text.split()))
        self._refused = " ".join(refusals)
        return heard

    def _score(self) -> float:
        """The share of the game that is done, as the game reports it, in [0, 1]."""
        for name in PROGRESS:
            if hasattr(self._env, name):
                return min(1.0, max(0.0, float(getattr(self._env, name)())))
        return 0.0


@functools.cache
def known_names() -> frozenset[str]:
    """The names of the games that the package knows."""
    from textarena.envs.registration import ENV_REGISTRY

    return frozenset(ENV_REGISTRY)


def _begun(game: Game) -> tuple[Any, Any]:
    """A game at its beginning, and the state of its random generator."""
    import textarena

    with _alone(random.Random(game.seed).getstate()) as chance:
        # Without the wrappers, which repeat the whole conversation.
        env = textarena.make(f"{game.name}-raw")
        env.reset(num_players=1, seed=game.seed)
    return env, chance()


_kept = functools.lru_cache(maxsize=KEPT)(_begun)


@contextlib.contextmanager
def _alone(chance: Any) -> Iterator[Any]:
    """Give a game the global random generator, in its own state, and suppress its output.

    Yields a function that afterwards returns the state that the game left.
    """
    before, left = random.getstate(), list[Any]()
    random.setstate(chance)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield lambda: left[0]
    finally:
        left.append(random.getstate())
        random.setstate(before)


def usable(name: str) -> None:
    """UsageError if the game `name` is not supported."""
    require(TEXTARENA)
    try:
        find_kind(name)
    except UsageError:
        # Only the package knows all other names.
        find_kind(name, known_names())
