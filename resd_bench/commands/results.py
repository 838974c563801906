"""`results`: keep, pack, show, describe and verify records of runs, and what was made of them.

Left out: everything that is not printing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resd_bench.commands.groups import group
from resd_bench.commands.shared import TO_FOLDER, Markdown
from resd_bench.files.terminal import note, out, say

app = group("Keep, show, describe and verify records of runs.")


@app.command("keep")
def keep_command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Run folders or globs.")],
    to: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            callback=TO_FOLDER,
            help="Folder to copy to, as FOLDER/ENV/METHOD/seed-K.",
        ),
    ],
    answers: Annotated[
        bool, typer.Option("--answers", help="Also copy the texts of held-out answers.")
    ] = False,
) -> None:
    """Copy records of runs, without texts and checkpoints."""
    from resd_bench.records.archive import keep
    from resd_bench.records.find_runs import find_runs

    for folder in keep(find_runs(runs), to, answers=answers):
        say(folder)


@app.command("compact")
def compact_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of kept records.")],
) -> None:
    """Pack the kept records of each folder in one file, half as large."""
    from resd_bench.records.packing import compact

    done = compact(folder)
    say(f"wrote {done.logs} logs in columns, and packed {done.runs} runs into {done.packs} files")


@app.command("unpack")
def unpack_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of packed records.")],
) -> None:
    """Write packed records as run folders again."""
    from resd_bench.records.packing import unpack_runs

    say(f"unpacked {len(unpack_runs(folder))} runs below {folder}")


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


@app.command("audit")
def audit_command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Run folders or globs.")],
) -> None:
    """Find copied answers and wrong solutions in what methods wrote.

    Task text and gold answers are searched for in lessons, reflections and curations, and the
    solutions that teachers are shown are graded again. The exit code is 1 if anything is found.
    """
    from resd_bench.check.lessons import audit
    from resd_bench.records.find_runs import find_runs

    found = 0
    for run in find_runs(runs):
        told = audit(run.folder)
        say(f"{run.folder}: {told.lines()[0]}")
        for line in told.lines()[1:]:
            say(f"        {line}")
        found += len(told.findings)
    if found:
        raise typer.Exit(1)
