"""The command line: mounts the commands of `resd_bench.commands`.

A mistake of the user's is reported in one line on stderr, with exit code 2.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Annotated

import typer

from resd_bench.commands import engines, envs, init, methods, nano, results
from resd_bench.commands.compare import compare
from resd_bench.commands.doctor import doctor
from resd_bench.commands.eval import evaluate
from resd_bench.commands.export import export
from resd_bench.commands.report import report
from resd_bench.commands.reproduce import reproduce
from resd_bench.commands.run import run
from resd_bench.commands.shared import WholeHelp
from resd_bench.commands.show import show
from resd_bench.commands.sweep import sweep
from resd_bench.commands.trace import trace
from resd_bench.commands.tune import tune
from resd_bench.distributed.process_group import wait_for_rank0_error
from resd_bench.errors import UsageError, explaining_disk
from resd_bench.files.terminal import complain, guard_python

app = typer.Typer(
    cls=WholeHelp,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_COMMANDS: Mapping[str, Callable[..., None]] = {
    "run": run,
    "eval": evaluate,
    "sweep": sweep,
    "tune": tune,
    "show": show,
    "compare": compare,
    "report": report,
    "trace": trace,
    "reproduce": reproduce,
    "export": export,
    "doctor": doctor,
}
_GROUPS: Mapping[str, typer.Typer] = {
    "envs": envs.app,
    "methods": methods.app,
    "engines": engines.app,
    "results": results.app,
    "init": init.app,
    "nano": nano.app,
}
for name, command in _COMMANDS.items():
    app.command(name)(command)
for name, group in _GROUPS.items():
    app.add_typer(group, name=name)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"resd-bench {metadata.version('resd-bench')}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Which method learns when success is rare and feedback is rich?"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    guard_python()
    try:
        with explaining_disk():
            app(args=list(argv) if argv is not None else None, prog_name="resd-bench")
    except UsageError as error:
        wait_for_rank0_error()
        complain(error)
        return 2
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        print("stopped at once; the same command with --resume continues", file=sys.stderr)
        return 130
    return 0
