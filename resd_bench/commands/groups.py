"""Groups of commands. Imports nothing of ours, so that help is quick."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

CommandLineError: type[Exception] = typer.BadParameter.__bases__[0]
"""What a mistake in options or arguments raises; typer gives it no name of its own."""


def told(error: Any) -> str:
    """A `CommandLineError` in a line that says where help is; "" if all that was asked is help."""
    message = error.format_message().strip().rstrip(".")
    if message.startswith("Usage:"):
        return ""
    command = error.ctx.command_path if error.ctx is not None else "resd-bench"
    return f"{message[:1].lower()}{message[1:]}: see `{command} --help`"


def _off(option: Any) -> Any:
    if option is not None:
        option.default = False
    return option


class PanelCommand(TyperCommand):
    """A command whose help has its options under the headings that they name."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then options by heading (`rich_help_panel`), those without one first."""
        found: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            usual = f"{param.param_type_name.capitalize()}s"
            if (row := param.get_help_record(ctx)) is not None:
                found.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(row)
        for heading, rows in found.items():
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


class LightCommand(TyperCommand):
    """A command without options that take a value: it runs without pydantic."""

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`, off unless given: for a value that is None typer imports pydantic."""
        return _off(super().get_help_option(ctx))


class WholeHelp(TyperGroup):
    """A group whose help shows the description of every command whole, however long."""

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`, off unless given: for a value that is None typer imports pydantic."""
        return _off(super().get_help_option(ctx))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """A row per command; the width of the terminal wraps it and cuts nothing off."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, command.get_short_help_str(limit=10_000))
            for name, command in commands
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def group(about: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(help=about, no_args_is_help=True, cls=WholeHelp)
