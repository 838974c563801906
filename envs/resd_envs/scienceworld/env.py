"""ScienceWorld as an environment of several turns: prompts, commands, verdicts.

Tasks are in `tasks.py`, playing one is in `engine.py`, and the wording of the compact dialect is in
`brief.py`. The package (Wang et al. 2022, arXiv 2203.07540) is an extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files

from resd_bench.env import Reply, TextEnv
from resd_bench.errors import UsageError
from resd_bench.types import CaseResult, Dialect, Feedback, FeedbackLevel, Split, Task
from resd_envs.games.packages import SCIENCEWORLD, require
from resd_envs.games.record import REPLIES, CommandOutcome, Record, read_printable_command
from resd_envs.scienceworld.brief import brief
from resd_envs.scienceworld.engine import Engine, GameState
from resd_envs.scienceworld.tasks import (
    EASY,
    Variation,
    find_tasks,
    read_simplifications,
    turns_of,
    variations,
)

_COMMANDS = (
    "activate THING",
    "close THING",
    "connect THING to THING",
    "deactivate THING",
    "disconnect THING",
    "dunk THING in THING",
    "eat THING",
    "flush THING",
    "focus on THING",
    "go to PLACE",
    "inventory",
    "look around",
    "look at THING",
    "look in THING",
    "mix THING",
    "move THING to THING",
    "objects",
    "open THING",
    "pick up THING",
    "pour THING in THING",
    "put down THING",
    "read THING",
    "task",
    "use THING on THING",
    "wait",
    "wait1",
)
"""The game's commands, as the manual lists them; `wait` is ten steps of time, `wait1` one."""
TELEPORT = "teleport to PLACE"
ALSO = ("consume", "drop", "examine", "focus", "get", "look", "put", "reset", "stir", "take")
"""Further verbs that the game accepts."""
VERBS = frozenset({*(c.split()[0] for c in (*_COMMANDS, TELEPORT)), *ALSO, "turn", "walk"})


