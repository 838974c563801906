"""`results keep | show | schema | verify`: records of runs, and what was made of them.

Left out: everything that is not printing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resd_bench.terminal import note, out, say

app = typer.Typer(help="Records of runs, to commit and to share.", no_args_is_help=True)


@app.command("keep")
def keep_command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders or globs.")],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Writes TO/ENV/METHOD/seed-K.")],
) -> None:
    """Copy what tables and figures are made from; texts and checkpoints stay where they are."""
    from resd_bench.report.archive import keep
    from resd_bench.report.runs import find_runs

    for folder in keep(find_runs(runs), to):
        say(folder)


@app.command("show")
def show_command(
    places: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Run folders, rows of `eval --out`, or globs."),
    ],
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a document.")
    ] = False,
) -> None:
    """Success at the first and last evaluation of each run, or in files of evaluated samples."""
    from resd_bench.report.evaluations import evaluations_table, find_evaluations
    from resd_bench.report.markdown import as_markdown

    table = evaluations_table(find_evaluations(places))
    if markdown:
        say(as_markdown(table))
    else:
        out().print(table)


@app.command("schema")
def schema_command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One of them, field by field.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The JSON Schema itself.")] = False,
) -> None:
    """What the files of a run hold: every field with its unit, as Markdown or JSON Schema."""
    import json

    from resd_bench import schema

    if name is None:
        for known in schema.NAMES:
            own = schema.load(known)
            say(f"{known:14} {own['title']}: {own['description']}")
        return
    own = schema.load(name)
    text = json.dumps(own, indent=2, ensure_ascii=False) if as_json else schema.as_markdown(own)
    say(text)


@app.command("verify")
def verify_command(
    folder: Annotated[Path, typer.Argument(help="Where the documents are.")] = Path("results"),
    write: Annotated[
        bool, typer.Option("--write", help="Write what differs, instead of failing.")
    ] = False,
) -> None:
    """Make every marked table and figure again from the records; exit code 1 where one differs."""
    from resd_bench.report.verify import verify

    failed = 0
    for check in verify(folder, write=write):
        word = "DIFFERS" if check.problems else "written" if check.written else "ok"
        say(f"{word:8}{check.what}")
        for difference in (*check.problems, *check.written):
            say(f"        {difference}")
        for remark in check.notes:
            note(f"note: {remark}")
        failed += bool(check.problems)
    if failed:
        note("where the records are right, `results verify --write` writes what they give")
        raise typer.Exit(1)
