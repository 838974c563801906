"""Keep the records of finished runs: what tables and figures are made from, and no more.

    python -m resd_bench results keep runs-out/manufactoria-has --to results/nano

A kept run is a run folder without episodes, contexts and checkpoints, its evaluations compressed.
Everything that reads run folders reads it. Left out: re-deriving committed tables from records.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterable
from pathlib import Path

from resd_bench.plugins import UsageError
from resd_bench.report.runs import RunData

KEPT = ("config.yaml", "manifest.json", "metrics.jsonl", "status.json", "summary.json")


def keep(runs: Iterable[RunData], to: Path) -> list[Path]:
    """Copy each run's records to `<to>/<env>/<method>/seed-<k>`; the folders written.

    UsageError, before anything is written, where a run is unfinished or its place is taken.
    """
    places = {_place(run, to): run for run in runs}
    for place, run in places.items():
        if run.status.get("state") != "finished":
            raise UsageError(f"{run.folder} is not finished: go on with `run --resume` first")
        if place.exists():
            raise UsageError(f"{place} exists: move it away, or give another --to")
    for place, run in places.items():
        place.mkdir(parents=True)
        for name in KEPT:
            if (run.folder / name).exists():
                shutil.copyfile(run.folder / name, place / name)
        rows = (run.folder / "evals.jsonl").read_bytes()
        # Without a time stamp, equal records give equal bytes.
        (place / "evals.jsonl.gz").write_bytes(gzip.compress(rows, mtime=0))
    return list(places)


def _place(run: RunData, to: Path) -> Path:
    return to / str(run.settings["env"]) / run.method / f"seed-{run.seed}"
