"""Derive committed tables and figures again from their records, and report differences.

A document says how a table in it is made:

    <!-- made by: resd-bench compare resd sft --markdown --out . -->
    ...
    <!-- end -->

The command runs again, in the folder of the document and with another `--out`. Its output must
equal the text between the marks, and the files it writes must equal those next to the document.
Left out: numbers in running text, which are not marked; and commands that measure.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from resd_bench.errors import UsageError, reason_of
from resd_bench.files import reading
from resd_bench.files.writing import make_folder, write_atomically

MARK = re.compile(r"^<!-- made by: (?P<command>.+?) -->\n(?P<text>.*?)^<!-- end -->$", re.M | re.S)
DERIVING = ("compare", "report", "reproduce", "tune", "results show", "results schema")
"""Commands that only read records; no other is run."""
WRITING = {"compare": (), "report": (), "reproduce": ("--no-run",), "tune": ("--no-run",)}
"""Those of them that write files, with the option that keeps them from measuring."""
_PLACE = {"tune": "--pages"}
"""The option that says where a command writes, unless it is `--out`."""
MADE = (".csv", ".svg", ".png", ".html")
"""Suffixes of files that only a command may make."""
_CLOSE = 1e-9
"""Relative difference below which numbers in a CSV are equal: processors round differently."""
SHOWN = 8
"""Maximum number of differences listed for one table or file."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a document that a command made."""

    document: Path
    line: int
    """Line of the document at which its text begins, from 1."""
    command: str
    text: str


@dataclass(frozen=True, slots=True)
class Derived:
    """The present output of a block's command."""

    text: str
    files: Mapping[Path, Path]
    """The place of each file it wrote, and its path."""


@dataclass(frozen=True, slots=True)
class _Check:
    """The result for one block, or for the files that no block accounts for."""

    what: str
    problems: Sequence[str] = ()
    """What differs, cell by cell or file by file."""
    notes: Sequence[str] = ()
    """What could not be compared, and why."""
    made: Sequence[Path] = ()
    """The committed files that its command makes."""
    written: Sequence[str] = ()
    """What differed and was rewritten, if requested."""


def blocks(document: Path) -> list[Block]:
    """The marked parts of a Markdown file, in order; UsageError if a mark has no end."""
    text = _text(document)
    found = []
    for match in MARK.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        found.append(Block(document, line, match["command"], match["text"]))
    if len(found) != len(re.findall("^<!-- made by:", text, re.M)):
        raise UsageError(f"{document}: a line <!-- made by: ... --> has no <!-- end -->: add it")
    return found


def _text(path: Path) -> str:
    try:
        return reading.read_text(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {reason_of(error)}") from None


def verify(folder: Path, *, write: bool = False) -> Iterator[_Check]:
    """Derive every marked table and figure below `folder` again; a `_Check` for each.

    With `write` what differs is written instead of reported. The last check is of tables and
    figures that no command made. UsageError where nothing is marked.
    """
    folder = Path(os.path.normpath(folder))
    if not folder.is_dir():
        raise UsageError(
            f"{folder} does not exist: give a folder of results. Those of the project are in the "
            "folder `results` of a clone"
        )
    found = [block for path in sorted(folder.rglob("*.md")) for block in blocks(path)]
    if not found:
        raise UsageError(
            f"{folder} has no document with a line <!-- made by: resd-bench ... -->: give a folder "
            "of results, see docs/records.md"
        )
    made: set[Path] = set()
    for together in _batches(found):
        with tempfile.TemporaryDirectory() as scratch:
            for block, derived in _derive_batch(together, Path(scratch)):
                check = _check(block, derived, folder, write)
                made |= {path.resolve() for path in check.made}
                yield check
    # Where no command writes files, the pictures are illustrations.
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in MADE and made]
    orphans = [f"{p} is made by no command of a document" for p in files if p.resolve() not in made]
    yield _Check(f"{folder}: figures and tables that a command made", orphans)


def _batches(found: Sequence[Block]) -> list[list[Block]]:
    """Blocks that one process derives: pages of `reproduce` in one folder read the same records.

    Such a page is called as what it reproduces.
    """
    batches: dict[tuple[object, ...], list[Block]] = {}
    for number, block in enumerate(found):
        words = shlex.split(block.command)
        page = words[:3] == ["resd-bench", "reproduce", block.document.stem]
        key = (block.document.parent, *words[3:]) if page else (number,)
        batches.setdefault(key, []).append(block)
    return list(batches.values())


