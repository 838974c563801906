"""`results keep | show | schema | verify`: records of runs, and what was made of them.

Left out: everything that is not printing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resd_bench.commands.shared import Markdown, group
from resd_bench.files.terminal import note, out, say

app = group("Keep, show, describe and verify records of runs.")


@app.command("keep")
def keep_command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Run folders or globs.")],
    to: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder to copy to, as FOLDER/ENV/METHOD/seed-K.")
    ],
) -> None:
    """Copy records of runs, without texts and checkpoints."""
    from resd_bench.records.archive import keep
    from resd_bench.records.find_runs import find_runs

    for folder in keep(find_runs(runs), to):
        say(folder)


@app.command("show")
def show_command(
    places: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Run folders, files of `eval --out`, or globs."),
    ],
    markdown: Markdown = False,
) -> None:
    """Show success at the first and the last evaluation of each run."""
    from resd_bench.report.eval_table import evaluations_table, find_evaluations
    from resd_bench.report.markdown import as_markdown

    table = evaluations_table(find_evaluations(places))
    if markdown:
        say(as_markdown(table))
    else:
        out().print(table)


@app.command("schema")
def schema_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Schema to show field by field (default: list all)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON Schema itself.")] = False,
) -> None:
    """Describe every field in the files of a run."""
    import json

    from resd_bench.records import schema

    if name is None:
        for known in schema.SCHEMAS:
            own = schema.load(known)
            say(f"{known:14} {own['title']}: {own['description']}")
        return
    own = schema.load(name)
    text = json.dumps(own, indent=2, ensure_ascii=False) if as_json else schema.records_page(own)
    say(text)


@app.command("verify")
def verify_command(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the documents.")
    ] = Path("results"),
    write: Annotated[
        bool, typer.Option("--write", help="Update what differs instead of failing.")
    ] = False,
) -> None:
    """Make tables and figures again from the records, and compare.

    The exit code is 1 if any of them differs.
    """
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
