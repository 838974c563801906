"""Keep the records of finished runs: what tables and figures are made from, and no more.

    python -m resd_bench results keep runs-out/manufactoria-has --to results/nano

A kept run is a run folder without texts, contexts and checkpoints: its evaluations are compressed,
and of its episodes a short row each remains. Everything that reads run folders reads it. Left out:
re-deriving committed tables from records, see `resd_bench.report.verify`.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resd_bench import reading
from resd_bench.plugins import UsageError
from resd_bench.record import Row, log_bytes, to_line
from resd_bench.report.runs import RunData
from resd_bench.writing import check_name, make_folder, write_atomically

KEPT = ("config.yaml", "manifest.json", "metrics.jsonl", "status.json", "summary.json")


def keep(runs: Iterable[RunData], to: Path) -> list[Path]:
    """Copy each run's records to `<to>/<env>/<method>/seed-<k>`; the folders written.

    UsageError, before anything is written, where a run is unfinished or its place is taken.
    """
    return keep_at({_place(run, to): run for run in runs}, to)


def keep_at(places: Mapping[Path, RunData], to: Path) -> list[Path]:
    """Copy each run's records to the folder named beside it, which lies below `to`; as `keep`."""
    for place, run in places.items():
        if run.status.get("state") != "finished":
            raise UsageError(f"{run.folder} is not finished: go on with `run --resume` first")
        if place.exists():
            raise UsageError(f"{place} exists: move it away, or give another --to")
    for place, run in places.items():
        make_folder(place, to)
        for name in KEPT:
            if (run.folder / name).exists():
                write_atomically(place / name, _own_bytes(run.folder / name), to)
        _pack(log_bytes(run.folder / "evals.jsonl"), place / "evals.jsonl.gz")
        keep_episodes(run, place)
    return list(places)


def _own_bytes(path: Path) -> bytes:
    """What a file of a run holds; UsageError where it is a link to a file of somebody else."""
    try:
        return reading.read_bytes(path, follow=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not kept: {error}. Replace it by a file of its own") from None


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
    write_atomically(path, gzip.compress(content, mtime=0))


def _place(run: RunData, to: Path) -> Path:
    env = check_name(str(run.settings["env"]), f"{run.folder}: environment")
    return to / env / check_name(run.method, f"{run.folder}: method") / f"seed-{run.seed}"