def _derive_batch(
    blocks: Sequence[Block], scratch: Path
) -> list[tuple[Block, Derived | UsageError]]:
    """The present output of each block's command, or why it failed."""
    first, names = blocks[0], [block.document.stem for block in blocks]
    if len(blocks) == 1:
        return [(first, _attempt(first, scratch))]
    _, _, _, *options = shlex.split(first.command)
    command = shlex.join(["resd-bench", "reproduce", *names, *options])
    derived = _attempt(replace(first, command=command), scratch)
    if isinstance(derived, UsageError):
        return [(block, derived) for block in blocks]
    return [
        (block, replace(derived, files={k: v for k, v in derived.files.items() if k.stem == name}))
        for block, name in zip(blocks, names, strict=True)
    ]


def _attempt(block: Block, scratch: Path) -> Derived | UsageError:
    try:
        return derive_block(block, scratch)
    except UsageError as error:
        return error


def _check(block: Block, derived: Derived | UsageError, root: Path, write: bool) -> _Check:
    what = f"{block.document} line {block.line}: {block.command}"
    if isinstance(derived, UsageError):
        return _Check(what, [str(derived)])
    if outside := [path for path in derived.files if not path.is_relative_to(root)]:
        return _Check(
            what, [f"{path} is not inside {root}: give another --out" for path in outside]
        )
    problems: list[str] = []
    notes: list[str] = []
    # If a command writes the document itself, the document is compared as a whole.
    if block.document not in derived.files:
        where = str(block.document)
        problems += text_differences(block.text, derived.text, where, block.line)
    for committed, now in derived.files.items():
        own = file_differences(committed, now)
        problems += own.problems
        notes += own.notes
    made = list(derived.files)
    if not (write and problems):
        return _Check(what, problems, notes, made)
    try:
        _write(block, derived, root)
    except (UsageError, OSError) as error:
        return _Check(what, [f"not written: {error}"], notes, made)
    return _Check(what, (), notes, made, written=problems)


