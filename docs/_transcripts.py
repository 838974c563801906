"""Run examples again, and write what they print into docs/interop.md.

    python docs/_transcripts.py [NAME ...] [--python PATH]

A comment `<!-- transcript: PYTHON examples/NAME.py -->` precedes the block that is written. Left
out: what goes to standard error, such as progress, and the rows that a trainer logs.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/interop.md"
BLOCK = re.compile(
    r"<!-- transcript: (?P<python>\S+) examples/(?P<name>\w+)\.py -->\n```\n(?P<text>.*?)```\n",
    re.DOTALL,
)

LOGGED = re.compile(r"^\{'(?:loss|train_runtime)': .*\n", re.MULTILINE)
"""Rows of a trainer's own log."""


def transcribe(name: str, python: str) -> str:
    """What an example prints, at 80 columns; it runs in the root of the clone."""
    # Others that a Python starts, such as uv, are found next to it.
    path = f"{Path(python).absolute().parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [python, f"examples/{name}.py"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", "PATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return LOGGED.sub("", done.stdout)


def write(page: str, name: str, text: str) -> str:
    """The page with the transcript of `name` replaced."""

    def block(found: re.Match[str]) -> str:
        if found["name"] != name:
            return found[0]
        return found[0].replace(f"```\n{found['text']}```\n", f"```\n{text}```\n")

    return BLOCK.sub(block, page)


def main() -> None:
    """Run the examples that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    known = {found["name"]: found["python"] for found in BLOCK.finditer(PAGE.read_text())}
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--python", help="instead of the Python that the comment names")
    given = parser.parse_args()
    if unknown := set(given.names) - known.keys():
        sys.exit(f"no transcript of {', '.join(sorted(unknown))}: give {', '.join(known)}")
    for name in given.names or known:
        python = given.python or str(ROOT / known[name])
        text = transcribe(name, python)
        PAGE.write_text(write(PAGE.read_text(), name, text))


if __name__ == "__main__":
    main()
