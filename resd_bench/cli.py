"""The command line: mounts the commands of `resd_bench.commands`.

A mistake of the user's is reported in one line on stderr, with exit code 2.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

import typer

from resd_bench.commands.groups import CommandLineError, PanelCommand, WholeHelp, told
from resd_bench.distributed.process_group import wait_for_rank0_error
from resd_bench.errors import UsageError, explaining_disk
from resd_bench.files.terminal import complain, guard_python, note


class Mounted(NamedTuple):
    """A command or a group of commands, which is imported when it is used."""

    place: str
    """The module and the function, or the group, in it."""
    summary: str
    """The first sentence of its help."""


COMMANDS: Mapping[str, Mounted] = {
    "run": Mounted("run:run", "Run a method on an environment, and report held-out success."),
    "eval": Mounted("eval:evaluate", "Measure held-out success of a checkpoint or of a model."),
    "sweep": Mounted(
        "sweep:sweep", "Run every configuration in a file; finished runs are skipped."
    ),
    "tune": Mounted("tune:tune", "Give every method as many trials; choose by validation tasks."),
    "show": Mounted("show:show", "Read what a model answered, and what it was told."),
    "compare": Mounted(
        "compare:compare", "Compare runs at equal budget, with verdicts and curves."
    ),
    "report": Mounted("report:report", "Write an HTML page about runs."),
    "trace": Mounted("trace:trace", "Replay one update of a run and show its loss token by token."),
    "reproduce": Mounted(
        "reproduce:reproduce", "Compare our results with the paper's tables and figures."
    ),
    "export": Mounted(
        "export:export", "Write a run's trained model or adapter, with card and playbook."
    ),
    "doctor": Mounted("doctor:doctor", "Check what works on this machine and what is missing."),
    "envs": Mounted("envs:app", "List, describe, check and play the installed environments."),
    "methods": Mounted("methods:app", "List, describe and check the installed methods."),
    "engines": Mounted("engines:app", "List, describe and check the installed sampling engines."),
    "results": Mounted("results:app", "Keep, show, describe and verify records of runs."),
    "init": Mounted("init:app", "Create a package with a new environment or method."),
    "nano": Mounted("nano:app", "Pre-train and measure the embedded model."),
    "cross-check": Mounted("cross_check:app", "Compare our methods with those of another library."),
    "bench": Mounted(
        "bench:bench", "Measure speed next to other libraries, and compare with before."
    ),
}


_PLAIN = partial(
    typer.Typer, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)


class LazyCommands(WholeHelp):
    """The commands of `COMMANDS`: help on all of them imports none."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command called `cmd_name`; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].place.partition(":")
        found = getattr(importlib.import_module(f"resd_bench.commands.{module}"), name)
        holder = _PLAIN()
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=cmd_name)
        else:
            holder.command(cmd_name, cls=PanelCommand)(found)
        return typer.main.get_group(holder).commands[cmd_name]

    def invoke(self, ctx: Any) -> Any:
        """The command; one that Ctrl-C ends says so."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            from resd_bench.files.writing import written

            note(f"interrupted; {written()}")
            raise typer.Exit(130) from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """A row per command; the width of the terminal wraps it and cuts nothing off."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, mounted.summary) for name, mounted in COMMANDS.items()])


app = _PLAIN(cls=LazyCommands, no_args_is_help=True)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib import metadata

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
            given = list(argv) if argv is not None else None
            code = app(args=given, prog_name="resd-bench", standalone_mode=False)
    except UsageError as error:
        wait_for_rank0_error()
        complain(error)
        return 2
    except CommandLineError as error:
        return _refuse(error)
    except typer.Abort as error:
        # Ctrl-C while options are read is one too.
        return 130 if isinstance(error.__context__, KeyboardInterrupt) else 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130
    return code if isinstance(code, int) else 0


def _refuse(error: Any) -> int:
    if text := told(error):
        complain(UsageError(text))
    else:
        error.show()
    return int(error.exit_code)