def derive_block(block: Block, scratch: Path) -> Derived:
    """Run the command of a block, with its files in `scratch`; UsageError if it fails."""
    words = _words(block)
    option = _PLACE.get(words[0], "--out")
    place = Path(_last_option(words, option) or ".")
    target = scratch / "out" / (place.name if place.suffix else "")
    target.parent.mkdir(parents=True, exist_ok=True)
    # If an option is given twice, the last one counts.
    elsewhere = [option, str(target), *WRITING[words[0]]] if words[0] in WRITING else []
    done = subprocess.run(
        [sys.executable, "-P", "-m", "resd_bench", *words, *elsewhere],
        cwd=block.document.parent,
        env={**os.environ, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise UsageError(f"{block.command}: {done.stderr.strip() or done.returncode}")
    folder = block.document.parent / (place.parent if place.suffix else place)
    written = [path for path in sorted((scratch / "out").rglob("*")) if path.is_file()]
    return Derived(
        done.stdout,
        {_joined(folder, path.relative_to(scratch / "out")): path for path in written},
    )


def _joined(folder: Path, path: Path) -> Path:
    """`folder/path` without the `.` that `--out .` would leave in it."""
    return Path(os.path.normpath(folder / path))


def _words(block: Block) -> list[str]:
    """The arguments of the block's command; UsageError if it may do more than read records."""
    program, *words = shlex.split(block.command)
    if program != "resd-bench" or not any(_calls(words, name) for name in DERIVING):
        raise UsageError(
            f"{block.document} line {block.line}: {block.command!r} is not run: give resd-bench "
            f"with {', '.join(DERIVING)}"
        )
    if "--" in words:
        raise UsageError(
            f"{block.document} line {block.line}: {block.command!r} is not run: leave out `--`, "
            "after which no option counts"
        )
    return words


def _calls(words: Sequence[str], command: str) -> bool:
    own = command.split()
    return list(words[: len(own)]) == own


def _last_option(words: Sequence[str], name: str) -> str | None:
    found: str | None = None
    for word, after in zip_longest(words, words[1:]):
        if word == name:
            found = after
        elif word.startswith(f"{name}="):
            found = word.removeprefix(f"{name}=")
    return found


def _write(block: Block, derived: Derived, root: Path) -> None:
    """Write what the records give; UsageError if a link below `root` is in the way."""
    for committed in derived.files:
        make_folder(committed.parent, root)
    if block.document not in derived.files:
        text = _text(block.document)
        mark = f"<!-- made by: {block.command} -->\n"
        new = text.replace(f"{mark}{block.text}<!-- end -->", f"{mark}{derived.text}<!-- end -->")
        write_atomically(block.document, new.encode(), root)
    for committed, now in derived.files.items():
        write_atomically(committed, now.read_bytes(), root)


def text_differences(old: str, new: str, where: str, first: int = 1) -> list[str]:
    """Lines that differ, in Markdown tables by row and column; `first` numbers the first line."""
    found: list[str] = []
    header: Sequence[str] = ()
    for number, (a, b) in enumerate(zip_longest(old.splitlines(), new.splitlines()), start=first):
        cells, others = _cells(a), _cells(b)
        # A table begins where the previous line is not part of one.
        header = () if not cells else header or cells
        if a == b:
            continue
        if cells and len(cells) == len(others) == len(header):
            names = [f"{where} line {number}, row {cells[0]!r}, column {name!r}" for name in header]
            found += _differing(names, cells, others)
        else:
            found += _differing([f"{where} line {number}"], [a], [b])
    return _first(found, where)


def _cells(line: str | None) -> list[str]:
    if line is None or not line.startswith("|"):
        return []
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _differing(
    names: Iterable[str], old: Iterable[str | None], new: Iterable[str | None]
) -> list[str]:
    return [
        f"{name}: the file has {_said(a)}, the records give {_said(b)}"
        for name, a, b in zip(names, old, new, strict=True)
        if a != b
    ]


def _said(text: str | None) -> str:
    return "nothing" if text is None else repr(text if len(text) <= 80 else f"{text[:79]}…")


def _first(found: list[str], where: str) -> list[str]:
    more = len(found) - SHOWN
    return found[:SHOWN] + ([f"{where}: {more} more differences"] if more > 0 else [])


def file_differences(committed: Path, now: Path) -> _Check:
    """How a committed file differs from the newly made one."""
    what = str(committed)
    if not committed.is_file():
        # The picture beside it shows the same, in fewer bytes: it may be left out of a repository.
        missing = committed.suffix != ".svg" or not committed.with_suffix(".png").is_file()
        return _Check(what, [f"{committed} is missing: the records give it"] if missing else [])
    try:
        same = reading.read_bytes(committed) == now.read_bytes()
    except (OSError, ValueError) as error:
        return _Check(what, [f"{committed} cannot be read: {error}"])
    if same:
        return _Check(what)
    if committed.suffix == ".csv":
        return _Check(what, _csv_differences(committed, now))
    if committed.suffix in (".svg", ".png"):
        return _figure_differences(committed, now)
    old, new = (_text(path) for path in (committed, now))
    return _Check(what, text_differences(old, new, what))


def _csv_differences(committed: Path, now: Path) -> list[str]:
    try:
        old, new = (_table(path) for path in (committed, now))
    except csv.Error as error:
        return [f"{committed} is not CSV: {error}"]
    if old[:1] != new[:1]:
        return [f"{committed}: its columns are {old[:1]}, the records give {new[:1]}"]
    found = []
    for number, (a, b) in enumerate(zip_longest(old, new), start=1):
        if a is None or b is None or len(a) != len(b):
            lines = [None if row is None else ",".join(row) for row in (a, b)]
            found += _differing([f"{committed} line {number}"], lines[:1], lines[1:])
            continue
        pairs = [(n, x, y) for n, x, y in zip(old[0], a, b, strict=False) if not _same(x, y)]
        found += [
            f"{committed} line {number}, column {name!r}: the file has {x}, the records give {y}"
            for name, x, y in pairs
        ]
    return _first(found, str(committed))


def _table(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(_text(path), newline="")))


def _same(a: str, b: str) -> bool:
    try:
        return a == b or math.isclose(float(a), float(b), rel_tol=_CLOSE)
    except ValueError:
        return False


def _figure_differences(committed: Path, now: Path) -> _Check:
    """Figures of the same version of matplotlib must agree; between versions any line may move."""
    drawn, here = (_drawn_by(path) for path in (committed, now))
    if drawn != here:
        note = f"{committed} was drawn by matplotlib {drawn}, here is {here}: not compared"
        return _Check(str(committed), notes=[note])
    if (
        committed.suffix == ".png"
        and _png_size(committed) == _png_size(now)
        and (_pixels(committed) == _pixels(now))
    ):
        return _Check(str(committed))
    found = [f"{committed}: the figure differs from what the records give"]
    if committed.suffix == ".svg":
        old, new = (_text(path) for path in (committed, now))
        found += text_differences(old, new, str(committed))[:1]
    return _Check(str(committed), found)


def _drawn_by(path: Path) -> str:
    found = re.search(rb"Matplotlib v(?:ersion)?([0-9][0-9.]*)", reading.read_bytes(path))
    return found[1].decode() if found else "of an unknown version"


def _png_size(path: Path) -> bytes:
    """Width and height from the header, since a small file may hold a huge image."""
    return reading.read_bytes(path)[16:24]


def _pixels(path: Path) -> tuple[tuple[int, ...], bytes]:
    from matplotlib.image import imread

    image = imread(path)
    return image.shape, image.tobytes()
