"""Claims about speed: what the scripts of `benchmarks/` measure, against what was recorded.

A claim is a ratio: what a peer takes, divided by what we take, in turn on one machine. Seconds
differ from machine to machine, ratios less, so a check compares ratios. Everything is a cost: less
is better. A script prints a JSON object a line: `name`, `unit`, `ours` and `peer` (medians),
`peer_name`, `spread` (of the ratio, as a share of it), and `target` (the most that ours may be) or
`target_ratio` (the least that the ratio may be). Left out: the measuring, which is the scripts'
part.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.files.writing import write_named

CLONE = Path(__file__).resolve().parents[2]
FILE = CLONE / "benchmarks" / "results.json"
LEAST = 0.9
"""Share of a recorded ratio that must be reached again."""
_PACKAGES = ("torch", "transformers", "typer", "numpy")

Claim = dict[str, Any]


def recorded() -> list[Claim]:
    """The claims of this clone; UsageError where there is none, as in an installed wheel."""
    if not FILE.is_file():
        raise UsageError(
            f"{FILE.parent} is missing: benchmarks are part of a clone of the repository, not of "
            "the installed package. Clone it, and install it with pip install -e ."
        )
    found: list[Claim] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def chosen(claims: Iterable[Claim], names: Sequence[str]) -> list[Claim]:
    """The claims whose name begins with one of `names`, all of them without; UsageError if none."""
    found = [c for c in claims if not names or c["name"].startswith(tuple(names))]
    for name in names:
        if not any(claim["name"].startswith(name) for claim in found):
            raise UsageError(f"no claim begins with {name!r}: `resd-bench bench` lists them all")
    return found


def run_benchmark(command: str) -> list[Claim]:
    """What `command` measures, with the machine, its load and the versions; UsageError if it fails.

    The command is one of `benchmarks/results.json`, and runs on one thread.
    """
    words = [sys.executable if word == "python" else word for word in shlex.split(command)]
    here = {"machine": _machine(), "load": round(os.getloadavg()[0], 1), "versions": _versions()}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment, cwd=CLONE)
    if ran.returncode:
        raise UsageError(f"`{command}` failed with {ran.returncode}; its messages are above")
    rows = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    return [{**row, "ratio": _ratio(row), "command": command, **here} for row in rows]


def _ratio(row: Claim) -> float:
    """What the peer takes divided by what we take, to three digits."""
    return float(f"{row['peer'] / row['ours']:.3g}")


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return ", ".join([platform.machine(), f"{os.cpu_count()} cores", *named[:1]])


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {n: metadata.version(n) for n in _PACKAGES}


def meets_target(claim: Claim) -> bool | None:
    """Whether what was measured reaches the target; None without one."""
    if "target_ratio" in claim:
        return bool(claim["ratio"] >= claim["target_ratio"])
    return bool(claim["ours"] <= claim["target"]) if "target" in claim else None


def fallen(before: Iterable[Claim], now: Iterable[Claim]) -> list[str]:
    """What has become slower: ratios below `LEAST` of the recorded ones."""
    old = {claim["name"]: claim["ratio"] for claim in before}
    return [
        f"{claim['name']}: ratio {claim['ratio']:.3g}, recorded {old[claim['name']]:.3g}"
        for claim in now
        if claim["name"] in old and claim["ratio"] < LEAST * old[claim["name"]]
    ]


def record(now: Iterable[Claim]) -> None:
    """Put what was measured in the place of what was recorded; new claims come last."""
    new = {claim["name"]: claim for claim in now}
    kept = [new.pop(claim["name"], claim) for claim in recorded()]
    text = json.dumps([*kept, *new.values()], indent=1, ensure_ascii=False)
    write_named(FILE, f"{text}\n".encode())
