"""TextArena's games for one player; needs the extra `textarena`.

Importing this does not need TextArena; making an environment does. Other games are made by their
TextArena name: `--set env.id=Sudoku-v0-easy`.
"""

from typing import Any

from resd_envs.textarena.env import TextArenaEnv


def tiles_mega_easy(**options: Any) -> TextArenaEnv:
    """2048 up to the tile 64."""
    return TextArenaEnv(**{"id": "2048-v0-mega-easy"} | options)


def tiles_ultra_easy(**options: Any) -> TextArenaEnv:
    """2048 up to the tile 32."""
    return TextArenaEnv(**{"id": "2048-v0-ultra-easy"} | options)


def blackjack(**options: Any) -> TextArenaEnv:
    """Win five hands of Blackjack; mostly luck."""
    return TextArenaEnv(**{"id": "Blackjack-v0"} | options)


def crosswords(**options: Any) -> TextArenaEnv:
    """A crossword of three words, a letter a move."""
    return TextArenaEnv(**{"id": "Crosswords-v0"} | options)


def frozen_lake(**options: Any) -> TextArenaEnv:
    """Cross a lake of four by four fields with three holes."""
    return TextArenaEnv(**{"id": "FrozenLake-v0"} | options)


def frozen_lake_hardcore(**options: Any) -> TextArenaEnv:
    """Cross a lake of five by five fields with six holes."""
    return TextArenaEnv(**{"id": "FrozenLake-v0-hardcore"} | options)


def guess_the_number(**options: Any) -> TextArenaEnv:
    """A number from 1 to 20 in ten guesses."""
    return TextArenaEnv(**{"id": "GuessTheNumber-v0"} | options)


def guess_the_number_hardcore(**options: Any) -> TextArenaEnv:
    """A number from 1 to 50 in ten guesses."""
    return TextArenaEnv(**{"id": "GuessTheNumber-v0-hardcore"} | options)


def lights_out(**options: Any) -> TextArenaEnv:
    """Turn off all lights of five by five."""
    return TextArenaEnv(**{"id": "LightsOut-v0"} | options)


def logic_puzzle(**options: Any) -> TextArenaEnv:
    """Who is where at what time: twenty puzzles."""
    return TextArenaEnv(**{"id": "LogicPuzzle-v0"} | options)


def mastermind(**options: Any) -> TextArenaEnv:
    """Four of six digits, each once."""
    return TextArenaEnv(**{"id": "Mastermind-v0"} | options)


def mastermind_hard(**options: Any) -> TextArenaEnv:
    """Four of eight digits, each once."""
    return TextArenaEnv(**{"id": "Mastermind-v0-hard"} | options)


def minesweeper(**options: Any) -> TextArenaEnv:
    """Ten mines in eight by eight fields."""
    return TextArenaEnv(**{"id": "Minesweeper-v0"} | options)


def minesweeper_small(**options: Any) -> TextArenaEnv:
    """Five mines in five by five fields."""
    return TextArenaEnv(**{"id": "Minesweeper-v0-small"} | options)


def rush_hour(**options: Any) -> TextArenaEnv:
    """Drive the red car out of a traffic jam."""
    return TextArenaEnv(**{"id": "RushHour-v0"} | options)


def secretary(**options: Any) -> TextArenaEnv:
    """Take the largest of five numbers as they pass; partly luck."""
    return TextArenaEnv(**{"id": "Secretary-v0"} | options)


def set(**options: Any) -> TextArenaEnv:
    """Find a Set among twelve cards, in twenty turns."""
    return TextArenaEnv(**{"id": "Set-v0"} | options)


def slitherlink(**options: Any) -> TextArenaEnv:
    """Draw a loop around numbers in four by four fields."""
    return TextArenaEnv(**{"id": "Slitherlink-v0"} | options)


def sokoban(**options: Any) -> TextArenaEnv:
    """Push three boxes onto goals in six by six fields."""
    return TextArenaEnv(**{"id": "Sokoban-v0"} | options)


def sudoku(**options: Any) -> TextArenaEnv:
    """A Sudoku with 60 of 81 fields filled."""
    return TextArenaEnv(**{"id": "Sudoku-v0"} | options)


def sudoku_very_easy(**options: Any) -> TextArenaEnv:
    """A Sudoku with 75 of 81 fields filled."""
    return TextArenaEnv(**{"id": "Sudoku-v0-very-easy"} | options)


def sudoku_medium(**options: Any) -> TextArenaEnv:
    """A Sudoku with 40 of 81 fields filled."""
    return TextArenaEnv(**{"id": "Sudoku-v0-medium"} | options)


def three_card_monte(**options: Any) -> TextArenaEnv:
    """Follow a ball under three cups through ten swaps."""
    return TextArenaEnv(**{"id": "ThreeCardMonte-v0"} | options)


__all__ = [
    "TextArenaEnv",
    "blackjack",
    "crosswords",
    "frozen_lake",
    "frozen_lake_hardcore",
    "guess_the_number",
    "guess_the_number_hardcore",
    "lights_out",
    "logic_puzzle",
    "mastermind",
    "mastermind_hard",
    "minesweeper",
    "minesweeper_small",
    "rush_hour",
    "secretary",
    "set",
    "slitherlink",
    "sokoban",
    "sudoku",
    "sudoku_medium",
    "sudoku_very_easy",
    "three_card_monte",
    "tiles_mega_easy",
    "tiles_ultra_easy",
]
