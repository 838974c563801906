"""Find runs: run folders, folders and globs of them, and JSONL of other people's results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from resd_bench.errors import UsageError
from resd_bench.files.counted import counted
from resd_bench.files.terminal import note
from resd_bench.records.external import load_rows
from resd_bench.records.run_files import is_log, matching, run_folders
from resd_bench.records.runs import NotEvaluated, RunData, load_run


def find_runs(places: str | Path | Iterable[str | Path]) -> list[RunData]:
    """The runs in JSONL files, in folders, globs, or below them; UsageError if there is none.

    Of several, those that have no evaluation yet are left out, and a note names the first of them.
    """
    found: dict[str, RunData] = {}
    begun: list[NotEvaluated] = []
    for place in map(str, [places] if isinstance(places, str | Path) else places):
        paths = matching(place) or [Path(place)]
        files = [path for path in paths if path.is_file() and path.suffix == ".jsonl"]
        # A log in a run folder means the whole run.
        logs = {path.parent for path in files if is_log(path)}
        folders = sorted({f for path in paths for f in run_folders(path)} | logs)
        files = [path for path in files if not is_log(path)]
        for path in files:
            runs = load_rows(path)
            found |= {f"{path.resolve()}#{i}": run for i, run in enumerate(runs)}
        if not folders and not files:
            raise UsageError(
                f"no run found in {place}: give run folders, a glob, a parent, or a .jsonl file"
            )
        for folder in counted(folders, "reading runs"):
            try:
                found.setdefault(str(folder.resolve()), load_run(folder))
            except NotEvaluated as error:
                begun.append(error)
    if begun and not found:
        raise begun[0]
    if begun:
        more = f" (and {len(begun) - 1} more)" if len(begun) > 1 else ""
        note(f"left out{more}: {begun[0]}")
    return list(found.values())
