"""The schemas describe what runs write, and the document what the schemas say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench.cli import main
from resd_bench.config import resolve
from resd_bench.errors import UsageError
from resd_bench.jobs.run import run
from resd_bench.records import schema
from resd_bench.records.archive import keep
from resd_bench.records.find_runs import find_runs
from resd_bench.records.log_files import log_file, read_log
from resd_bench.records.recorder import read_json
from resd_bench.records.run_files import RunFiles, run_folders
from resd_bench.records.runs import load_run
from resd_bench.records.schema import config_schema
from resd_bench.report.verify import blocks
from tests.places import ROOT
from tests.vouched import vouch

jsonschema = pytest.importorskip("jsonschema", reason="JSONSCHEMA ABSENT: pip install '.[dev]'")

COMMITTED = run_folders(ROOT / "results")
FIRST = {folder.parent: folder for folder in reversed(COMMITTED)}
"""The run of the least seed of each variant."""
LOGS = {"metrics": "metrics.jsonl", "evals": "evals.jsonl", "episodes": "episodes.jsonl"}
FIELDS_OF_PLUGINS = (
    *(
        "method_options",
        "env_options",
        "engine_options",
        "packages",
        "identity",
        "seed_streams",
        "sessions",
    ),
    "files",
)
"""Objects whose fields are names of others' choosing, or stand elsewhere in the schema."""


def records(
    folder: Path, most: int | None = None
) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    """The records of a run folder, whole or kept, with the names of their schemas.

    Of each log all rows, or the first and last `most`, and with 0 no log is read. Files that have
    hashes on record are held against them; `results verify` reads every row of the others.
    """
    files = RunFiles.at(folder)
    yield "config", [files.settings()]
    for name in ("manifest", "status", "summary"):
        yield name, [read_json(folder / f"{name}.json")]
    if most != 0 and (said := files.answers()):
        yield "answers", said[:most]
    for name, file in LOGS.items() if most != 0 else ():
        found = log_file(folder / file)
        kept = name == "episodes" and found is not None and found.name != file
        lines = list(files.lines(file))
        if most is not None and len(lines) > 2 * most:
            lines = lines[:most] + lines[-most:]
        yield f"kept_{name}" if kept else name, list(map(json.loads, lines))


@cache
def validator(name: str) -> Any:
    return jsonschema.Draft202012Validator(schema.load(name))


def check(folder: Path, most: int | None = None) -> dict[str, int]:
    """Validate the records of a run, see `records`; how many there are of each kind."""
    counts = {}
    for name, rows in records(folder, most):
        for row in rows:
            errors = validator(name).iter_errors(row)
            wrong = [f"{list(e.absolute_path)}: {e.message}" for e in errors]
            assert not wrong, (folder, name, wrong)
        counts[name] = len(rows)
    return counts


