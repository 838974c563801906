"""Make games with TextWorld: `python -m` this module, one line of JSON in and out per request.

It runs in a separate process with a fixed hash seed, so that a game is the same everywhere. Loading
TextWorld and its grammars takes longer than making most games, so the process serves as long as
there are requests. Objectives are reworded, since TextWorld's give the way to the goal.
"""

from __future__ import annotations

import json
import os
import select
import tempfile
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import textworld
from textworld.challenges import CHALLENGES
from textworld.challenges.tw_coin_collector.coin_collector import KB_PATH
from textworld.envs.tw import TextWorldEnv
from textworld.generator.data import KnowledgeBase
from textworld.generator.game import Event, GameOptions, Quest

from resd_envs.textworld.games import sealed
from resd_envs.textworld.maze import OPPOSITE, from_content

IDLE_SECONDS = 60.0
"""The process ends after this long without a request, because it holds a hundred megabytes."""
TAIL_CHARS = 600

_OBJECTIVES = {
    "coin": "Find the coin and take it.",
    "treasure": "Find the {goal} and take it. Taking the wrong thing loses the game.",
    "cooking": "Find the cookbook in the kitchen, prepare the meal it describes, and eat it.",
}


def make_game(order: Mapping[str, Any]) -> Any:
    """The game of an order, with `goal` and `walkthrough` among its metadata."""
    options = GameOptions()
    options.seeds = order["seed"]
    if order["family"] == "coin":
        game = _coin_collector(order["maze"], options)
    else:
        challenge = {"treasure": "tw-treasure_hunter", "cooking": "tw-cooking"}[order["family"]]
        game = CHALLENGES[challenge][1](dict(order["settings"]), options)
    game.metadata["walkthrough"] = list(game.walkthrough)
    game.metadata["goal"] = "" if order["family"] == "cooking" else _taken(game.walkthrough[-1])
    game.objective = _OBJECTIVES[order["family"]].format(goal=game.metadata["goal"])
    return game


def _taken(command: str) -> str:
    """The things that a command takes."""
    return command.removeprefix("take ").partition(" from ")[0]


@cache
def _coin_rules() -> Any:
    return KnowledgeBase.load(KB_PATH)


def _coin_collector(content: list[str], options: Any) -> Any:
    """A coin collector on the given map."""
    maze = from_content(content)
    options.kb = _coin_rules()
    options.grammar.allowed_variables_numbering = True
    maker = textworld.GameMaker(options)
    rooms = [maker.new_room(name) for name in maze.names]
    for a, direction, b in maze.doors:
        maker.connect(rooms[a].exits[direction], rooms[b].exits[OPPOSITE[direction]])
    maker.set_player(rooms[0])
    coin = maker.new(type="o", name="coin")
    rooms[maze.coin].add(coin)
    taken = Event(conditions={maker.new_fact("in", coin, maker.inventory)})
    maker.quests = [Quest(win_events=[taken])]
    walkthrough = [*(f"go {direction}" for direction in maze.route), "take coin"]
    game = maker.build()
    event = game.quests[0].win_events[0]
    event.actions, event.commands = _actions(game, walkthrough), walkthrough
    game.metadata["walkthrough"] = walkthrough
    return game


def _actions(game: Any, walkthrough: list[str]) -> list[Any]:
    """The actions behind commands; TextWorld measures progress by them."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "game.json")
        game.save(path)
        player = TextWorldEnv(textworld.EnvInfos())
        player.load(path)
        player.reset()
        return [player.step(command)[0]["_last_action"] for command in walkthrough]


def write(order: Mapping[str, Any], folder: Path, story: bool) -> None:
    """Put the files of a game into `folder`, each complete or not at all."""
    state_file, story_file = (folder / f"{order['name']}{suffix}" for suffix in (".json", ".z8"))
    with tempfile.TemporaryDirectory(dir=folder, prefix="making-") as own:
        state, told = Path(own) / "game.json", Path(own) / "game.z8"
        game = make_game(order)
        game.save(str(state))
        if story:
            options = GameOptions()
            options.path, options.force_recompile = str(told), True
            textworld.generator.compile_game(game, options)
        state.write_bytes(sealed(state.read_bytes()))
        os.replace(state, state_file)
        if story:
            os.replace(told, story_file)


def answer(line: str) -> dict[str, str]:
    """Make what a line asks for; returns what went wrong, if anything did."""
    asked = json.loads(line)
    try:
        for order in asked["orders"]:
            write(order, Path(asked["folder"]), asked["story"])
    except Exception:
        return {"failed": traceback.format_exc().strip()[-TAIL_CHARS:]}
    return {}


def main() -> None:
    """Serve requests until standard input ends or there are no more requests."""
    # What TextWorld and its compilers print must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # Unbuffered, because `select` would not see a request in a buffer.
    with open(0, "rb", buffering=0, closefd=False) as requests:
        while select.select([requests], [], [], IDLE_SECONDS)[0]:
            line = requests.readline()
            if not line:
                return
            answers.write(json.dumps(answer(line.decode("utf-8"))) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
