"""The claims about speed in `benchmarks/results.json`: tabulate, measure again, check, record.

    python benchmarks/claims.py                    # the table
    python benchmarks/claims.py --run start        # measure those whose name begins so, and check
    python benchmarks/claims.py --run start --write

A claim is a ratio, of what a peer takes to what we take in one run of one command on one machine:
seconds differ from machine to machine, ratios less. Where there is no peer, the ratio is that of
the target to what we take. The check fails where a ratio falls below 0.9 of the recorded one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("results.json")
LEAST = 0.9
"""Share of a recorded ratio that must be reached again."""
PACKAGES = ("torch", "transformers", "typer", "numpy")

Claim = dict[str, Any]


def ratio(ours: float, peer: float | None, target: float | None) -> float:
    """What the peer takes, or what the target allows, divided by what we take."""
    reference = target if peer is None else peer
    assert reference is not None, "a claim has a peer or a target"
    return reference / ours


def measure(command: str) -> list[Mapping[str, Any]]:
    """The rows that a command prints as JSON, a line each."""
    words = [sys.executable if word == "python" else word for word in shlex.split(command)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]


def measured(claims: Iterable[Claim], rows: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """The claims with what was found just now, on this machine."""
    by_name = {row["name"]: row for row in rows}
    here = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }
    found = []
    for claim in claims:
        row = by_name[claim["name"]]
        now = ratio(row["ours"], row.get("peer"), claim.get("target"))
        found.append({**claim, **row, "ratio": round(now, 3), **here})
    return found


def fallen(before: Sequence[Claim], now: Sequence[Claim]) -> list[str]:
    """What has become slower: ratios below `LEAST` of the recorded ones."""
    old = {claim["name"]: claim["ratio"] for claim in before if claim.get("ratio") is not None}
    return [
        f"{claim['name']}: ratio {claim['ratio']:.2f}, recorded {old[claim['name']]:.2f}"
        for claim in now
        if claim["name"] in old and claim["ratio"] < LEAST * old[claim["name"]]
    ]


def table(claims: Iterable[Claim]) -> str:
    """A row per claim."""
    lines = [f"{'claim':36} {'unit':6} {'ours':>9} {'peer':>9} {'ratio':>7} {'target':>7}"]
    for c in claims:
        cells = [c.get(name) for name in ("ours", "peer", "ratio", "target")]
        ours, peer, found, target = ("-" if cell is None else f"{cell:.3g}" for cell in cells)
        lines.append(f"{c['name']:36} {c['unit']:6} {ours:>9} {peer:>9} {found:>7} {target:>7}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", metavar="NAME", help="measure claims whose name begins so")
    parser.add_argument("--write", action="store_true", help="record what was measured")
    given = parser.parse_args()
    claims: list[Claim] = json.loads(FILE.read_text(encoding="utf-8"))
    if given.run is None:
        print(table(claims))
        return 0
    chosen = [claim for claim in claims if claim["name"].startswith(given.run)]
    commands = dict.fromkeys(claim["command"] for claim in chosen)
    now = measured(chosen, [row for command in commands for row in measure(command)])
    print(table(now))
    if given.write:
        new = {claim["name"]: claim for claim in now}
        text = json.dumps([new.get(c["name"], c) for c in claims], indent=2)
        FILE.write_text(text + "\n", encoding="utf-8")
        return 0
    for slower in (lost := fallen(chosen, now)):
        print(f"slower: {slower}", file=sys.stderr)
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
