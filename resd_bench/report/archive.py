"""Keep the records of finished runs: what tables and figures are made from, and no more.

    python -m resd_bench results keep runs-out/manufactoria-has --to results/nano

A kept run is a run folder without texts, contexts and checkpoints: its evaluations are compressed,
and of its episodes a short row each remains. Everything that reads run folders reads it. Left out:
re-deriving committed tables from records, see `resd_bench.report.verify`.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resd_bench.plugins import UsageError
from resd_bench.record import Row, log_bytes, to_line
from resd_bench.report.runs import RunData

KEPT = ("config.yaml", "manifest.json", "metrics.jsonl", "status.json", "summary.json")


def keep(runs: Iterable[RunData], to: Path) -> list[Path]:
    """Copy each run's records to `<to>/<env>/<method>/seed-<k>`; the folders written.

    UsageError, before anything is written, where a run is unfinished or its place is taken.
    """
    return keep_at({_place(run, to): run for run in runs})


def keep_at(places: Mapping[Path, RunData]) -> list[Path]:
    """Copy each run's records to the folder named beside it; as `keep`."""
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
        _pack(log_bytes(run.folder / "evals.jsonl"), place / "evals.jsonl.gz")
        keep_episodes(run, place)
    return list(places)


def keep_episodes(run: RunData, place: Path) -> None:
    """Write a row per training episode to `<place>/episodes.jsonl.gz`; nothing where there is none.

    The row says what came of the episode (schema `kept_episodes`), and repeats no text of it.
    """
    rows = [episode_summary(row) for row in run.training()]
    if rows:
        _pack(b"".join(map(to_line, rows)), place / "episodes.jsonl.gz")


def episode_summary(row: Mapping[str, Any]) -> Row:
    """An episode without its texts; a summary is its own summary."""
    names = ("update", "task", "attempt", "success", "score", "stop")
    tokens = row["tokens"] if "tokens" in row else sum(turn["tokens"] for turn in row["turns"])
    return {**{name: row[name] for name in names}, "tokens": tokens}


def _pack(content: bytes, path: Path) -> None:
    # Without a time stamp, equal records give equal bytes.
    path.write_bytes(gzip.compress(content, mtime=0))


def _place(run: RunData, to: Path) -> Path:
    return to / str(run.settings["env"]) / run.method / f"seed-{run.seed}"
