"""`report`: a page about runs that opens from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resd_bench.commands.compare import choose_axis, groups_at
from resd_bench.commands.shared import TO_FILE, AtBudget, AxisOption, Baseline, Runs, Varies
from resd_bench.errors import UsageError
from resd_bench.files.terminal import out

Audit = Annotated[
    bool | None,
    typer.Option(
        "--audit/--no-audit",
        help="Look for copied answers and wrong solutions in what those runs wrote; the "
        "environment grades their solutions again (default: yes).",
        show_default=False,
    ),
]


def report(
    runs: Runs,
    save: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", callback=TO_FILE, help="HTML file to write."),
    ] = Path("report.html"),
    budget: AtBudget = None,
    axis: AxisOption = None,
    varies: Varies = None,
    baseline: Baseline = None,
    title: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Title of the page (default: environment and model)."),
    ] = None,
    episodes: Annotated[
        int, typer.Option(min=0, metavar="INT", help="Episodes to show of each update.")
    ] = 4,
    answers: Annotated[
        int,
        typer.Option(min=0, metavar="INT", help="Held-out answers to show of each evaluation."),
    ] = 48,
    runs_in_detail: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="INT",
            help="Runs per group to show with their playbook and episodes.",
        ),
    ] = 1,
    audit: Audit = None,
) -> None:
    """Write an HTML page about runs.

    It shows verdicts, curves, budgets, the history of the playbook, what an audit of its texts
    finds, episodes and answers.
    """
    page = page_file(save)
    from resd_bench.report.html.build import write_report
    from resd_bench.report.measured import parse_varies

    if audit and not runs_in_detail:
        raise UsageError("--audit is of the runs shown in detail: give --runs-in-detail 1 or more")
    chosen, wanted = choose_axis(axis, budget)
    on_purpose = parse_varies(varies)
    groups, at = groups_at(runs, chosen, wanted, baseline)
    path = write_report(
        groups,
        at,
        chosen,
        page,
        title=title,
        per_update=episodes,
        answers=answers,
        runs_in_detail=runs_in_detail,
        varies=on_purpose,
        audited=audit is not False,
    )
    out().print(f"report {path}", soft_wrap=True)


def page_file(save: Path) -> Path:
    """`save`; UsageError where a browser would not take it for a page."""
    if save.suffix not in (".html", ".htm"):
        raise UsageError(f"--out {save}: give a file that ends in .html")
    return save
