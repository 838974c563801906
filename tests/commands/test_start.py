"""What starting the command line imports: help and lists of names stay light."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from resd_bench.cli import COMMANDS, app

HEAVY = {"gymnasium", "numpy", "torch", "transformers", "pandas", "matplotlib", "pydantic"}
LOOK = """
import sys
from resd_bench.cli import main
codes = [main(words.split()) for words in sys.argv[1:]]
print(codes, *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def imported(*calls: str) -> set[str]:
    """Top-level modules in a process that has run the command lines `calls`, all of them well."""
    ran = subprocess.run(
        [sys.executable, "-c", LOOK, *calls], capture_output=True, text=True, check=True
    )
    codes, *names = ran.stderr.splitlines()[-1].split("] ")
    assert set(codes.strip("[").split(", ")) == {"0"}, ran.stderr
    return set(names[0].split())


def test_help_of_every_command_imports_nothing_heavy() -> None:
    calls = ["--help", "--version", *(f"{name} --help" for name in COMMANDS)]
    found = imported(*calls, "envs info --help", "methods check --help")
    assert {"typer", "resd_bench"} <= found
    assert not found & HEAVY


def test_help_on_all_commands_imports_none_of_them() -> None:
    assert not imported("--help", "--version") & {*HEAVY, "yaml", "multiprocessing"}


def test_names_of_environments_are_listed_without_making_one() -> None:
    assert not imported("envs list --names") & HEAVY


def test_the_table_says_of_every_command_what_its_help_says() -> None:
    group = typer.main.get_command(app)
    for name, mounted in COMMANDS.items():
        command = group.get_command(None, name)  # type: ignore[attr-defined]
        assert command.get_short_help_str(limit=10_000) == mounted.summary


@pytest.mark.parametrize("order", ["gymnasium, resd_bench", "resd_bench, gymnasium"])
def test_gymnasium_knows_our_environments_in_whatever_order_both_are_imported(order: str) -> None:
    asked = f"import {order}; print('resd/GuessNumber-v0' in gymnasium.registry)"
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"


def test_the_package_has_make_env_and_no_other_name() -> None:
    import resd_bench

    assert resd_bench.make_env("guess-number").max_turns > 1
    with pytest.raises(AttributeError, match="has no attribute 'make_envs'"):
        resd_bench.make_envs  # noqa: B018
