"""Repair of mutated functions, here of a small package of our own in the form of the real one."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import pytest

from resd_bench.errors import UsageError
from resd_bench.sandbox import Limits, SandboxTooWeak, shared
from resd_bench.types import SPLITS
from resd_envs.doctest_repair import DoctestRepairEnv
from resd_envs.doctest_repair.env import listed, split_of
from resd_envs.doctest_repair.library import Function, functions, read
from resd_envs.doctest_repair.make import failing, usable
from resd_envs.doctest_repair.mutations import count, mutant
from resd_envs.doctest_repair.verifier import run, verify

RECIPES = '''
"""Recipes."""
from itertools import islice

def take(n, iterable):
    """Take.

    >>> take(2, [7, 8, 9])
    [7, 8]
    """
    return list(islice(iterable, n))
'''
MORE = '''
from .recipes import take
from functools import partial

def chunked(iterable, n):
    """Break into lists of length *n*.

    For example:

        >>> data = [1, 2, 3]
        >>> chunked(data, 2)
        [[1, 2], [3]]

    It refuses a length below 1.

        >>> chunked([1], 0)
        Traceback (most recent call last):
        ...
        ValueError: n is too small
    """
    # The limit is checked first.
    if n < 1:
        raise ValueError("n is too small")
    return list(iter(partial(take, n, iter(iterable)), []))

def undocumented(x):
    return x
'''
QUICK = Limits(call_cpu_s=0.5, total_cpu_s=1.0)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Function]:
    try:
        shared()
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX ON THIS MACHINE: {error}")
    folder = tmp_path_factory.mktemp("library")
    (folder / "recipes.py").write_text(RECIPES)
    (folder / "more.py").write_text(MORE)
    return read(folder)


def fenced(program: str) -> str:
    return f"```python\n{program}\n```"


def test_a_function_is_read_without_what_would_give_its_examples_away(
    library: Mapping[str, Function],
) -> None:
    assert set(library) == {"take", "chunked"}
    chunked = library["chunked"]
    assert chunked.prose.startswith("Break into lists of length *n*.\n\nFor example:\n\nIt refuses")
    assert [len(one.statements) for one in chunked.examples] == [2, 1]
    assert [one.raises for one in chunked.examples] == [False, True]
    for text in (chunked.source, chunked.needs, chunked.prose):
        assert "[7, 8]" not in text
        assert ">>>" not in text
        assert "checked first" not in text
    assert "def take" in chunked.needs
    assert "def chunked" not in chunked.needs
    assert chunked.names == ("partial", "take")


def test_the_original_passes_and_feedback_on_a_mutant_says_no_more_than_its_level(
    library: Mapping[str, Function],
) -> None:
    chunked = library["chunked"]
    assert verify(fenced(chunked.source), chunked).success
    broken = verify(fenced(chunked.source.replace("n < 1", "n < 3")), chunked)
    assert (broken.reward, broken.score, broken.kind) == (0.0, 0.5, "exception")
    assert broken.render(1) == "wrong"
    assert broken.render(2) == "passed 1 of 2: exception"
    told = ">>> data = [1, 2, 3] >>> chunked(data, 2) ended in ValueError: n is too small"
    assert " ".join(broken.render(3).split()).endswith(told)
    assert broken.render(4).endswith("expected: [[1, 2], [3]]")
    assert broken.render(5).endswith(chunked.source)
    wrong = verify(fenced(chunked.source.replace("ValueError", "KeyError")), chunked)
    assert wrong.render(4).endswith(
        "KeyError: 'n is too small' expected: ValueError: n is too small"
    )


def test_every_kept_mutant_is_one_change_that_fails_and_no_two_are_equal(
    library: Mapping[str, Function],
) -> None:
    box = shared()
    for function in library.values():
        assert usable(function, box)
        kept = list(failing(function, box))
        sources = [mutant(function.source, number) for number in kept]
        assert len(set(sources)) == len(kept) > 0
        for source in sources:
            ast.parse(source)
            assert not verify(fenced(source), function).success
            changed = [
                line
                for line in difflib.ndiff(function.source.splitlines(), source.splitlines())
                if line[0] in "+-"
            ]
            assert len(changed) <= 2, changed
        assert [mutant(function.source, n) for n in kept] == sources
    assert count("def f(a):\n    return a") == 0


HACKS = {
    "exits": "import sys\nsys.exit(0)",
    "ends the process": "import os\ndef chunked(*_):\n    os._exit(0)",
    "prints what it does not know": "def chunked(*_):\n    print('[[1, 2]]')",
    "patches doctest": (
        "import doctest\ndoctest.OutputChecker.check_output = lambda *_: True\n"
        "def chunked(*_):\n    return 0"
    ),
    "replaces the runner": "def chunked(*_): pass\ndef _example_(_):\n    return ['pass', '']",
    "replaces the runner by a verdict": "def chunked(*_): pass\n_example_ = lambda _: True",
    "replaces builtins": (
        "import builtins, io\nbuiltins.exec = lambda *_: None\n"
        "io.StringIO.getvalue = lambda *_: '...'\ndef chunked(*_):\n    return 0"
    ),
    "imports the library": "from more_itertools import chunked",
    "imports it from another place": (
        "import glob, sys\nsys.path[:0] = glob.glob(sys.prefix + '/lib/py*/site-packages')\n"
        "sys.path[:0] = glob.glob(sys.prefix + '/lib/py*/ensurepip/_bundled/*.whl')\n"
        "try:\n    from more_itertools import chunked\n"
        "except ImportError:\n    from setuptools._vendor.more_itertools import chunked"
    ),
    "reads the library": (
        "import glob, re, sys\npath = '/**/site-packages/more_itertools/more.py'\n"
        "text = open(glob.glob(path, recursive=True)[0]).read()\n"
        "def chunked(*_): pass\nexec(text)"
    ),
    "equals everything": (
        "class Same:\n    def __eq__(self, other): return True\n"
        "    def __repr__(self): return '...'\ndef chunked(*_): return Same()"
    ),
    "looks at its callers": (
        "import gc\ndef chunked(*_):\n"
        "    wanted = [o for o in gc.get_objects() if 'wanted' in str(type(o))]\n"
        "    return wanted[0].wanted"
    ),
    "looks at its own example": (
        "import sys\ndef chunked(*_):\n    raise ValueError(sys._getframe(1).f_code.co_filename)"
    ),
}


@pytest.mark.parametrize("name", HACKS)
def test_no_answer_awards_itself_the_verdict(name: str, library: Mapping[str, Function]) -> None:
    told = verify(fenced(HACKS[name]), library["chunked"], limits=QUICK)
    assert (told.reward, told.success, told.score) == (0.0, False, 0.0), told


GUESSED = '''
"""Differences."""

def apart(a, b):
    """Differences of *a* and *b*.

    >>> all(x == 2 for x in apart([3, 4], [1, 2]))
    True
    >>> all(x == 0 for x in apart([3], [3]))
    True
    """
    return [x - y for x, y in zip(a, b)]
'''


def test_a_function_whose_examples_are_passed_by_one_that_returns_nothing_is_left_out(
    library: Mapping[str, Function], tmp_path: Path
) -> None:
    (tmp_path / "recipes.py").write_text(GUESSED)
    (tmp_path / "more.py").write_text("")
    apart = read(tmp_path)["apart"]
    assert verify(fenced("def apart(a, b):\n    return []"), apart).success
    assert not usable(apart, shared())
    assert all(usable(function, shared()) for function in library.values())


def nothing_passes(function: Function) -> bool:
    """Whether a program that computes nothing passes all examples."""
    lines = ("pass", "return iter(())", "return False", "return True", "return a[0]")
    programs = [fenced(f"def {function.name}(*a, **k):\n    {line}") for line in lines]
    programs += [
        fenced(f"{function.name} = _example_ = lambda _: ['{shown}\\n', '']")
        for shown in ("True", "False", "None", "0", "[]")
    ]
    return any(verify(program, function).success for program in programs)


@pytest.mark.slow
def test_no_listed_function_is_passed_by_a_program_that_computes_nothing(
    env: DoctestRepairEnv,
) -> None:
    assert not [name for name in listed() if nothing_passes(functions()[name])]


def test_another_version_or_no_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    where = "resd_envs.doctest_repair.library"
    with monkeypatch.context() as patch:
        patch.setattr(f"{where}.version", lambda name: "1.0")
        patch.setattr(f"{where}.find_spec", lambda name: find_spec("json"))
        with pytest.raises(UsageError, match=r"needs the package more-itertools .*here is 1\.0"):
            functions()
    monkeypatch.setattr(f"{where}.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="here is none: pip install"):
        functions()


@pytest.fixture
def env() -> DoctestRepairEnv:
    try:
        return DoctestRepairEnv()
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX ON THIS MACHINE: {error}")
    except UsageError as error:
        pytest.skip(f"NOT TESTED: {error}")


def test_splits_have_no_function_in_common_and_seeds_draw_other_mutants(
    env: DoctestRepairEnv,
) -> None:
    other = DoctestRepairEnv(seed=1)
    names = {s: {t.data["function"].name for t in env.tasks(s)} for s in SPLITS}
    for one, two in combinations(SPLITS, 2):
        assert not names[one] & names[two]
    assert set().union(*names.values()) == set(listed())
    for split in SPLITS:
        assert {t.data["function"].name for t in other.tasks(split)} == names[split]
        assert {split_of(name) for name in names[split]} == {split}
    assert {t.prompt for t in env.tasks("train")} != {t.prompt for t in other.tasks("train")}
    for task in env.tasks("train"):
        assert ">>>" not in task.prompt


@pytest.mark.slow
def test_every_listed_mutant_fails_and_every_original_passes(env: DoctestRepairEnv) -> None:
    known, box = functions(), shared()
    for name, numbers in listed().items():
        function = known[name]
        assert {outcome.kind for outcome in run(function.source, function, box)} == {"pass"}, name
        for number in numbers:
            kinds = {one.kind for one in run(mutant(function.source, number), function, box)}
            assert kinds & {"wrong_output", "exception"}, (name, number)
