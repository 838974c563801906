"""`envs play`: let a person play an environment in the terminal.

An answer is any number of lines, ended by a line that is a single dot, or by the end of the input
(Ctrl-D). Works with piped input too. Left out: line editing beyond what the terminal offers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from resd_bench.commands.shared import (
    DialectFlag,
    EnvSets,
    LevelOption,
    Name,
    SplitFlag,
    open_env,
    read_split,
)
from resd_bench.errors import UsageError
from resd_bench.files.printable import printable
from resd_bench.seeds import stream
from resd_bench.types import Feedback, Task

if TYPE_CHECKING:
    from resd_bench.env import TextEnv

DOT = "."
RULER = "-" * 72


def play_command(
    name: Name,
    task: Annotated[
        str | None, typer.Option(metavar="ID", help="Play only the task with this id.")
    ] = None,
    split: SplitFlag = "train",
    seed: Annotated[int, typer.Option(metavar="INT", help="Seed of the order of tasks.")] = 0,
    dialect: DialectFlag = "full",
    level: LevelOption = 3,
    sets: EnvSets = None,
) -> None:
    """Play an environment yourself, in the terminal.

    A line that is a single dot, or Ctrl-D, ends an answer.
    """
    env = open_env(name, sets, dialect=dialect, feedback_level=level)
    play(env, _to_play(env, task, split, seed), sys.stdin, sys.stdout)


def _to_play(env: TextEnv, task: str | None, split: str, seed: int) -> Iterator[Task]:
    from resd_bench.rollout.contract import checked_tasks

    if task is not None:
        try:
            yield env.find(task)
        except KeyError as error:
            raise UsageError(f"{error.args[0]}; without --task any is played") from None
        return
    tasks = checked_tasks(env, read_split(split))
    for place in stream(seed, "play").permutation(len(tasks)):
        yield tasks[int(place)]


@dataclass(frozen=True, slots=True)
class Played:
    """How a session went."""

    episodes: int = 0
    solved: int = 0


def play(env: TextEnv, tasks: Iterable[Task], given: TextIO, out: TextIO) -> Played:
    """Pose tasks until there are no more, the player has enough, or the input ends."""
    played = Played()
    for task in tasks:
        feedback = play_one(env, task, given, out)
        if feedback is None:
            break
        played = Played(played.episodes + 1, played.solved + feedback.success)
        _say(out, f"{RULER}\nanother task? [y/N] ", end="")
        if not given.readline().strip().lower().startswith("y"):
            break
    _say(out, f"\nsolved {played.solved} of {played.episodes}")
    return played


def play_one(env: TextEnv, task: Task, given: TextIO, out: TextIO) -> Feedback | None:
    """One episode; None where the input ended before a verdict."""
    from resd_bench.rollout.contract import checked_reset, checked_step

    asked = {"task": task.id, "split": task.split}
    observation, info = checked_reset(env, env.reset(options=asked))
    _say(out, f"{RULER}\ntask {task.id}, turns: at most {env.max_turns}\n{RULER}")
    turn, over = 0, False
    while not over:
        turn += 1
        _say(out, f"{observation}\n{RULER}\nturn {turn}; end the answer with a line of one dot:")
        answer = read_answer(given)
        if answer is None:
            return None
        told = checked_step(env, env.step(answer))
        observation, info, over = told.observation, told.info, told.over or told.cut
    return _verdict(info, out)


def _verdict(info: Mapping[str, Any], out: TextIO) -> Feedback:
    feedback: Feedback = info["feedback"]
    word = "solved" if feedback.success else "not solved"
    _say(out, f"{RULER}\n{word}, score {feedback.score:.2f}\n{feedback.text}")
    return feedback


def read_answer(given: TextIO) -> str | None:
    """Lines up to a single dot or the end of input; None where there is nothing but the end."""
    lines: list[str] = []
    while line := given.readline():
        if line.rstrip("\r\n") == DOT:
            return "\n".join(lines)
        lines.append(line.rstrip("\n"))
    return "\n".join(lines) if lines else None


def _say(out: TextIO, text: str, end: str = "\n") -> None:
    out.write(printable(text) + end)
    out.flush()
