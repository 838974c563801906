"""`show`: prompts, answers, verdicts, feedback and reflections of a run, as text to read.

Everything here was written by a model or an environment, and is shown as text that controls no
terminal. Left out: losses of single tokens, see `trace`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resd_bench.errors import UsageError, near_miss
from resd_bench.files.printable import printable
from resd_bench.files.terminal import page_text

if TYPE_CHECKING:
    from resd_bench.records.run_files import RunFiles

Row = Mapping[str, Any]
_WIDTH = 80
"""Columns where the output is not a terminal."""


def show(
    place: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder, or a file of `eval --out`.")
    ],
    task: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only tasks whose id contains this text."),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only attempts that failed.")] = False,
    training: Annotated[
        bool,
        typer.Option("--training", help="Show training rollouts, with what was reflected on them."),
    ] = False,
    evaluation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which evaluation: held-out (the default), validation, env:NAME, or what the "
            "model saw, such as playbook.",
        ),
    ] = None,
    update: Annotated[
        int | None,
        typer.Option(
            metavar="INT",
            help="The evaluation after this update (default: the last whose texts were kept); "
            "with --training the rollouts of this update (default: of all).",
        ),
    ] = None,
) -> None:
    """Read what a model answered, and what it was told.

    In a terminal the text opens in a pager.
    """
    if training and evaluation is not None:
        raise UsageError("--training and --evaluation were both given: give one of them")
    rows = trained_rows(place, update) if training else evaluated_rows(place, evaluation, update)
    found = [
        row
        for row in rows
        if (task is None or task in str(row["task"])) and not (failed and won(row))
    ]
    if not found:
        raise UsageError(_nothing(place, rows, task))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
    lost = sum(not won(row) for row in found)
    head = f"{len(found)} of {len(rows)} attempts shown, {lost} of them failed"
    page_text(chain([f"{head}\n\n"], (attempt_text(row, max(width, 20)) for row in found)))


def _nothing(place: Path, rows: Sequence[Row], task: str | None) -> str:
    tasks = dict.fromkeys(str(row["task"]) for row in rows)
    if task is not None and not any(task in name for name in tasks):
        return f"{place}: {near_miss('task', task, tasks)}"
    return f"{place}: no attempt failed there, of {len(rows)}: leave out --failed"


def won(row: Row) -> bool:
    """Whether an attempt succeeded; one without a verdict did not."""
    return row.get("success") in (1, True)


def evaluated_rows(place: Path, evaluation: str | None, update: int | None) -> list[Row]:
    """The answers of one evaluation; UsageError says which there are."""
    from resd_bench.records.run_files import HELD_OUT, RunFiles

    panel = evaluation or HELD_OUT
    rows = _rows_of_file(place) if place.is_file() else RunFiles.at(place).answers()
    if not rows and place.is_file():
        raise UsageError(f"{place} is empty: give a run folder, or rows that `eval --out` wrote")
    if not rows:
        raise UsageError(
            f"{place} holds no answers to held-out tasks (a kept or old record, or --keep-texts "
            "none): sample them again with `eval RUN --out answers.jsonl`, then `show "
            "answers.jsonl`; --training shows training rollouts"
        )
    named = [row for row in rows if row.get("panel", HELD_OUT) == panel]
    if not named:
        panels = dict.fromkeys(str(row.get("panel", HELD_OUT)) for row in rows)
        raise near_miss("evaluation", panel, panels)
    kept = sorted({row["update"] for row in named})
    wanted = kept[-1] if update is None else update
    if wanted not in kept:
        raise UsageError(
            f"{place} holds no answers after {wanted} updates: give --update "
            f"{' or '.join(map(str, kept))}; a run with --keep-texts all keeps those of every "
            "evaluation"
        )
    return [row for row in named if row["update"] == wanted]


def _rows_of_file(path: Path) -> list[Row]:
    from resd_bench.records.jsonl import COUNT, TEXT, check_fields, read_objects
    from resd_bench.records.run_files import check_said

    rows: list[Row] = []
    for line in read_objects(path, "give a run folder, or rows that `eval --out` wrote"):
        check_said(line)
        check_fields({"update": None} | line.row, {"task": TEXT, "update": COUNT}, line.where)
        rows.append(line.row)
    return rows


def trained_rows(place: Path, update: int | None) -> list[Row]:
    """Training rollouts with `reflection` where there was one, of one update or of all."""
    from resd_bench.records.run_files import EPISODES, RunFiles

    files = RunFiles.at(place)
    rows = files.rows(EPISODES)
    if not any("turns" in row for row in rows):
        raise UsageError(
            f"{place} holds no texts of training rollouts, as kept records have none: give the "
            "folder that `run` wrote"
        )
    chosen = [row for row in rows if update in (None, row["update"])]
    if not chosen:
        raise UsageError(
            f"{place} has no training rollouts of update {update}: give --update 1 to "
            f"{rows[-1]['update']}"
        )
    return list(_with_reflections(files, chosen))


def _with_reflections(files: RunFiles, rows: Iterable[Row]) -> Iterator[Row]:
    from resd_bench.report.html.episodes import reflections_on

    contexts = files.numbered("context")
    for update, own in groupby(rows, key=lambda row: row["update"]):
        played = list(own)
        said = reflections_on(played, contexts.get(update, {}))
        yield from ({**row, "reflection": said.get(id(row), {}).get("text", "")} for row in played)


def attempt_text(row: Row, width: int) -> str:
    """One attempt to read, folded to `width` columns."""
    lines = [*folded(f"── {row['task']} · {_which(row)}", width), *folded(_verdict(row), width)]
    for title, text in _parts(row):
        lines += [title, *(f"  {line}" for line in folded(text, width - 2))]
    return "\n".join(lines) + "\n\n"


def _which(row: Row) -> str:
    if "sample" in row:
        return f"sample {row['sample']}, after {row['update']} updates"
    return f"update {row['update']}, attempt {row['attempt']}"


def _verdict(row: Row) -> str:
    if row.get("success") is None or row.get("stop") == "error":
        return "no verdict: the environment failed"
    kind = row.get("kind") or "wrong answer"
    said = ["success" if won(row) else f"failure ({kind})"]
    if isinstance(score := row.get("score"), int | float):
        said.append(f"{100 * score:.0f}% of test cases")
    said.append(f"{sum(turn.get('tokens', 0) for turn in row['turns'])} tokens")
    if row.get("stop") in ("length", "turns"):
        said.append(f"ended by the {'token' if row['stop'] == 'length' else 'turn'} limit")
    return ", ".join(said)


def _parts(row: Row) -> Iterator[tuple[str, str]]:
    """Titles and texts of an attempt, in the order they were said; empty ones left out."""
    from resd_bench.parsing import visible_answer

    several = len(row["turns"]) > 1
    for number, turn in enumerate(row["turns"], start=1):
        count = f" {number}" if several else ""
        for message in turn.get("messages", ()):
            role = message.get("role", "")
            yield ("prompt" if role == "user" else role) + count, message.get("content", "")
        response = turn.get("response", "")
        answer = visible_answer(response)
        if answer != response:
            yield f"response{count}, with its reasoning", response
        yield f"answer{count}", answer or "(nothing)"
    for name in ("unread", "error", "feedback", "shown_feedback", "reflection"):
        if row.get(name):
            yield name.replace("_", " "), row[name]


def folded(text: str, width: int) -> list[str]:
    """Lines of `text` that fit into `width` columns and control no terminal; nothing is cut."""
    lines = []
    for line in printable(text).expandtabs(4).split("\n"):
        lines += [part for piece in _wrapped(line, width) for part in _chopped(piece, width)]
    return lines


def _wrapped(line: str, width: int) -> list[str]:
    return wrap(
        line, width, replace_whitespace=False, drop_whitespace=False, break_on_hyphens=False
    ) or [""]


def _chopped(line: str, width: int) -> list[str]:
    """Pieces of at most `width` columns: a character may take two."""
    from rich.cells import cell_len, chop_cells

    return [line] if cell_len(line) <= width else chop_cells(line, width)
