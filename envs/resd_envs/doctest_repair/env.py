"""Repair mutated functions of an installed library: tasks, splits, prompts.

Functions are read in `library.py`, changed in `mutations.py` and graded in `verifier.py`. Which
changes make which function fail its examples is fixed in `mutants.json`, made by `make.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.files import reading
from resd_bench.sandbox import shared
from resd_bench.seeds import derive
from resd_bench.types import SPLITS, Dialect, Feedback, Split, Task
from resd_envs.doctest_repair.library import Function, functions
from resd_envs.doctest_repair.mutations import mutant
from resd_envs.doctest_repair.verifier import verify
from resd_envs.python_functions.answer import TAG
from resd_envs.python_functions.verifier import LIMITS, SLACK_SECONDS

PER_FUNCTION = 4
"""Tasks that a seed draws from the mutants of a function."""
SHARES: Mapping[Split, range] = {
    "train": range(0, 60),
    "validation": range(60, 75),
    "test": range(75, 100),
}
"""Hundredths of the hash of a function's name: a function is in one split, with every seed."""
FRAMES: Mapping[Dialect, str] = {
    "full": (
        "Somebody changed one thing in this Python function: an operator, a constant, a condition, "
        "the order of two arguments, or a statement that is missing now.\n\n```{tag}\n{mutant}\n"
        "```\n\nIts documentation, without the examples:\n\n{prose}\n\n{names}Repair it, and give "
        "the whole function in a block that begins with ```{tag}. The examples of its "
        "documentation are run with it."
    ),
    "compact": "{mutant}\nrepair",
}


class DoctestRepairEnv(TextEnv):
    """Repair a library function that one mutation has broken; its doctests are the hidden tests.

    ## Description
    Functions of more-itertools (MIT licence), each with one change that makes the examples of its
    documentation fail. The examples are run in the sandbox, and must show what the documentation
    says. Functions, not mutants, are split: 60% are for training, 15% for validation, 25% for
    tests. **Contamination**: the library has been public since 2012, and most language models
    have read it; they may know a function by its name and write it from memory.

    ## Action Space
    Any string (`Utf8Text`). The program is the last fenced block that defines the function.

    ## Observation Space
    Any string (`Utf8Text`). First the changed function and its documentation without examples
    (`full`), or the function alone (`compact`); last the feedback.

    ## Rewards
    1 if every example shows what it should, else 0. `info["score"]` is the share that does, which
    the changed function itself often has above 0.

    ## Episode End
    After one action.

    ## Information
    `task_id`, `split`, `feedback_level`; after the action `feedback`, `success`, `score`,
    `stop_reason`. Feedback: 2 the number of examples that are right and the kind of failure
    (`wrong_output`, `exception`, `syntax_error`, `timeout`, `memory`, `forbidden`, `bad_output`,
    `missing_answer`, `too_long`), 3 up to two examples that fail, with what they showed or the
    exception that they ended in, 4 what they should show, 5 the original.

    ## Arguments
    - `dialect`: `full` or `compact`.
    - `feedback_level`: 0 to 5.
    - `seed`: draws other mutants; a function is in the same split with every seed.

    ## Version History
    - v0: first version, from more-itertools 11.2.1; since then without `dft` and `idft`, whose
      examples a function that returns nothing passes.
    """

    name = "doctest-repair"
    verify_seconds = LIMITS.total_wall + SLACK_SECONDS
    concurrent = True

    def __init__(
        self, *, dialect: Dialect = "full", feedback_level: int = 3, seed: int = 0
    ) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        if type(seed) is not int or seed < 0:
            raise UsageError(f"seed {seed!r}: give a whole number of at least 0")
        self._functions = functions()
        # A machine that cannot grade answers should say so before any is sampled.
        shared()
        self.seed = seed
        self._tasks = self.shared_tasks(seed)

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of `split`, with the functions mixed."""
        if split not in self._tasks:
            drawn = [
                (name, number)
                for name, numbers in listed().items()
                if split_of(name) == split
                for number in self._draw(name, numbers)
            ]
            drawn.sort(key=lambda pair: derive(self.seed, "order", *map(str, pair)))
            self._tasks[split] = tuple(self._task(split, *pair) for pair in drawn)
        return self._tasks[split]

    def _draw(self, name: str, numbers: Sequence[int]) -> list[int]:
        def chance(number: int) -> int:
            return derive(self.seed, "mutant", name, str(number))

        return sorted(numbers, key=chance)[:PER_FUNCTION]

    def _task(self, split: Split, name: str, number: int) -> Task:
        function = self._functions[name]
        prompt = FRAMES[self.dialect].format(
            mutant=mutant(function.source, number),
            prose=function.prose,
            names=f"Its module also defines {', '.join(function.names)}. "
            if function.names
            else "",
            tag=TAG,
        )
        return Task(f"{self.name}/{split}/{name}-{number}", split, prompt, {"function": function})

    def verify(self, task: Task, action: str) -> Feedback:
        """Run the answer on every example."""
        return verify(action, task.data["function"], dialect=self.dialect)

    def oracle(self, task: Task) -> str:
        """The original, without its docstring."""
        function: Function = task.data["function"]
        return f"```{TAG}\n{function.source}\n```"


@cache
def listed() -> Mapping[str, Sequence[int]]:
    """The mutants that fail, by function."""
    path = Path(__file__).with_name("mutants.json")
    found: Mapping[str, Sequence[int]] = reading.parse_json(reading.read_text(path))["mutants"]
    return found


def split_of(name: str) -> Split:
    """The split of a function."""
    share = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100
    return next(split for split in SPLITS if share in SHARES[split])
