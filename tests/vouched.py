"""Run folders made or changed by a test, with the hashes that a run records of what it wrote."""

from __future__ import annotations

from pathlib import Path

from resd_bench.files.integrity import Extent, sealed, sha256
from resd_bench.records.log_files import lines_of, log_file
from resd_bench.records.recorder import LOGS, files_of, read_json, write_json


def vouch(folder: Path) -> Path:
    """Say in the `status.json` of a finished run that its files are what they are now."""
    contents = {name: _content(folder / name) for name in LOGS}
    logs = {
        name: Extent(content.count(b"\n"), sha256(content)) for name, content in contents.items()
    }
    status = {"state": "finished", **read_json(folder / "status.json")}
    write_json(folder / "status.json", sealed({**status, "files": files_of(folder, logs)}))
    return folder


def _content(log: Path) -> bytes:
    """What a log holds in whatever form; nothing where there is none."""
    path = log_file(log)
    return b"" if path is None else b"".join(lines_of(path))
