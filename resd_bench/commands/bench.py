"""`bench`: claims about speed, as recorded in `benchmarks/results.json` or measured again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from resd_bench.files.terminal import errors, out, say

if TYPE_CHECKING:
    from rich.table import Table


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Measure the claims whose name begins so (default: show what was recorded).",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Measure, and fail where a ratio is below 0.9 of the recorded one."
        ),
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Measure, and record it in benchmarks/results.json.")
    ] = False,
    add: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Record what a script measures, as in 'python benchmarks/start.py'.",
        ),
    ] = None,
) -> None:
    """Measure speed next to other libraries, and compare with before.

    Measuring takes from seconds to minutes a claim, on one thread.
    """
    from resd_bench.check import claims

    before = claims.recorded()
    if not (names or check or write or add):
        _show(before)
        return
    asked = [] if add else claims.chosen(before, names or [])
    wanted = {claim["name"] for claim in asked}
    now: list[claims.Claim] = []
    for command in dict.fromkeys([add] if add else [claim["command"] for claim in asked]):
        errors().print(command, soft_wrap=True)
        rows = claims.run_benchmark(command)
        now += [row for row in rows if add or row["name"] in wanted]
    _show(now)
    if write or add:
        claims.record(now)
    elif lost := claims.fallen(before, now):
        for line in lost:
            say(f"slower: {line}")
        if check:
            raise typer.Exit(1)


def _show(found: list[dict[str, Any]]) -> None:
    """A table for each peer and unit, a row per claim."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for claim in found:
        groups.setdefault(f"{claim['unit']}; the peer is {claim['peer_name']}", []).append(claim)
    for title, own in groups.items():
        out().print(_table(title, own))


def _table(title: str, found: list[dict[str, Any]]) -> Table:
    """Costs, and how many times as much the peer takes."""
    from rich.table import Table

    from resd_bench.check.claims import meets_target

    table = Table(title=title, title_justify="left")
    table.add_column("claim", ratio=1)
    for name in ("ours", "peer", "ratio", "±", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    for claim in found:
        met = {True: " ✓", False: " ✗", None: ""}[meets_target(claim)]
        ratio, limit = claim.get("target_ratio"), claim.get("target")
        target = f"≥ {ratio:g} x" if ratio else f"≤ {limit:g}" if limit else ""
        table.add_row(
            claim["name"],
            *(f"{claim[name]:.3g}" for name in ("ours", "peer")),
            f"{claim['ratio']:.3g} x",
            f"{claim['spread']:.0%}",
            target + met,
        )
    return table
