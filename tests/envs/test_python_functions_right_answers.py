"""A right answer is marked right, however its block is written and wherever it stands."""

from __future__ import annotations

import pytest

from resd_bench.sandbox import SandboxTooWeak, shared
from resd_envs.python_functions import Case, Problem, PythonFunctionsEnv, verify

ADD = Problem("add", "hand", "", "", "add", (Case((1, 2), 3), Case((5, 5), 10)))
CODE = "def add(a, b):\n    return a + b"
DRAFT = "def add(a, b):\n    return 0"
F = "```"


def fenced(code: str = CODE, tag: str = "python") -> str:
    return f"{F}{tag}\n{code}\n{F}"


def indented(text: str, blanks: str) -> str:
    return "\n".join(blanks + line for line in text.split("\n"))


@pytest.fixture(autouse=True, scope="module")
def _sandboxed() -> None:
    try:
        shared()
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX ON THIS MACHINE: {error}")


TAGS = (
    *("python", "", "py", "Python", "PYTHON", "python3", "Python3", "py3", "python3.11", "pycon"),
    *(" python", "  Py", "\tpython", "python ", "python title=add.py", "python:add.py"),
    *("{.python}", "{python}", "ipython", "python, runnable", "code", "Solution"),
)


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_may_be_spelled_in_any_usual_way(tag: str) -> None:
    feedback = verify(fenced(tag=tag), ADD)
    assert feedback.success, feedback.render(3)


FOUND = {
    "tildes": f"~~~python\n{CODE}\n~~~",
    "four backticks": f"{F}`python\n{CODE}\n{F}`",
    "a block in a longer fence": f"{F}``python\n{CODE}\n{F}``",
    "in a list": f"1. Solution:\n\n{indented(fenced(), '   ')}",
    "deep in a list": indented(fenced(), " " * 7),
    "after a tab": indented(fenced(), "\t"),
    "blanks before the fence": f"  {F}python\n{CODE}\n  {F}",
    "extra indentation inside": fenced(indented(CODE, "    ")),
    "carriage returns": fenced().replace("\n", "\r\n"),
    "a byte order mark": f"{F}python\n\ufeff{CODE}\n{F}",
    "words after the end": f"{fenced()} That is all.",
    "a tag after the end": f"<answer>{fenced()}</answer>",
    "no line before the end": f"{F}python\n{CODE}{F}",
    "all on one line": f"{F}python add = lambda a, b: a + b{F}",
    "code on the line of the tag": f"{F}python def add(a, b):\n    return a + b\n{F}",
    "words before the fence": f"Answer: {F}\n{CODE}\n{F}",
    "a stray fence after": f"{fenced()}\n{F}",
    "a stray fence before": f"{F}\n{fenced()}",
    "usage after": f"{fenced()}\nUsage:\n{fenced('print(add(1, 2))')}",
    "output after": f"{fenced()}\nIt prints:\n{fenced('3', '')}",
    "a command after": f"{fenced()}\nRun:\n{fenced('python add.py', 'bash')}",
    "a draft before": f"{fenced(DRAFT)}\nBetter:\n{fenced()}",
    "an untagged block after a draft": f"{fenced(DRAFT)}\nBetter:\n{fenced(tag='')}",
    "a tagged answer after a draft": f"{fenced(DRAFT)}\n<answer>{fenced()}</answer>",
    "a mention in a sentence": f"It must be in a {F}python block.\n{fenced()}",
    "a mention of both fences": f"Put it between {F}python and {F}.\n{fenced(tag='')}",
    "both fences end the line": f"Put it between {F}python and {F}\n{fenced(tag='')}",
    "a mention begins the line": f"{F}python is the tag.\n{fenced()}",
    "a bare fence begins the line": f"{F}\nis how it begins.\n{fenced()}",
    "code in a sentence": f"Not {F}add(1, 2){F} but\n{fenced()}",
    "code begins the line": f"{F}add(1, 2){F} is a call.\n{fenced()}",
    "a mention in reasoning": f"<think>\nI need a {F}python block.\n</think>\n\n{fenced()}",
    "reasoning that was not opened": f"I need a {F}python block.\n</think>\n\n{fenced()}",
    "a draft left open": f"<think>\n{F}python\n{DRAFT}\nNo.</think>\n{fenced()}",
    "a mention before tags": f"Use {F}python fences.\n<answer>{fenced()}</answer>",
}


@pytest.mark.parametrize("name", FOUND)
def test_a_right_program_is_found_and_run(name: str) -> None:
    feedback = verify(FOUND[name], ADD)
    assert feedback.success, feedback.render(3)


def test_the_environment_marks_a_right_answer_with_an_odd_tag() -> None:
    env = PythonFunctionsEnv(tier="basic", dialect="compact")
    task = env.tasks("test")[0]
    for tag in ("py", "Python", " python3"):
        assert env.verify(task, env.oracle(task).replace("python", tag, 1)).success
