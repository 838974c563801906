"""Execute notebooks and write the .ipynb beside each source: `python notebooks/_execute.py [NAME ...]`.

The source is the .py file (jupytext's percent format); the .ipynb is made from it. Cell ids are
numbers and nothing that changes from run to run is kept, so that equal outputs give equal files.
Left out of the file: stderr, where libraries warn about the machine.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
SECONDS = 3000
"""A cell that takes longer has failed."""


def sources() -> list[Path]:
    """The notebooks' sources, by name."""
    return sorted(HERE.glob("[a-z]*.py"))


def execute(source: Path) -> nbformat.NotebookNode:
    """The notebook of a source with its outputs; CellExecutionError where a cell fails."""
    notebook = jupytext.read(source)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = nbformat.from_dict({})
    place = {"metadata": {"path": str(HERE)}}
    # What a cell prints comes in as many pieces as the machine is slow.
    NotebookClient(
        notebook,
        timeout=SECONDS,
        resources=place,
        record_timing=False,
        coalesce_streams=True,
    ).execute()
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    return notebook


if __name__ == "__main__":
    for path in sources():
        if path.stem in sys.argv[1:] or len(sys.argv) == 1:
            nbformat.write(execute(path), path.with_suffix(".ipynb"))
            print(path.with_suffix(".ipynb").name)