class ScienceWorldEnv(TextEnv):
    """Do a task of elementary school science in a simulated world of rooms and things.

    ## Description
    Thirty tasks, from finding an animal to breeding peas, each in many variations: which substance,
    which room, what is where. Tiers by how many commands the game's own solutions take: `easy`
    (at most 16: find things and living beings, life spans and life stages, simple circuits),
    `medium` (about 30: chemistry, thermometers, conductivity, growing a plant) and `hard` (up to
    200: states of matter, growing fruit, inclined planes, genetics). Splits are the package's,
    evenly spread over the variations of each task; no variation is in two of them. Needs Java. The
    package itself may answer the same commands differently from one time to the next; here it does
    not (`engine.py`).

    ## Action Space
    Any string (`Utf8Text`). The command is its last line that is not blank. If it does not begin
    with a verb of the game, or is not printable ASCII, it has no effect.

    ## Observation Space
    Any string (`Utf8Text`). `full`: the rules and the task, then what the game says. `compact`: the
    same in fewer words, e.g. `hallway : picture , door to kitchen closed`. If an answer is not a
    command, or the game does not understand it, the observation says so. Last the feedback.

    ## Rewards
    1 for a task that is done, else 0; nothing in between. `info["score"]` is the largest share of
    its required subgoals that was reached.

    ## Episode End
    When the task is done, or lost by focusing on a wrong thing; truncated when the commands are
    used up.

    ## Information
    `task_id`, `split`, `feedback_level`; at the end `feedback`, `success`, `score`, `stop_reason`.
    Feedback: 2 how many required subgoals were reached and the class of failure (`nothing_done`,
    `turn_limit`, `lost`); 3 the subgoals that were reached and what went wrong: what was not
    understood, not possible or said again and again, what brought progress, the last commands; 4
    also the next required subgoal; 5 commands that do it.

    ## Arguments
    - `dialect`: `full` or `compact`.
    - `feedback_level`: 0 to 5. The game's texts between turns do not depend on it.
    - `tasks`: `easy`, `medium`, `hard`, `all`, or the name of one task, such as `boil`.
    - `simplifications`: the game's, with commas between them; `easy` is its preset (doors are
      open, `teleport to` leads anywhere), "" is none.

    ## Version History
    - v0: first version, of ScienceWorld 1.2.
    """

    name = "scienceworld-easy"
    max_turns = 100
    answer_in_prompt = True
    """The task itself names its first subgoals: "First, focus on the substance"."""
    isolated = True
    """A game that hangs can be ended only with its process."""

    def __init__(
        self,
        *,
        dialect: Dialect = "full",
        feedback_level: int = 3,
        tasks: str = "easy",
        simplifications: str = EASY,
    ) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        self.chosen = find_tasks(tasks)
        self.simplifications = read_simplifications(simplifications)
        require(SCIENCEWORLD)
        # One class serves all tiers, so these belong to the instance.
        self.name = f"scienceworld-{tasks}"
        self.max_turns = turns_of(self.chosen)  # type: ignore[misc]
        self._engine: Engine | None = None
        self._state = GameState("")
        self._record = Record()
        self._best = 0

    def tasks(self, split: Split) -> Sequence[Task]:
        """Variations of the chosen tasks, which do not have to be loaded for this."""
        return _tasks(self.name, self.chosen, self.simplifications, split, self.dialect)

    @property
    def engine(self) -> Engine:
        """Plays the task at hand; made when it is first needed."""
        if self._engine is None:
            self._engine = Engine()
        return self._engine

    def opening(self, task: Task) -> str:
        """The rules, the task and the first scene."""
        self._state = self.engine.start(_variation(task))
        self._record, self._best = Record(), 0
        description = self.engine.description
        if self.dialect == "compact":
            return f"{task.prompt}\n{brief(description)}\n{brief(self._state.text)}"
        return "\n\n".join([task.prompt, description, self._state.text])

    def reply(self, task: Task, action: str) -> Reply:
        """Do what the answer commands, if the game accepts it."""
        said = read_printable_command(action)
        # A question of the game may be answered with a number or with nothing.
        if not self._state.asks and said.partition(" ")[0] not in VERBS:
            outcome = CommandOutcome.NOT_UNDERSTOOD if said else CommandOutcome.NO_COMMAND
            self._record.note(said, outcome)
            turn = self._record.last_turn(self.dialect)
            return Reply(REPLIES[self.dialect][outcome], turn=turn)
        state = self._state = self.engine.act(said)
        outcome = CommandOutcome.NOT_POSSIBLE if state.unknown else CommandOutcome.DONE
        reached = self.engine.progress().reached
        self._record.note(said, outcome, state.text, progress=reached > self._best)
        self._best = max(self._best, reached)
        turn = self._record.last_turn(self.dialect)
        if state.won:
            return Reply(feedback=self._success(), turn=turn)
        if state.lost:
            return Reply(feedback=self._failure(task, "lost"), turn=turn)
        told = brief(state.text) if self.dialect == "compact" else state.text
        return Reply(told, turn=turn)

    def give_up(self, task: Task) -> Feedback:
        """The verdict when the commands are used up."""
        return self._failure(task, self._record.failure)

    def _success(self) -> Feedback:
        parts = self.engine.progress().required
        cases = tuple(CaseResult(f"subgoal {n + 1}", True, "pass") for n in range(len(parts)))
        return Feedback(1.0, True, 1.0, cases)

    def _failure(self, task: Task, kind: str) -> Feedback:
        """The verdict on a failure; the first unreached subgoal says what happened."""
        progress = self.engine.progress()
        passed = min(self._best, len(progress.required) - 1)
        reached = [p.what for p in (*progress.required[:passed], *progress.helpful) if p.reached]
        told = self._record.report(self.dialect, lost=kind == "lost")
        report = "\n".join([*_listed(reached, self.dialect), told])
        cases = [
            CaseResult(f"subgoal {n + 1}", n < passed, "pass" if n < passed else kind)
            for n in range(len(progress.required))
        ]
        right = progress.required[passed].what
        cases[passed] = CaseResult(f"subgoal {passed + 1}", False, kind, report, right)
        solution = self.oracle(task) if self.feedback_level >= FeedbackLevel.SOLUTION else ""
        score = passed / len(cases)
        return Feedback(0.0, False, score, tuple(cases), "", kind, (passed,), solution)

    def oracle(self, task: Task) -> str:
        """Commands that solve it, one per line; they are played line by line."""
        return "\n".join(find_solution(_variation(task)))


def _listed(reached: Sequence[str], dialect: Dialect) -> list[str]:
    if not reached:
        return []
    if dialect == "compact":
        return [f"reached : {' , '.join(reached)}"]
    return [f"Reached: {'; '.join(reached)}."]


@cache
def find_solution(variation: Variation) -> tuple[str, ...]:
    """Commands that solve a task, found once per process."""
    return Engine().find_solution(variation)


def _variation(task: Task) -> Variation:
    return Variation(**task.data)


@cache
def _tasks(
    name: str, chosen: tuple[str, ...], simplifications: str, split: Split, dialect: Dialect
) -> tuple[Task, ...]:
    turns = turns_of(chosen)
    prompt = "science" if dialect == "compact" else _manual(simplifications, turns)
    return tuple(
        Task(f"{name}/{split}/{one.task}-{one.number}", split, prompt, asdict(one))
        for one in variations(chosen, simplifications, split)
    )


def _manual(simplifications: str, turns: int) -> str:
    """The rules in the full dialect."""
    folder = files("resd_envs.scienceworld")
    text = folder.joinpath("prompts/full.md").read_text(encoding="utf-8")
    teleports = simplifications == EASY or "teleportAction" in simplifications.split(",")
    commands = [*_COMMANDS, *([TELEPORT] if teleports else [])]
    fields = {"{commands}": ", ".join(f"`{c}`" for c in commands), "{turns}": str(turns)}
    for name, value in fields.items():
        if text.count(name) != 1:
            raise UsageError(f"prompts/full.md must hold the field {name} exactly once")
        text = text.replace(name, value)
    return text.strip()
