"""The program is found in an answer however its block is written, and wherever it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.parsing import last_code_block
from resd_envs.python_functions.answer import defines, fenced_blocks, program_of
from tests.growth import assert_linear

CODE = "def add(a, b):\n    return a + b"
DRAFT = "def add(a, b):\n    return 0"
F = "```"


def fenced(code: str = CODE, tag: str = "python") -> str:
    return f"{F}{tag}\n{code}\n{F}"


def indented(text: str, blanks: str) -> str:
    return "\n".join(blanks + line for line in text.split("\n"))


IN_DOCSTRING = (
    "def add(a, b):\n    '''\n    {fence}\n    add(1, 2)\n    ```\n    '''\n    return a + b"
)
KEPT = {
    "backticks in a docstring": IN_DOCSTRING.format(fence=F),
    "a tagged fence in a docstring": IN_DOCSTRING.format(fence=f"{F}python"),
    "backticks in a string": "def add(a, b):\n    fence = '```'\n    return a + b",
    "tildes in a string": "TILDES = '''\n~~~\n'''\n" + CODE,
}


@pytest.mark.parametrize("name", KEPT)
def test_fences_inside_a_program_belong_to_it(name: str) -> None:
    assert program_of(fenced(KEPT[name]), "add") == KEPT[name]


def test_of_programs_on_standard_input_the_tagged_one_counts() -> None:
    program = "print(sum(map(int, input().split())))"
    sample = fenced("3", "")
    assert program_of(f"{sample}\n{fenced(program)}\n{sample}", None) == program
    assert program_of(f"{fenced('print(1)')}\n{fenced(program)}", None) == program
    assert program_of(fenced(program, ""), None) == program


@pytest.mark.parametrize("text", ["", "no fence", CODE, f"{F}python\n{CODE}", f"{CODE}\n{F}", F])
def test_without_a_closed_block_there_is_no_program(text: str) -> None:
    assert program_of(text, "add") is None


def test_where_nothing_is_defined_the_last_block_stands() -> None:
    text = f"{fenced('x = 1')}\n{fenced('y = 2')}\n{fenced('3', 'bash')}"
    assert program_of(text, "add") == "y = 2"


@pytest.mark.parametrize(
    ("code", "is_defined"),
    [
        ("def add(a, b): pass", True),
        ("    async def add(a): pass", True),
        ("add = sum", True),
        ("add: Callable = sum", True),
        ("from operator import sub, add", True),
        ("import numpy as add", True),
        ("class add: pass", True),
        ("def added(): pass", False),
        ("add(1, 2)", False),
        ("add == sum", False),
        ("print('def add')", False),
    ],
)
def test_a_program_defines_what_it_binds(code: str, is_defined: bool) -> None:
    assert defines(f"import sys\n{code}\nx = 1", "add") is is_defined
    assert defines(code, "Solution.add") is is_defined


lines = st.sampled_from(
    [F, "python", "py", "\n", " ", "~~~", "`", "def add(): pass", "x", "<think>", "</think>", "\t"]
)


@given(st.lists(lines, max_size=14).map("".join))
def test_any_text_has_a_program_or_none(text: str) -> None:
    program = program_of(text, "add")
    there = last_code_block(text, "python") is not None or any(
        block.is_python or not block.tag or defines(block.code, "add")
        for block in fenced_blocks(text)
    )
    assert (program is not None) == there
    assert all(line.strip() in text for line in (program or "").split("\n"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    [
        *(F, f"{F}\n", f"{F}python\n", f"a {F}\n", f"a {F}python\n", "`", "~~~\n", f"{F}a{F}\n"),
        *(
            " ",
            "\n",
            " \n",
            "\t",
            "def add",
            "def add\n",
            "add",
            "add ",
            "add =",
            "from ",
            "from a ",
        ),
        *(f"{F}py\ndef add(a): pass\n{F}\n", "x" * 50 + "\n", f"{F}\n    x\n"),
    ],
)
def test_finding_the_program_takes_linear_time(piece: str) -> None:
    for before in ("", f"{F}python\n", "from "):

        def make(size: int, before: str = before) -> str:
            return before + piece * (size // len(piece))

        assert_linear(lambda text: program_of(text, "add"), make, 1 << 18, before + piece)
