"""Text games as a multi-turn environment: prompts, tiers, verdicts.

Games are in `games.py`, playing one is in `engine.py`, and the report on a failure is in
`journal.py`. TextWorld itself (Côté et al. 2018, arXiv 1806.11532) is an extra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from resd_bench.env import Reply, TextEnv
from resd_bench.errors import UsageError
from resd_bench.types import CaseResult, Dialect, Feedback, Split, Task, was_cut_off
from resd_envs.textworld.commands import failure, read_command, resolve_command
from resd_envs.textworld.engine import Engine
from resd_envs.textworld.games import (
    TIERS,
    Family,
    Level,
    Recipe,
    Tier,
    make_games,
    read_walkthrough,
    recipes,
    require_textworld,
)
from resd_envs.textworld.journal import SAYS, Journal, Outcome, Scene

_OBJECTIVES: Mapping[Family, str] = {
    "coin": "Somewhere there is a coin: find it and take it.",
    "treasure": "Find the thing you are told to find, and take it. Taking the wrong one loses.",
    "cooking": (
        "Find the cookbook in the kitchen, read it with `examine cookbook`, prepare the meal it "
        "describes with `prepare meal` in the kitchen, and eat it. Spoiling an ingredient loses."
    ),
}
COMPACT: Mapping[Family, str] = {
    "coin": "find coin",
    "treasure": "find treasure",
    "cooking": "cook and eat",
}
_VERBS: Mapping[Family, str] = {
    "coin": "drop, examine, go, inventory, look, take",
    "treasure": "close, drop, examine, go, insert, inventory, lock, look, open, put, take, unlock",
    "cooking": (
        "chop, close, cook, dice, drop, eat, examine, go, insert, inventory, look, open, "
        "prepare, put, slice, take"
    ),
}
"""Verbs of a family, for the prompt; a single game may lack some."""


class TextWorldEnv(TextEnv):
    """Play a text game made by TextWorld, told in words, and win it.

    ## Description
    Three families. `coin` (coin collector): a house of rooms with a coin in one of them, a route to
    it and dead ends off the route. `treasure` (treasure hunter): the thing to take is named and is
    among furniture, perhaps in a container; there is a wrong one that loses the game. `cooking`:
    read the recipe in the kitchen, gather, cook and cut the ingredients as it says, prepare the
    meal and eat it; burning or miscutting an ingredient loses. Games are made once and kept in
    `~/.cache/resd-bench` or the folder that `RESD_BENCH_CACHE` names. 128 train, 32 validation and
    64 test games per tier; coin collectors are disjoint by their maps, cooking games by foods and
    ways to prepare them, treasure hunts by their seeds.

    ## Action Space
    Any string (`Utf8Text`). The command is its last line that is not blank. `full` also takes usual
    synonyms (`get coin`, `n`); `compact` requires commands word for word. Only commands that the
    game allows ever reach its interpreter.

    ## Observation Space
    Any string (`Utf8Text`). `full`: the rules and the objective, then TextWorld's text. `compact`:
    one line with the room, what is in it, which exits are new, done and lead back, and closed
    doors, e.g. `study , coin , new north , done east , back south`; after an answer it begins with
    the outcome. Last the feedback.

    ## Rewards
    1 for winning, else 0; nothing in between. `info["score"]` is the largest fraction of the quest
    that was done, by the length of what TextWorld knows was left to do. Coins can be found by
    walking blindly: the best fixed sequence of commands finds up to 31% of them in the `easy`
    games, 13% in `medium` and 6% in `hard` ones. Where commands are listed (`admissible`), exits at
    random, and `take` once it is listed, find more.

    ## Episode End
    When the game is won or lost; truncated when the commands are used up.

    ## Information
    `task_id`, `split`, `feedback_level`; at the end `feedback`, `success`, `score`, `stop_reason`.
    Feedback: 2 how many steps of the quest were made and the class of failure (`nothing_done`,
    `not_taken`, `not_found`, `turn_limit`, `lost`); 3 what went wrong: commands that were not
    understood or had no effect, exits left untried, dead ends entered again, the last rooms; 4 also
    the next command that would have been right; 5 a walkthrough. After each step `turn` says
    whether the command was `invalid`, `wasted` because it only looked at what had been told, or
    `changed` anything, and at level 3 what was wrong with it.

    ## Arguments
    - `dialect`: `full` or `compact`.
    - `feedback_level`: 0 to 5. The game's texts between turns do not depend on it.
    - `family`: `coin`, `treasure` or `cooking`.
    - `level`: `easy`, `medium` or `hard`.
    - `admissible`: whether each observation lists the commands that are possible.

    ## Version History
    - v0: first version.
    """

    name = "textworld-coin"
    verify_seconds = 30.0
    max_turns = 60

    def __init__(
        self,
        *,
        dialect: Dialect = "full",
        feedback_level: int = 3,
        family: Family = "coin",
        level: Level = "medium",
        admissible: bool = False,
    ) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        if (family, level) not in TIERS:
            raise UsageError(
                f"there is no game {family!r} of level {level!r}: give family coin, treasure or "
                "cooking and level easy, medium or hard"
            )
        require_textworld()
        self.tier: Tier = TIERS[family, level]
        self.admissible = admissible
        # One class serves all tiers, so these belong to the instance.
        self.name = f"textworld-{family}" + ("" if level == "medium" else f"-{level}")
        self.max_turns = self.tier.turns  # type: ignore[misc]
        self._engine: Engine | None = None
        self._journal = Journal(Scene("", ()))
        self._steps = self._best = 0

    def tasks(self, split: Split) -> Sequence[Task]:
        """The games of `split`, which do not have to be made for this."""
        return _tasks(self.name, self.tier.family, self.tier.level, split, self.dialect)

    def files_of(self, tasks: Sequence[Task]) -> Sequence[Path]:
        """The games; all missing ones are made together."""
        made, story = [_recipe(task) for task in tasks], self.dialect == "full"
        make_games(made, story=story)
        return [path for r in made for path in (r.state_file, *[r.story_file] * story)]

    @property
    def engine(self) -> Engine:
        """Plays the game at hand; made when it is first needed."""
        if self._engine is None:
            self._engine = Engine(story=self.dialect == "full")
        return self._engine

    def opening(self, task: Task) -> str:
        """The rules, the objective of this game and the first scene."""
        engine = self.engine
        story = engine.start(self._made(task, story=self.dialect == "full"))
        self._journal = Journal(engine.scene(), engine.goal)
        self._steps, self._best = max(1, len(engine.remaining)), 0
        if self.dialect == "full":
            parts = [task.prompt, engine.objective, story]
            return "\n\n".join(parts) + self._possible()
        target = f" {engine.goal}" if self.tier.family == "treasure" else ""
        return f"{task.prompt}{target}\n{self._journal.compact()}" + self._possible()

    def _made(self, task: Task, *, story: bool) -> Recipe:
        """The game of a task, which is made if it is not in the cache."""
        recipe = _recipe(task)
        make_games([recipe], story=story)
        return recipe

    def reply(self, task: Task, action: str) -> Reply:
        """Do what the answer commands, if that is possible."""
        engine, said = self.engine, read_command(action)
        command = resolve_command(said, engine.commands, self.dialect)
        if command is None and was_cut_off(action):
            self._journal.note("", Outcome.CUT_OFF, self._journal.scene)
            return self._reply(Outcome.CUT_OFF, "")
        if command is None:
            outcome = failure(said, engine.verbs, self._journal.scene, self.dialect)
            self._journal.note(said, outcome, self._journal.scene)
            return self._reply(outcome, SAYS["full"].get(outcome, ""))
        told = engine.act(command)
        self._journal.note(command, Outcome.DONE, engine.scene())
        if engine.won:
            return Reply(feedback=self._success(), turn=self._journal.last_turn(self.dialect))
        if engine.lost:
            turn = self._journal.last_turn(self.dialect)
            return Reply(feedback=self._failure("lost"), turn=turn)
        self._best = max(self._best, self._steps - len(engine.remaining or [""] * self._steps))
        return self._reply(Outcome.DONE, told, command)

    def _reply(self, outcome: Outcome, story: str, command: str = "") -> Reply:
        turn = self._journal.last_turn(self.dialect)
        return Reply(self._told(outcome, story, command), turn=turn)

    def _told(self, outcome: Outcome, story: str, command: str = "") -> str:
        if self.dialect == "full":
            return story + self._possible()
        seen = ""
        if command == "inventory":
            seen = self.engine.carried()
        elif command.startswith("examine "):
            seen = self.engine.examined(command.removeprefix("examine "))
        return " , ".join(filter(None, [seen, self._journal.compact(outcome)])) + self._possible()

    def _possible(self) -> str:
        if not self.admissible:
            return ""
        commands = self.engine.commands
        if self.dialect == "compact":
            return "\ncan " + " , ".join(commands)
        return "\n\nYou can: " + ", ".join(commands)

    def give_up(self, task: Task) -> Feedback:
        """The verdict when the commands are used up."""
        return self._failure(self._journal.failure)

    def _success(self) -> Feedback:
        cases = tuple(CaseResult(f"step {n + 1}", True, "pass") for n in range(self._steps))
        return Feedback(1.0, True, 1.0, cases)

    def _failure(self, kind: str) -> Feedback:
        """The verdict on a failure; the first missing step of the quest says what happened."""
        report = self._journal.report(self.dialect, lost=kind == "lost")
        right = next(iter(self.engine.remaining), "")
        cases = [
            CaseResult(f"step {n + 1}", n < self._best, "pass" if n < self._best else kind)
            for n in range(self._steps)
        ]
        cases[self._best] = CaseResult(f"step {self._best + 1}", False, kind, report, right)
        walkthrough = "\n".join(self.engine.walkthrough)
        score = self._best / self._steps
        return Feedback(0.0, False, score, tuple(cases), "", kind, (self._best,), walkthrough)

    def oracle(self, task: Task) -> str:
        """The walkthrough, one command per line; it is played line by line."""
        return "\n".join(read_walkthrough(self._made(task, story=False)))


def _recipe(task: Task) -> Recipe:
    data = task.data
    return Recipe(data["family"], data["seed"], data["settings"], tuple(data["maze"]))


@cache
def _tasks(
    name: str, family: Family, level: Level, split: Split, dialect: Dialect
) -> tuple[Task, ...]:
    tier = TIERS[family, level]
    prompt = COMPACT[tier.family] if dialect == "compact" else _manual(tier)
    return tuple(
        Task(f"{name}/{split}/{number:03d}", split, prompt, recipe.order)
        for number, recipe in enumerate(recipes(tier, split))
    )


def _manual(tier: Tier) -> str:
    """The rules in the full dialect."""
    text = files("resd_envs.textworld").joinpath("prompts/full.md").read_text(encoding="utf-8")
    fields = {
        "{objective}": _OBJECTIVES[tier.family],
        "{verbs}": _VERBS[tier.family],
        "{turns}": str(tier.turns),
    }
    for name, value in fields.items():
        if text.count(name) != 1:
            raise UsageError(f"prompts/full.md must hold the field {name} exactly once")
        text = text.replace(name, value)
    return text.strip()
