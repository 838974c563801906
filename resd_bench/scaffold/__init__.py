"""Write a small installable plugin package from the templates next to this file.

A template is a file whose name ends in `.tmpl`; `<<field>>` in its text or name is filled in, and
an unknown field is an error. The new package passes its own contract test unchanged.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from resd_bench import plugins
from resd_bench.errors import UsageError
from resd_bench.files.writing import make_folder, write_atomically

PluginKind = Literal["env", "method"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
FIELD = re.compile(r"<<(\w+)>>")
_SUFFIX = ".tmpl"
_GROUPS: Mapping[PluginKind, str] = {"env": "resd_bench.envs", "method": "resd_bench.methods"}
LONGEST = 32


def write_package(kind: PluginKind, name: str, folder: Path) -> list[Path]:
    """Write the package of a new plugin called `name`; returns the files written, in order.

    UsageError if the name cannot be used or the folder exists.
    """
    _check_name(kind, name)
    if folder.exists():
        raise UsageError(f"{folder} exists and is not overwritten: give another --out FOLDER")
    given = _fields(name)
    texts = {fill_fields(path, given): fill_fields(text, given) for path, text in templates(kind)}
    for path, text in texts.items():
        make_folder((folder / path).parent, folder)
        write_atomically(folder / path, text.encode(), folder)
    return [folder / path for path in texts]


def _check_name(kind: PluginKind, name: str) -> None:
    """Raise UsageError if `name` cannot name a plugin and its Python package."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST:
        raise UsageError(
            f"{name!r} cannot name a plugin: give lower-case words joined by hyphens, such as "
            f"word-ladder, of at most {LONGEST} characters"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        raise UsageError(
            f"{name!r} would be the package {module!r}, a keyword or module of Python itself: "
            "give another name"
        )
    if name in plugins.installed(_GROUPS[kind]):
        raise UsageError(f"{name!r} is installed already: see `{kind}s info {name}`")
    if importlib.util.find_spec(module) is not None:
        raise UsageError(f"a Python package {module!r} is installed already: give another name")


def _fields(name: str) -> dict[str, str]:
    """The fields that templates may refer to."""
    words = name.split("-")
    return {
        "name": name,
        "module": "_".join(words),
        "Class": "".join(word.capitalize() for word in words),
        "CONSTANT": "_".join(words).upper(),
    }


def fill_fields(text: str, given: Mapping[str, str]) -> str:
    """`text` with its fields filled in; KeyError for one that is not given."""
    return FIELD.sub(lambda match: given[match[1]], text)


def templates(kind: PluginKind) -> Iterator[tuple[str, str]]:
    """Path and text of each template of `kind`, in name order."""
    yield from _walk(files("resd_bench.scaffold").joinpath(kind), "")


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, str]]:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        path = f"{prefix}{item.name}"
        if item.is_dir():
            yield from _walk(item, f"{path}/")
        elif path.endswith(_SUFFIX):
            yield path.removesuffix(_SUFFIX), item.read_text(encoding="utf-8")
