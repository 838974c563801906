"""`envs score`: saved answers, marked by an environment."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from resd_bench.commands.shared import TO_FILE, DialectFlag, EnvSets, LevelOption, Name, open_env
from resd_bench.errors import UsageError, reason_of
from resd_bench.files import reading
from resd_bench.files.terminal import note
from resd_bench.files.writing import write_named
from resd_bench.options import coerce
from resd_bench.parsing import Grade


def score(
    name: Name,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Answers as JSONL; - reads standard input.")
    ],
    save: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            callback=TO_FILE,
            help="File to write (default: standard output).",
        ),
    ] = None,
    dialect: DialectFlag = "full",
    level: LevelOption = 3,
    what: Annotated[
        str,
        typer.Option(
            "--grade", metavar="answer|release", help="What is graded, as in `run --grade`."
        ),
    ] = "answer",
    sets: EnvSets = None,
) -> None:
    """Score saved answers.

    Reads lines of {"task": ID, "answer": TEXT} and writes them with their verdicts.
    """
    from resd_bench.evaluation.grade_answers import grade, read_answers
    from resd_bench.records.recorder import to_line

    chosen: Grade = coerce("--grade", what, Grade)
    env = open_env(name, sets, dialect=dialect, feedback_level=level, grade=chosen)
    answers = list(read_answers(_read(file).splitlines(), "stdin" if file == "-" else file))
    if not answers:
        raise UsageError(f'{file} has no answers: give lines of {{"task": ID, "answer": TEXT}}')
    rows = list(grade(env, answers))
    lines = b"".join(to_line(row) for row in rows)
    if save is not None:
        write_named(save, lines)
    else:
        sys.stdout.write(lines.decode())
    note(_summary(rows))


def _read(file: str) -> bytes:
    from resd_bench.records.run_files import EPISODES, RunFiles, is_run

    if file == "-":
        return sys.stdin.buffer.read()
    path = Path(file)
    if path.name == EPISODES and is_run(path.parent):
        return b"".join(RunFiles.at(path.parent).lines(EPISODES))
    try:
        return reading.read_bytes(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {reason_of(error)}. Give a JSONL file") from None


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    from resd_bench.report.tables import percent
    from resd_bench.stats import rate

    by_task: dict[str, list[float]] = {}
    missing: Counter[str] = Counter()
    for row in rows:
        task = str(row.get("task", row.get("task_id")))
        scored = by_task.setdefault(task, [])
        if row["success"] is None:
            missing[task] += 1
        else:
            scored.append(float(row["success"]))
    found = rate(list(by_task.values()), [missing[task] for task in by_task])
    answers = f"success {percent(found.scored)} of {len(rows) - found.left_out} answers"
    if not found.left_out:
        return f"{answers}; without verdict 0"
    least = percent(found.with_failures)
    return f"{answers}; without verdict {found.left_out}, with them as failures {least}"
