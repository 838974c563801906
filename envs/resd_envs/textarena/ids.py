"""The TextArena games that are supported, and why the others are not.

Supported are games for one player that need nothing but the package, can be won, and differ with
the seed. TextArena's own names (`Sudoku-v0-easy`) are used; it is not imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from resd_bench.errors import UsageError, near_miss


@dataclass(frozen=True, slots=True)
class Kind:
    """What we must know about a game and its package does not say."""

    turns: int
    """Maximum number of answers; more than a good player needs."""
    chance: float = 0.0
    """How often repeating the same guess wins."""
    few: bool = False
    """Whether different seeds often give the same game, so that each must be examined."""
    slow: bool = False
    """Whether making a game takes a tenth of a second or more."""


def _tiers(game: str, kind: Kind, *tiers: str) -> dict[str, Kind]:
    return {f"{game}-v0{tier}": kind for tier in tiers}


def _tiles(turns: int, *tiers: str) -> dict[str, Kind]:
    return _tiers("2048", Kind(turns, few=True), *tiers)


OFFERED: Mapping[str, Kind] = {
    **_tiles(40, "-ultra-easy"),
    **_tiles(80, "-mega-easy"),
    **_tiles(150, "-super-easy"),
    **_tiles(300, "-very-easy"),
    **_tiles(600, "-easy"),
    **_tiles(2000, "", "-3x3", "-5x5", "-6x6", "-8x8", "-10x10"),
    **_tiles(4000, "-hard"),
    **_tiles(8000, "-very-hard"),
    **_tiles(16000, "-extreme"),
    "Blackjack-v0": Kind(40, chance=0.05),
    "Blackjack-v0-long": Kind(120),
    **_tiers("Crosswords", Kind(45), "", "-hardcore"),
    **_tiers("FrozenLake", Kind(20, few=True), "", "-random", "-hardcore"),
    **_tiers("GuessTheNumber", Kind(15, chance=1 / 20, few=True), "", "-hardcore"),
    "LightsOut-v0": Kind(30, few=True),
    **_tiers("LogicPuzzle", Kind(45, few=True), "", "-hard"),
    "Mastermind-v0": Kind(30, few=True),
    "Mastermind-v0-hard": Kind(45, few=True),
    "Mastermind-v0-extreme": Kind(75),
    "Minesweeper-v0": Kind(60),
    "Minesweeper-v0-small": Kind(30),
    "Minesweeper-v0-medium": Kind(100),
    "Minesweeper-v0-hard": Kind(150),
    "RushHour-v0": Kind(60, slow=True),
    "Secretary-v0": Kind(8, chance=1 / 4),
    "Secretary-v0-long": Kind(15, chance=1 / 8),
    "Set-v0": Kind(30),
    "Slitherlink-v0": Kind(30),
    "Sokoban-v0": Kind(45, slow=True),
    "Sokoban-v0-medium": Kind(75, slow=True),
    "Sudoku-v0-very-easy": Kind(10),
    "Sudoku-v0-easy": Kind(20),
    "Sudoku-v0": Kind(35),
    "Sudoku-v0-medium": Kind(65, slow=True),
    "Sudoku-v0-hard": Kind(85, slow=True),
    "ThreeCardMonte-v0": Kind(2, chance=1 / 3),
}

WORDS = (
    "needs word lists of NLTK, which do not come with the package and which it would fetch from "
    "the network"
)
MODEL = "asks a language model behind a key, OPENROUTER_API_KEY, for its answers"
ALIKE = "is the same game for every seed, so that nothing could be held out"
FILES = "needs files that do not come with the package"
SYNTAX = "is written for Python 3.12 and newer"
CANNOT_BE_WON = "cannot be won in this version: its code never counts the right answer"
PLAYERS = "is a game for several players"
REASONS: Mapping[str, Iterable[str]] = {
    WORDS: (
        "Codenames",
        "DontSayIt",
        "Hangman",
        "LetterAuction",
        "SpellingBee",
        "WordChains",
        "WordLadder",
        "WordSearch",
        "Wordle",
    ),
    MODEL: ("Debate", "GuessWho", "ScenarioPlanning", "TwentyQuestions"),
    ALIKE: ("Countdown", "Cryptarithm", "PegJump", "TowerOfHanoi"),
    FILES: ("BabyAiText", "ScorableGames", "UsedCar", "UsedCarNegotiation"),
    SYNTAX: ("Klondike", "UltimateTexasHoldem"),
    CANNOT_BE_WON: ("Bandit", "FifteenPuzzle"),
}
"""Why games are not supported, by the beginning of their names; others are for several players."""


def find_kind(name: str, known: Iterable[str] = ()) -> Kind:
    """What we must know about the game `name`; UsageError with the reason if it is not supported.

    `known` holds the names that the package knows.
    """
    if name in OFFERED:
        return OFFERED[name]
    if name not in known:
        raise near_miss("game of TextArena", name, OFFERED)
    game = name.partition("-v0")[0]
    reasons = (reason for reason, games in REASONS.items() if game in games)
    raise UsageError(
        f"the game {name} of TextArena {next(reasons, PLAYERS)}. Offered: {', '.join(OFFERED)}"
    )
