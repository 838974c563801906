"""Whatever is damaged in a finished run, a reader says the right numbers or refuses."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.jobs.evaluate import score_run
from resd_bench.jobs.replay import replay
from resd_bench.jobs.run import run
from resd_bench.records.archive import keep
from resd_bench.records.find_runs import find_runs
from resd_bench.records.runs import load_run
from resd_bench.report.comparisons import compare, group_runs
from resd_bench.report.eval_table import evaluations_table, find_evaluations
from resd_bench.report.html.build import write_report
from resd_bench.report.markdown import as_markdown
from resd_bench.report.metric_table import detail_table
from resd_bench.report.tables import compare_table
from resd_bench.reproduce.match_records import Records
from resd_bench.sweep import content, scheduler
from resd_bench.sweep.definition import Trial
from resd_bench.sweep.launch import LocalLauncher
from resd_bench.sweep.progress_table import summary_table
from resd_bench.sweep.scheduler import Scheduler, make_jobs

SETTINGS = {
    "env": "toy-count",
    "eval_also": "toy-say",
    "eval_validation": 2,
    "method": "toy-learner",
    "model": "scripted",
    "budget": "20ep",
    "batch_size": 5,
    "eval_every": 2,
    "eval_samples": 2,
    "max_new_tokens": 20,
    "checkpoint_every": 1,
    "trace": 2,
}
Reader = Callable[[RunConfig, Path], str]
"""What a command says of the run of a configuration; it may write to the folder."""


def says_compare(config: RunConfig, scratch: Path) -> str:
    groups = group_runs(find_runs([config.out]))
    rows = compare(groups, 20)
    tables = compare_table(rows, "", 20), detail_table(groups, rows, 20)
    return "\n".join(map(as_markdown, tables))


def says_report(config: RunConfig, scratch: Path) -> str:
    groups = group_runs(find_runs([str(config.folder() / "evals.jsonl")]))
    return write_report(groups, 20, "episodes", scratch / "report.html").read_text()


def says_show(config: RunConfig, scratch: Path) -> str:
    places = [config.out, str(config.folder() / "evals.jsonl")]
    return "".join(as_markdown(evaluations_table(find_evaluations([place]))) for place in places)


def says_keep(config: RunConfig, scratch: Path) -> str:
    shutil.rmtree(scratch / "kept", ignore_errors=True)
    [place] = keep(find_runs([config.out]), scratch / "kept")
    kept = load_run(place)
    return f"{kept.points} {kept.extra} {list(kept.training())} {kept.settings['seed']}"


def says_eval(config: RunConfig, scratch: Path) -> str:
    scored = score_run(config.folder(), None, {})
    return f"{scored.what} {scored.point}"


def says_trace(config: RunConfig, scratch: Path) -> str:
    trace = replay(config.folder(), 3, 4)
    # The checkpoint that it started from is reported and changes nothing.
    del trace["weights"]["checkpoint"]
    return json.dumps(trace)


def says_reproduce(config: RunConfig, scratch: Path) -> str:
    data = Records.scan([Path(config.out)]).of(config)
    return "no record" if data is None else str(data.points)


def says_sweep(config: RunConfig, scratch: Path) -> str:
    jobs = make_jobs([Trial(0, "v", config)], scratch / "jobs")
    Scheduler(jobs, LocalLauncher(1, lambda path: ["false"]), retries=0, period=0).run()
    if jobs[0].state != "there already":
        raise UsageError(jobs[0].reason)
    return as_markdown(summary_table(jobs))


def says_run(config: RunConfig, scratch: Path) -> str:
    return run(config, resume=True).state + str(load_run(config.folder()).points)


READERS: dict[str, Reader] = {
    name.removeprefix("says_"): reader
    for name, reader in list(globals().items())
    if name.startswith("says_")
}


@pytest.fixture
def finished(toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A finished run with every kind of file."""
    # In this process, which has the plug-ins of the test and starts faster.
    monkeypatch.setattr(
        scheduler,
        "changed",
        lambda paths: {Path(p): why for p, why in content._look(map(str, paths)).items()},
    )
    config = resolve(SETTINGS, {"out": str(tmp_path / "out")})
    assert run(config).state == "finished"
    return config


def told(reader: Reader, config: RunConfig, scratch: Path) -> str | None:
    """What a reader says; None where it refuses, which is said in words."""
    try:
        return reader(config, scratch)
    except UsageError:
        return None
    except Exception as error:
        return f"a traceback: {error!r}"


def files(config: RunConfig) -> list[Path]:
    found = (path for path in config.folder().rglob("*") if path.is_file())
    return sorted(path for path in found if path.stat().st_size)


def flip(content: bytes, rng: random.Random) -> bytes:
    """One bit turned."""
    turned = bytearray(content)
    turned[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(turned)


def cut(content: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return content[: rng.randrange(len(content))]


def cut_at_line(content: bytes, rng: random.Random) -> bytes:
    """Whole lines are missing at the end."""
    lines = content.splitlines(keepends=True)
    return b"".join(lines[: rng.randrange(len(lines))])


def drop_line(content: bytes, rng: random.Random) -> bytes:
    """A line is missing."""
    lines = content.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def repeat_line(content: bytes, rng: random.Random) -> bytes:
    """A line occurs twice."""
    lines = content.splitlines(keepends=True)
    return b"".join([*lines, lines[rng.randrange(len(lines))]])


def nul(content: bytes, rng: random.Random) -> bytes:
    """A line begins with a NUL."""
    lines = content.splitlines(keepends=True)
    place = rng.randrange(len(lines))
    lines[place] = b"\0" + lines[place][1:]
    return b"".join(lines)


def empty(content: bytes, rng: random.Random) -> bytes:
    """Nothing is left."""
    return b""


KINDS = (cut, cut_at_line, drop_line, repeat_line, nul, empty)


def check_damage(
    config: RunConfig,
    scratch: Path,
    kinds: Sequence[Callable[[bytes, random.Random], bytes]],
    rng: random.Random,
) -> None:
    """Do each kind of damage to every file, one at a time, and ask every reader."""
    right = {name: told(reader, config, scratch) for name, reader in READERS.items()}
    assert None not in right.values(), right
    wrong = []
    for path in files(config):
        content = path.read_bytes()
        for kind in kinds:
            damaged = kind(content, rng)
            path.write_bytes(damaged)
            said = {name: told(reader, config, scratch) for name, reader in READERS.items()}
            other = [name for name in READERS if said[name] not in (right[name], None)]
            if other and damaged != content:
                wrong.append((path.name, kind.__name__, other))
            path.write_bytes(content)
    assert not wrong


@pytest.mark.slow
def test_no_damage_to_any_file_changes_a_number(finished: RunConfig, tmp_path: Path) -> None:
    check_damage(finished, tmp_path, [flip] * 5 + [*KINDS], random.Random(1))