@pytest.fixture(scope="module")
def nano_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two updates of RESD with the embedded model."""
    flags = {"budget": "2upd", "batch_size": 2, "max_new_tokens": 12, "eval_tasks": 2}
    flags |= {"eval_samples": 2, "out": str(tmp_path_factory.mktemp("runs"))}
    return run(resolve({"method": "resd", "env": "manufactoria-has"}, flags)).folder


@pytest.mark.parametrize("name", schema.SCHEMAS)
def test_a_schema_is_one_and_says_its_name_and_version(name: str) -> None:
    own = schema.load(name)
    jsonschema.Draft202012Validator.check_schema(own)
    assert own["$id"] == f"urn:resd-bench:record:{schema.VERSION}:{name}"


@pytest.mark.slow
def test_what_a_run_of_the_embedded_model_writes_fits(nano_run: Path) -> None:
    counts = check(nano_run)
    assert counts["metrics"] == 2
    assert counts["episodes"] == 4
    assert counts["evals"] == 2 * 4
    assert read_json(nano_run / "manifest.json")["schema_version"] == schema.VERSION


@pytest.mark.parametrize("env", ["toy-count", "toy-crash"])
def test_runs_of_several_turns_and_failing_environments_fit(
    toy: ModuleType, tmp_path: Path, env: str
) -> None:
    flags = {"budget": "20ep", "batch_size": 5, "eval_samples": 2, "max_new_tokens": 20}
    named = {"env": env, "method": "toy-learner", "model": "scripted", "out": str(tmp_path)}
    folder = run(resolve({**named, **flags})).folder
    assert check(folder)["episodes"] == 20


def test_every_field_that_a_run_writes_is_explained(nano_run: Path) -> None:
    for name, rows in records(nano_run):
        known = {field.name for field in schema.fields(schema.load(name))}
        # Rows of `answers` are read together with what was measured.
        known |= {f.name for f in schema.fields(schema.load("evals")) if name == "answers"}
        named = {field for row in rows for field in _names(row)}
        by_pattern = ("resd/", "fault/")
        unknown = {field for field in named - known if not field.startswith(by_pattern)}
        unknown = {field for field in unknown if "per_t" not in field}
        assert not unknown, f"{name}: explain {unknown} in resd_bench/schema/{name}.json"


def _names(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield f"{prefix}{key}"
            if key not in FIELDS_OF_PLUGINS:
                yield from _names(inner, f"{prefix}{key}.")
    elif isinstance(value, list):
        for item in value:
            yield from _names(item, f"{prefix.removesuffix('.')}[].")


def test_there_are_committed_records() -> None:
    """Their tests are made from what is found, so that they could be none."""
    assert len(COMMITTED) > 2300
    assert len(FIRST) > 570


@pytest.mark.slow
@pytest.mark.parametrize("folder", COMMITTED, ids=lambda p: str(p.relative_to(ROOT / "results")))
def test_committed_records_fit(folder: Path) -> None:
    # Runs of a variant differ in their seed, so that the logs of one tell of all.
    if folder == FIRST[folder.parent]:
        assert check(folder, most=8)["evals"] > 0
    else:
        assert check(folder, most=0) == {"config": 1, "manifest": 1, "status": 1, "summary": 1}


@pytest.mark.slow
def test_a_record_that_does_not_fit_is_found(nano_run: Path) -> None:
    row = dict(next(read_log(nano_run / "evals.jsonl")))
    assert validator("evals").is_valid(row)
    for wrong in ({"success": 2}, {"stop": "crash"}, {"update": 1.5}, {"task": None}):
        assert not validator("evals").is_valid(row | wrong), wrong


def test_a_kept_run_fits_and_its_episodes_say_what_the_whole_ones_do(
    nano_run: Path, tmp_path: Path
) -> None:
    [place] = keep(find_runs([str(nano_run)]), tmp_path)
    assert check(place, most=50)["kept_episodes"] == 4
    whole, kept = (list(load_run(folder).training()) for folder in (nano_run, place))
    for name in ("update", "task", "attempt", "success", "score", "stop"):
        assert [row[name] for row in kept] == [row[name] for row in whole]
    assert sum(row["tokens"] for row in kept) == load_run(nano_run).metrics[-1]["sampled_tokens"]


def test_records_of_a_later_version_are_refused(nano_run: Path, tmp_path: Path) -> None:
    [place] = keep(find_runs([str(nano_run)]), tmp_path)
    manifest = read_json(place / "manifest.json")
    (place / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    vouch(place)
    with pytest.raises(UsageError, match="records of version 99, and this resd-bench reads up to"):
        load_run(place)
    del manifest["schema_version"]
    (place / "manifest.json").write_text(json.dumps(manifest))
    vouch(place)
    assert load_run(place).points


def test_the_schema_of_settings_is_up_to_date() -> None:
    assert config_schema.PLACE.read_text(encoding="utf-8") == config_schema.text(), (
        "run: python -m resd_bench.records.schema.config_schema"
    )


def test_the_document_holds_every_schema_as_it_is() -> None:
    found = blocks(ROOT / "docs/records.md")
    assert [block.command.split()[-1] for block in found] == list(schema.SCHEMAS)
    for block in found:
        name = block.command.removeprefix("resd-bench results schema ")
        assert block.text == schema.records_page(schema.load(name)) + "\n", (
            "run: resd-bench results verify docs --write"
        )


def test_the_command_prints_schemas(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "schema", "evals", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == schema.load("evals")
    assert main(["results", "schema", "evalz"]) == 2
    assert "Did you mean 'evals'" in capsys.readouterr().err
