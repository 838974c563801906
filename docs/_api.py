"""Build the API reference from docstrings: `python docs/_api.py [FOLDER]`, into build/api.

It has a page for every public module of the three packages, and opens with docs/python.md. Left
out: modules whose name begins with an underscore, source code, and values of long constants.
"""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pdoc

HERE = Path(__file__).resolve().parent
PACKAGES = ("resd_bench", "resd_envs", "resd_baselines")
TEN_LINES = "ten_lines_of_python"
"""Name of the page made from docs/python.md."""
LONGEST = 200
"""Characters of a value that is shown."""


def public_modules() -> list[str]:
    """The names of all modules that get a page, by package."""
    return [name for package in PACKAGES for name in (package, *_below(import_module(package)))]


def _below(package: ModuleType) -> Iterator[str]:
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if found.name.rpartition(".")[2].startswith("_"):
            continue
        yield found.name
        if found.ispkg:
            yield from _below(import_module(found.name))


def resolve_types(module: ModuleType) -> None:
    """Give functions of the module types where pdoc would show too little or too much of them.

    It looks names of types up in one module: not in that of the base class whose field is
    inherited, and for a named tuple in none at all. Of a command's options it would show the help.
    """
    for _, function in inspect.getmembers(module, inspect.isfunction):
        if any("Annotated" in str(kind) for kind in function.__annotations__.values()):
            _annotate(function, function)
    for _, member in inspect.getmembers(module, inspect.isclass):
        if member.__module__ != module.__name__:
            continue
        if hasattr(member, "_fields"):
            _annotate(member.__new__, member)
        elif "__init__" in vars(member):
            for base in filter(dataclasses.is_dataclass, member.__mro__[1:]):
                _annotate(member.__init__, base)


def _annotate(function: Any, source: Any) -> None:
    hints, given = get_type_hints(source), function.__annotations__
    given.update({name: hints[name] for name in given.keys() & hints.keys()})


def leave_out_large_values(space: pdoc.doc.Namespace[Any]) -> None:
    """Show the values of short constants, and of tables and schemas the name alone."""
    for member in space.own_members:
        if isinstance(member, pdoc.doc.Variable) and len(repr(member.default_value)) > LONGEST:
            member.default_value = inspect.Parameter.empty
        elif isinstance(member, pdoc.doc.Class):
            leave_out_large_values(member)


def pages() -> dict[str, pdoc.doc.Module]:
    """The pages by name: the introduction, then one for every public module."""
    introduction = ModuleType(TEN_LINES, (HERE / "python.md").read_text(encoding="utf-8"))
    found = {TEN_LINES: pdoc.doc.Module(introduction)}
    for name in public_modules():
        module = import_module(name)
        for public in getattr(module, "__all__", ()):  # some are imported when asked for
            vars(module).setdefault(public, getattr(module, public))
        resolve_types(module)
        found[name] = pdoc.doc.Module(module)
        leave_out_large_values(found[name])
    return found


def build(folder: Path) -> None:
    """Write the reference to `folder`."""
    pdoc.render.configure(show_source=False)
    modules = pages()
    for name, module in modules.items():
        path = folder / f"{name.replace('.', '/')}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pdoc.render.html_module(module, modules), encoding="utf-8")
    (folder / "index.html").write_text(pdoc.render.html_index(modules), encoding="utf-8")
    (folder / "search.js").write_text(pdoc.render.search_index(modules), encoding="utf-8")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "build" / "api"
    build(target)
    print(target / "index.html")
