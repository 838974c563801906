"""Notebooks run from top to bottom, and what is committed was made from their sources."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from tests.places import ROOT

pytestmark = pytest.mark.slow


REASON = "JUPYTEXT, NBFORMAT, NBCLIENT OR IPYKERNEL ABSENT: pip install '.[dev]'"
jupytext = pytest.importorskip("jupytext", reason=REASON)
nbformat = pytest.importorskip("nbformat", reason=REASON)
pytest.importorskip("nbclient", reason=REASON)
pytest.importorskip("ipykernel", reason=REASON)

FOLDER = ROOT / "notebooks"
SOURCES = sorted(FOLDER.glob("[a-z]*.py"))
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
PLACE = re.compile(r"(?:/[\w.+-]+)+")
"""Paths and ids of temporary files."""
SHOWS = {
    "an_environment_by_hand": ("reward 0.0", "passed 26 of 28", "reward 1.0", "too high"),
    "one_resd_step": ("lesson:", "teacher:"),
    "reading_results": ("better", "worse"),
    "write_your_own_environment": ("keeps its promises", "of their own tasks"),
    "write_your_own_method": ("ZeroDivisionError", "keeps its promises", "seed 1: finished"),
}
"""What the outputs of each hold, whatever machine made them."""


def execute(source: Path) -> Any:
    """Execute a notebook as `notebooks/_execute.py` does."""
    spec = importlib.util.spec_from_file_location("_execute", FOLDER / "_execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.execute(source)


def texts(notebook: Any) -> str:
    """Everything a notebook shows as text."""
    shown = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shown += [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
    return "\n".join(shown)


def is_alike(one: str, other: str) -> bool:
    """Whether two texts are equal but for what differs between machines: places, and rounding."""
    sides = [NUMBER.split(PLACE.sub("", text)) for text in (one, other)]
    if sides[0] != sides[1]:
        return False
    numbers = [[float(n) for n in NUMBER.findall(PLACE.sub("", text))] for text in (one, other)]
    return all(abs(a - b) <= 0.02 + 0.02 * abs(a) for a, b in zip(*numbers, strict=True))


def test_outputs_are_stale_where_words_or_numbers_differ() -> None:
    assert is_alike("in /a/b: 0.123 of 1e3", "in /c/d/e: 0.125 of 1e3")
    for other in ("in /a: 0.123 of 900", "at /a: 0.123 of 1000", "in /a: 0.123 of 1e3 1"):
        assert not is_alike("in /a/b: 0.123 of 1e3", other)


def test_what_a_slow_cell_prints_is_one_output(tmp_path: Path) -> None:
    source = tmp_path / "slow.py"
    source.write_text(
        "# %%\nimport time\nprint('a', flush=True)\ntime.sleep(1)\nprint('b')\n", encoding="utf-8"
    )
    (cell,) = execute(source).cells
    assert [output["text"] for output in cell.outputs] == ["a\nb\n"]


def test_every_notebook_is_known_here() -> None:
    assert {source.stem for source in SOURCES} == set(SHOWS)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_what_is_committed_has_the_cells_of_its_source_and_their_outputs(source: Path) -> None:
    committed = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(committed)
    cells = [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
    again = f"run: python notebooks/_execute.py {source.stem}"
    assert [(cell.cell_type, cell.source) for cell in committed.cells] == cells, again
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), again
    for text in SHOWS[source.stem]:
        assert text in texts(committed), (text, again)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_it_runs_and_shows_what_it_announces(source: Path) -> None:
    notebook = execute(source)
    for text in SHOWS[source.stem]:
        assert text in texts(notebook), text
    committed = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    again = f"the committed outputs are stale, run: python notebooks/_execute.py {source.stem}"
    assert is_alike(texts(committed), texts(notebook)), again
    kinds = {
        name
        for cell in notebook.cells
        for o in cell.get("outputs", [])
        for name in o.get("data", {})
    }
    assert "image/png" in kinds
