"""Whatever reads a model's text in the parent takes time linear in its length.

A regular expression that does not would hold the interpreter, so that no deadline helps.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import resd_envs.ifeval
from resd_baselines import parse_replies, playbook
from resd_bench import parsing
from resd_envs import guess_number, reasoning_gym
from resd_envs.finer.scoring import score
from resd_envs.ifeval.check import check
from resd_envs.manufactoria.env import ManufactoriaHasEnv
from resd_envs.textworld import commands
from resd_envs.textworld.engine import Engine
from tests.growth import assert_linear

BEFORE = ("", '"', "<think>", "[")
PIECES = (
    *(" ", "\t", "\n", " \n", "\n ", "\r", "a", "_", "a ", " a", "A.", "é", "\u0905\u0902"),
    *("`", "```", "```\n", "```python\n", "```json", "```json\n{"),
    *("<think>", "</think>", "</think> ", "<answer>", "</answer>", "<answer>a", "<<", ">>"),
    *("*", "**", "* ", "*a", "***", "*** ", "\n>", "#", "#a\n", "-", "- "),
    *("[", "]", "{", "}", '{"', '"', "\\", '\\"', '"\\', '"id": "', '"id":"abc-00001",'),
    *('"tag": "', "cause : ", "add: x\n", "[a] helpful=1 harmful=0 :: ", "[a]helpful="),
    *("1", "9", "0x", "1e5", "1,", "a,", ",", ".", ") ", "(", "^", "**2", "1\n"),
    *("NEXT ", "    NEXT a\n", "    [R] a\n", "START a:\n", "PULLER_RB a:\n    [R] a\n"),
    *("PAINTER_RED a:\n    NEXT a\n", "END end\n", "the ", "p. ", "P.S.", "Section 1", "e.g. "),
    *("n't ", "'", "?", "!", "(a)", "the the "),
)

FINER = "<answer>{}</answer>"
FENCED = "```manufactoria\n{}\n```"
BEGUN = "```manufactoria\nSTART start:\n    NEXT end\n{}\nEND end\n```"


def _ifeval() -> dict[str, Any]:
    """Every kind of instruction once."""
    path = Path(str(resd_envs.ifeval.__file__)).parent / "data/ifeval_100.jsonl"
    kinds: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        kinds |= dict(zip(item["instruction_ids"], item["kwargs"], strict=True))
    return {"instruction_ids": list(kinds), "kwargs": list(kinds.values())}


def _manufactoria(frame: str) -> Callable[[str], object]:
    env = ManufactoriaHasEnv()
    task = env.tasks("test")[0]
    return lambda text: env.verify(task, frame.format(text) if frame else text)


def _told(text: str) -> str:
    """What an engine makes of what its interpreter says."""

    class Interpreter:
        def step(self, command: str) -> tuple[str]:
            return (text,)

    player = object.__new__(Engine)
    player._interpreter = Interpreter()
    return player._tell("look")


READERS: dict[str, Callable[[], Callable[[str], object]]] = {
    "the last block": lambda: lambda text: parsing.last_code_block(text, "python"),
    "the last answer": lambda: parsing.last_answer_tag,
    "text without reasoning": lambda: parsing.without_reasoning,
    "JSON in a text": lambda: parse_replies.extract_json,
    "tags": lambda: parse_replies.parse_bullet_tags,
    "a reflection": lambda: parse_replies.parse_reflection,
    "a compact reflection": lambda: (
        lambda text: parse_replies.parse_compact_reflection(text, {1: "a"})
    ),
    "compact tags": lambda: lambda text: parse_replies.parse_compact_tags(text, {1: "a"}),
    "a compact curation": lambda: parse_replies.parse_compact_curation,
    "a playbook": lambda: playbook.Playbook.parse,
    "FiNER": lambda: lambda text: score(FINER.format(text), "a,b,c,d"),
    "FiNER numbers": lambda: lambda text: score(FINER.format(text), "1,2"),
    "a guess": lambda: guess_number.read_guess,
    "a text": lambda: _manufactoria(""),
    "a factory": lambda: _manufactoria(FENCED),
    "the middle of a factory": lambda: _manufactoria(BEGUN),
    "a command": lambda: lambda text: commands.plainer(commands.read_command(text)),
    "what a game tells": lambda: _told,
    "a puzzle's answer": lambda: (
        lambda text: [reasoning_gym.is_harmless(text, d) for d in ("n_queens", "countdown", "x")]
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_reading_any_text_takes_linear_time(name: str) -> None:
    work = READERS[name]()
    for before in BEFORE:
        for piece in PIECES:

            def make(size: int, before: str = before, piece: str = piece) -> str:
                return before + piece * (size // len(piece))

            assert_linear(work, make, 1 << 16, f"{name} of {before + piece!r}", 1 << 12)


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", '"'])
def test_checking_instructions_takes_linear_time(before: str) -> None:
    prompt = _ifeval()
    for piece in PIECES:

        def make(size: int, piece: str = piece) -> str:
            return before + piece * (size // len(piece))

        assert_linear(lambda text: check(prompt, text), make, 1 << 14, before + piece, 1 << 12)


@pytest.mark.parametrize(
    ("told", "tidy"),
    [
        ("You see a coin.\n\n\n \n\nIt is here.\n> at 3", "You see a coin.\n\nIt is here."),
        ("  a\n \t\n  b\n\n", "a\n\n  b"),
        ("won\n\n   *** The End ***\n\nscore", "won"),
        ("a *** b", "a"),
        ("a\nb", "a\nb"),
        ("\n>\n", ""),
    ],
)
def test_what_a_game_tells_is_tidied(told: str, tidy: str) -> None:
    assert _told(told) == tidy
