"""`envs info`: an environment as a page: docstring, tasks, prompts, feedback by level."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from resd_bench import plugins
from resd_bench.commands.shared import EnvSets, Name, open_env, options
from resd_bench.files.printable import printable
from resd_bench.files.terminal import out
from resd_bench.types import SPLITS, Dialect, Feedback, Task

if TYPE_CHECKING:
    from resd_bench.env import TextEnv

_DIALECTS: tuple[Dialect, ...] = ("full", "compact")
WRONG = "I do not know."
"""The answer whose failure is shown."""


def info(name: Name, sets: EnvSets = None) -> None:
    """Describe an environment: docstring, tasks, prompts, feedback."""
    open_env(name, sets)
    for part in describe(name, **options(sets, "env")):
        out().print(part + "\n", soft_wrap=True)


def describe(name: str, **options: Any) -> Iterator[str]:
    """The page of an installed environment, part by part, in Markdown."""
    from resd_bench.records.manifest import panel_hash
    from resd_bench.rollout.contract import checked_reset, checked_tasks

    full = plugins.make_env(name, dialect="full", **options)
    yield f"# {name} ({plugins.gym_id(name)})\n\n{inspect.getdoc(type(full)) or 'No docstring.'}"
    tasks = {split: checked_tasks(full, split) for split in SPLITS}
    sizes = ", ".join(f"{split} {len(tasks[split])}" for split in SPLITS)
    digest = panel_hash(task for split in SPLITS for task in tasks[split])
    yield f"## Tasks\n{sizes}; turns: at most {full.max_turns}\n\npanel {digest}"
    for dialect in _DIALECTS:
        env = plugins.make_env(name, dialect=dialect, **options)
        observation, info = checked_reset(env, env.reset(seed=0))
        yield f"## Prompt, {dialect} ({info['task_id']})\n{printable(observation)}"
    task = tasks["train"][0]
    yield f"## Feedback on {WRONG!r} ({task.id})\n" + "\n".join(_ladder(name, task, options))


def _ladder(name: str, task: Task, options: dict[str, Any]) -> Iterator[str]:
    for level in range(6):
        env = plugins.make_env(name, feedback_level=level, **options)
        text = printable(_fail(env, task).text)
        yield f"{level}: " + (text.replace("\n", "\n   ") or "(nothing)")


def _fail(env: TextEnv, task: Task) -> Feedback:
    from resd_bench.rollout.contract import checked_step

    env.reset(seed=0, options={"task": task.id, "split": task.split})
    while True:
        answer = checked_step(env, env.step(WRONG))
        if answer.over or answer.cut:
            feedback: Feedback = answer.info["feedback"]
            return feedback
