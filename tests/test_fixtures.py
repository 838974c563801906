"""What tests compare with is in the repository, whole, and says where it is from."""

from __future__ import annotations

import ast
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import FIXTURES, MOST_CPU_S, too_slow
from tests.places import ROOT

SUMS = FIXTURES / "SHA256SUMS"
README = (FIXTURES / "README.md").read_text(encoding="utf-8")
DATA = sorted(
    path.relative_to(FIXTURES).as_posix()
    for path in FIXTURES.rglob("*")
    if path.is_file() and path != SUMS and path.suffix != ".md"
)
HERE = Path(__file__).name
TEXTS = {".cfg", ".css", ".ipynb", ".js", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
TOP = ("README.md", "CONTRIBUTING.md", "pyproject.toml")
FOLDERS = (
    ".ci",
    "baselines",
    "benchmarks",
    "docs",
    "envs",
    "notebooks",
    "resd_bench",
    "results",
    "runs",
    "tests",
)


def test_every_fixture_is_here_and_as_it_was_recorded() -> None:
    lines = [line.split(maxsplit=1) for line in SUMS.read_text(encoding="utf-8").splitlines()]
    recorded = {name.removeprefix("./"): digest for digest, name in lines}
    assert sorted(recorded) == DATA
    for name, digest in recorded.items():
        assert hashlib.sha256((FIXTURES / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("name", DATA)
def test_the_provenance_and_licence_of_every_fixture_are_told(name: str) -> None:
    rows = [re.findall(r"[^|]+", line) for line in README.splitlines() if line.startswith("| `")]
    told = [cells for cells in rows if name.startswith(cells[0].strip(" `"))]
    assert len(told) == 1, name
    assert len(told[0]) == 4
    assert all(len(cell.strip()) > 3 for cell in told[0])


def test_every_fixture_is_small() -> None:
    sizes = [(FIXTURES / name).stat().st_size for name in DATA]
    assert max(sizes) < 400_000
    assert sum(sizes) < 2_000_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["envs/test_extract.py"], "No such file or directory"),
        (["sandbox/test_corpus.py", "sandbox/world.py"], "Empty parameter set"),
    ],
)
def test_a_test_whose_fixture_is_missing_fails(tmp_path: Path, files: list[str], said: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("conftest.py", "places.py", *files):
        (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests" / name)
    options = ["-q", "-p", "no:cacheprovider", "-k", "reference or corpus"]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode in (1, 2), done.stdout
    assert said in done.stdout
    assert not re.search("passed|skipped", done.stdout.splitlines()[-1]), done.stdout


def own_texts() -> Iterator[Path]:
    """What people read and machines run; neither recorded data nor this file."""
    yield from (ROOT / name for name in TOP)
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            inside = FIXTURES not in path.parents and path.name != HERE
            if path.suffix in TEXTS and inside and path.is_file():
                yield path


OUTSIDE = re.compile(r"\b(?:ROOT|fixtures|FIXTURES)\.parent\b|\.\./shared\b|\bshared/fixtures\b")
CLIMB = re.compile(r"(?<![\w./])(?:\.\./)+[\w.-]*")


@pytest.mark.slow
def test_no_text_names_a_folder_outside_the_repository() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in own_texts()}
    assert len(texts) > 300
    for path, text in texts.items():
        assert (found := OUTSIDE.search(text)) is None, (path, found)
        assert str(ROOT) not in text, path
        if ROOT / "tests" not in path.parents:  # where paths that lead out are tried on purpose
            for climb in CLIMB.findall(text):
                assert (path.parent / climb).resolve().is_relative_to(ROOT), (path, climb)


def skips(path: Path) -> Iterator[tuple[int, str]]:
    """The line of every skip in a file and the source of its reason; empty where it has none."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {
        target.id: ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr in {"skip", "skipif", "importorskip"}:
            given = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
            if node.func.attr == "skip":
                given += node.args
            reason = ast.unparse(given[0]) if given else ""
            yield node.lineno, named.get(reason, reason)


REMEDY = re.compile(r"(pip|apt) install ")
OF_THE_MACHINE = re.compile(
    r"NO SANDBOX|NOT TESTED|DOES NOT RUN|NO GLOO|NOT GLIBC|Linux only|Gymnasium 1\.4|"
    r"has no oracle|declares that chance|machine code of x86_64|NO /proc|no sparse file"
)
"""Reasons that nothing installed would mend; they say themselves what is the matter."""


@pytest.mark.slow
def test_a_skip_says_what_to_install_or_what_the_machine_lacks() -> None:
    found = [
        (path, line, reason)
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.name != HERE
        for line, reason in skips(path)
    ]
    assert len(found) > 20
    for path, line, reason in found:
        assert REMEDY.search(reason) or OF_THE_MACHINE.search(reason), (path, line, reason)


def test_a_test_that_takes_long_is_marked_slow() -> None:
    assert too_slow(MOST_CPU_S + 0.1, marked=False) == (
        "it took 5.1 processor seconds: mark it slow, or make it faster"
    )
    assert too_slow(MOST_CPU_S, marked=False) is None
    assert too_slow(1000.0, marked=True) is None


@pytest.mark.slow
def test_a_slow_test_without_its_mark_fails(tmp_path: Path) -> None:
    for name in ("conftest.py", "places.py"):
        (tmp_path / "tests").mkdir(exist_ok=True)
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests" / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    burn = "    while time.process_time() - began < 6:\n        pass\n"
    body = f"    began = time.process_time()\n{burn}"
    text = "import time, pytest\n\ndef test_long():\n" + body
    text += "\n@pytest.mark.slow\ndef test_marked():\n" + body
    (tmp_path / "tests/test_long.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "mark it slow" in done.stdout
