"""Which modules a zygote preloads, and which zygote a program needs.

Every page that a zygote holds makes each of its children more expensive, so there are two: a full
one, with the packages and most of the standard library, and a light one, with what short programs
import. Which one a program gets affects its cost and nothing it can see: in the light one the rest
of the standard library is imported from disk. A program that mentions anything that cannot be
imported there, or that would not start in the same state, gets the full one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

FULL = tuple(
    """
abc argparse array ast asyncio atexit base64 binascii bisect bz2 calendar cmath codecs collections
collections.abc colorsys concurrent.futures concurrent.futures.thread contextlib contextvars copy
copyreg csv ctypes dataclasses datetime decimal difflib dis doctest email encodings.ascii
encodings.cp437 encodings.idna encodings.latin_1 encodings.utf_16 enum errno fcntl fnmatch fractions
functools gc genericpath getpass glob graphlib gzip hashlib heapq hmac html html.parser inspect io
ipaddress itertools json json.tool keyword linecache locale logging lzma marshal math mmap numbers
operator optparse os os.path pathlib pickle platform pprint queue random re reprlib resource sched
secrets select selectors shlex shutil signal site socket stat statistics string stringprep struct
subprocess symtable sys sysconfig tempfile textwrap threading time timeit token tokenize traceback
types typing unicodedata unittest unittest.mock urllib.parse uuid warnings weakref
xml.etree.ElementTree zipfile zlib zoneinfo _strptime _sqlite3 _ssl pyexpat _sitebuiltins
""".split()  # noqa: SIM905
)
"""Imported before the forks: fast everywhere, and all there is if no file can be opened."""
LIGHT = tuple(
    """
bisect cmath collections collections.abc contextlib copy functools heapq itertools json math
operator os re string sys time types typing
""".split()  # noqa: SIM905
)
"""The same for the light zygote. `random` is left out: it reseeds itself at every fork."""
SUBMODULES = {
    "numpy": (
        "numpy.fft",
        "numpy.linalg",
        "numpy.ma",
        "numpy.polynomial",
        "numpy.random",
    )
}
"""Parts of packages that are loaded lazily."""

_LIGHT_NAMES = frozenset(name.partition(".")[0] for name in (*LIGHT, "__future__"))
_HEAVY_WORDS = ("random", "statistics", "__import__", "importlib", "import_module")
"""Modules that start in a seeded state, and ways to import modules without naming them."""
_IMPORT = re.compile(r"\bfrom[ \t]++(\w++)[\w.]*+[ \t]++import\b|\bimport[ \t]+([^\n;#]++)")
_NAME = re.compile(r"[ \t]*+(\w*+)")


def is_light(code: str, packages: Sequence[str]) -> bool:
    """Whether the light zygote is enough for a program."""
    # Identifiers in other scripts may mean ASCII ones.
    if not code.isascii() or any(word in code for word in (*packages, *_HEAVY_WORDS)):
        return False
    return all(_LIGHT_NAMES.issuperset(_imported(match)) for match in _IMPORT.finditer(code))


def _imported(match: re.Match[str]) -> list[str]:
    """The top-level modules that a match imports."""
    if match[1]:
        return [match[1]]
    return [name[1] for name in map(_NAME.match, match[2].split(",")) if name]
