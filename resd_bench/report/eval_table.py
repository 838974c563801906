"""`results show`: success before and after training, of run folders and files of `eval --out`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from resd_bench.errors import UsageError
from resd_bench.records import schema
from resd_bench.records.find_runs import find_runs
from resd_bench.records.jsonl import COUNT, LABEL, SHARE_OR_NULL, check_fields, read_objects
from resd_bench.records.run_files import check_evals, is_log, matching
from resd_bench.report.tables import WITH_FAILURES, best_rates, rates, table_label
from resd_bench.stats import EvalPoint, eval_points, reported

_KINDS = {
    **dict.fromkeys(("update", "episodes", "generated_tokens", "sample"), COUNT),
    **{"task": LABEL, "success": SHARE_OR_NULL, "score": SHARE_OR_NULL},
}
"""The values allowed in the columns that are read."""
SUFFIXES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The evaluations of one run, or of one file."""

    name: str
    points: Sequence[EvalPoint]


def find_evaluations(places: Iterable[str]) -> list[Evaluated]:
    """The evaluations in run folders, folders of them, row files or globs; UsageError if none."""
    found: list[Evaluated] = []
    for place in places:
        for path in map(str, matching(place) or [Path(place)]):
            file, folder = path.endswith(SUFFIXES), Path(path).parent
            if file and not is_log(Path(path)):
                found.append(Evaluated(path, _points(Path(path))))
                continue
            # A log in a run folder means the whole run.
            for run in find_runs([str(folder) if file else path]):
                found.append(Evaluated(str(run.folder), run.points))
    return found


def _points(path: Path) -> list[EvalPoint]:
    needed = schema.load("evals")["required"]
    expected = f"give rows that `eval --out` wrote, {{{', '.join(needed)}, ...}}"
    rows = []
    for line in read_objects(path, expected, strict=True):
        if missing := [name for name in needed if name not in line.row]:
            raise UsageError(f"{line.where} has no {missing[0]!r}: {expected}")
        check_fields(line.row, _KINDS, line.where)
        rows.append(line.row)
    if not rows:
        raise UsageError(f"{path} has no rows: {expected}")
    points = eval_points(reported(check_evals(rows, path)))
    for point in points:
        if len({len(task) for task in point.success}) > 1 and not point.errors:
            raise UsageError(
                f"{path} is incomplete: after {point.update} updates, tasks differ in their number "
                "of samples. Evaluate again"
            )
    return points


def evaluations_table(found: Iterable[Evaluated]) -> Table:
    """Two rows for each: its first and its last evaluation, with 95% intervals."""
    table = Table()
    table.add_column("evaluation of")
    for name in ("updates", "rollouts", "generated tokens", "samples"):
        table.add_column(name, justify="right")
    table.add_column("success", justify="right", no_wrap=True)
    table.add_column("any of the samples (best)", justify="right", no_wrap=True)
    for own in found:
        for point in own.points if len(own.points) < 2 else (own.points[0], own.points[-1]):
            table.add_row(table_label(own.name), *_cells(point))
            if point.errors:
                table.caption, table.caption_justify = WITH_FAILURES, "left"
    return table


def _cells(point: EvalPoint) -> Sequence[str]:
    spent = (point.update, point.episodes, point.generated_tokens)
    samples = f"{sum(map(bool, point.success))} × {point.per_task}"
    if point.errors:
        samples += f", {point.errors} without verdict"
    return [*map(str, spent), samples, rates(point.rate()), best_rates(point)]
