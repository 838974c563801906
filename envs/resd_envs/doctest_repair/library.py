"""Functions of the installed package more-itertools, read as text: source, prose, examples.

Nothing of the package is imported or run here, and no text of it is copied into this repository.
Left out: the standard library, whose doctests would serve as well, but which a program in the
sandbox can read, with the original of every function.
"""

from __future__ import annotations

import ast
import doctest
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from resd_bench.errors import UsageError, install_extra
from resd_bench.files import reading

PACKAGE = "more-itertools"
PACKAGE_VERSION = "11.2.1"
"""The version that `mutants.json` was made from; another one has other functions."""
MODULES = ("recipes.py", "more.py")
"""In the order in which the package imports them."""


@dataclass(frozen=True, slots=True)
class Doctest:
    """One doctest: statements, of which the last shows something."""

    statements: tuple[str, ...]
    """Source of each; all but the last are what led to it and show nothing."""
    wanted: str
    """What the last one shows, or the last line of the traceback that it ends in."""
    raises: bool = False
    flags: int = 0
    """Options of `doctest.OutputChecker`."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the package."""

    name: str
    source: str
    """Without its docstring and comments."""
    prose: str
    """Its docstring without the examples."""
    examples: tuple[Doctest, ...]
    names: tuple[str, ...]
    """What it uses of its module."""
    needs: str
    """A program that defines what the function and its examples use, without docstrings."""


def functions() -> Mapping[str, Function]:
    """Every top-level function with examples, by name; UsageError without the package."""
    spec = find_spec("more_itertools")
    place = Path(spec.origin).parent if spec and spec.origin else None
    try:
        found = version(PACKAGE) if place else ""
    except PackageNotFoundError:
        found = ""
    if place is None or found != PACKAGE_VERSION:
        raise UsageError(
            f"doctest-repair needs the package {PACKAGE} {PACKAGE_VERSION}, here is "
            f"{found or 'none'}: {install_extra('doctest-repair')}"
        )
    return read(place)


@cache
def read(folder: Path) -> Mapping[str, Function]:
    """The functions of the package in `folder`."""
    modules = [ast.parse(reading.read_text(folder / name)) for name in MODULES]
    statements = [s for module in modules for s in module.body if not _is_relative(s)]
    documented = [
        (statement, text)
        for statement in statements
        if isinstance(statement, ast.FunctionDef)
        and not statement.decorator_list
        and (text := ast.get_docstring(statement))
    ]
    for module in modules:
        _strip(module)
    scope = _Scope(statements)
    return {
        statement.name: scope.function(statement, text, examples)
        for statement, text in documented
        if (examples := tuple(_examples(text)))
    }


class _Scope:
    """The top-level statements of the package, by the names that they bind."""

    def __init__(self, statements: Sequence[ast.stmt]) -> None:
        self.statements = statements
        self.by_name: dict[str, list[ast.stmt]] = {}
        for statement in statements:
            for name in _bound(statement):
                self.by_name.setdefault(name, []).append(statement)

    def function(self, made: ast.FunctionDef, text: str, examples: tuple[Doctest, ...]) -> Function:
        """The function that the statement `made` defines, whose docstring is `text`."""
        used = _used([made])
        asked = used | _used(ast.parse(s) for one in examples for s in one.statements)
        return Function(
            name=made.name,
            source=ast.unparse(made),
            prose=_prose(text),
            examples=examples,
            names=tuple(sorted((used & self.by_name.keys()) - {made.name})),
            needs=self._needs(asked, made),
        )

    def _needs(self, names: Iterable[str], but: ast.stmt) -> str:
        """The statements that `names` lead to, in their order, without `but`."""
        chosen: set[int] = set()
        left = sorted(names)
        while left:
            for statement in self.by_name.get(left.pop(), ()):
                if statement is not but and id(statement) not in chosen:
                    chosen.add(id(statement))
                    left += sorted(_used([statement]))
        return "\n".join(ast.unparse(s) for s in self.statements if id(s) in chosen)


def _is_relative(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.level > 0


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a top-level statement binds, in its branches too."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in statement.names)
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        yield from (
            node.id
            for node in ast.walk(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        )
    elif isinstance(statement, ast.If | ast.Try):
        inner = [s for s in ast.walk(statement) if isinstance(s, ast.stmt) and s is not statement]
        for one in inner:
            yield from _bound(one)


def _used(nodes: Iterable[ast.AST]) -> set[str]:
    return {
        inner.id
        for node in nodes
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load)
    }


def _strip(module: ast.Module) -> None:
    """Remove every docstring below `module`."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]


def _prose(docstring: str) -> str:
    """A docstring without its examples, and with single empty lines."""
    pieces = doctest.DocTestParser().parse(inspect.cleandoc(docstring))
    lines = "".join(piece for piece in pieces if isinstance(piece, str)).splitlines()
    kept = [
        line.rstrip()
        for number, line in enumerate(lines)
        if line.strip() or (number and lines[number - 1].strip())
    ]
    return "\n".join(kept).strip()


def _examples(docstring: str) -> Iterator[Doctest]:
    """The examples of a docstring that show something, each with what precedes it."""
    before: list[str] = []
    for one in doctest.DocTestParser().get_examples(docstring):
        if one.options.get(doctest.SKIP):
            continue
        if one.want or one.exc_msg:
            wanted = one.want if one.exc_msg is None else one.exc_msg
            flags = sum(flag for flag, on in one.options.items() if on)
            flags |= doctest.DONT_ACCEPT_TRUE_FOR_1
            yield Doctest((*before, one.source), wanted, one.exc_msg is not None, flags)
            before = []
        else:
            before.append(one.source)
