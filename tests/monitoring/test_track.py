"""Trackers: what they are sent, that nothing leaves the machine, that runs are not disturbed."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench.cli import main
from resd_bench.config import RunConfig
from resd_bench.monitoring.trackers import TensorBoard
from resd_bench.records.log_files import read_log

RUN = [
    *("run", "--env", "toy-say", "--method", "toy-learner", "--model", "scripted"),
    *("--budget", "10ep", "--batch-size", "5", "--eval-samples", "2", "--max-new-tokens", "20"),
    *("--out", "out"),
]
FOLDER = Path("out/toy-say/toy-learner/seed-0")

NO_TENSORBOARD = "TENSORBOARD ABSENT: pip install '.[tensorboard]'"


class Hosted(ModuleType):
    """Stands for `wandb` or `trackio`: their documented calls, written down."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.made: list[dict[str, Any]] = []
        self.sent: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def init(
        self,
        project: str,
        name: str | None = None,
        group: str | None = None,
        config: dict[str, Any] | None = None,
        **more: Any,
    ) -> Hosted:
        self.made.append({"project": project, "name": name, "group": group, **more})
        json.dumps(config)
        return self

    def log(self, data: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.sent.append((step, data))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def place(toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_hosted_tracker_gets_every_update_and_evaluation_in_order(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    service = Hosted(name)
    monkeypatch.setitem(sys.modules, name, service)
    assert main([*RUN, "--track", name, "--seeds", "0,1"]) == 0
    assert len(service.made) == service.finished == 2
    assert service.made[0]["name"] != service.made[1]["name"]
    first = service.sent[: len(service.sent) // 2]
    steps = [step for step, _ in first]
    assert steps == sorted(steps)
    assert set(steps) == {0, 1, 2}
    rows = list(read_log(FOLDER / "metrics.jsonl"))
    sent = {step: numbers for step, numbers in first if "train/success" in numbers}
    assert {step: n["train/success"] for step, n in sent.items()} == {
        row["update"]: row["train/success"] for row in rows
    }
    assert any("eval/per_task_mean@2" in numbers for _, numbers in first)


@pytest.mark.slow
def test_wandb_is_offline_unless_the_environment_says_otherwise(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Hosted("wandb")
    monkeypatch.setitem(sys.modules, "wandb", service)
    main([*RUN, "--track", "wandb"])
    monkeypatch.setenv("WANDB_MODE", "online")
    main([*RUN, "--track", "wandb", "--seed", "1"])
    assert [made["mode"] for made in service.made] == ["offline", "online"]
    assert Path(service.made[0]["dir"]) == FOLDER


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_and_nothing_is_written(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked, *rest: None if asked == name else find(asked)
    )
    assert main([*RUN, "--track", name]) == 2
    assert f"--track {name}" in (printed := capsys.readouterr().err)
    assert "pip install" in printed
    assert list(place.iterdir()) == []


def read_events(folder: Path) -> Any:
    """What TensorBoard itself finds in a folder."""
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason=NO_TENSORBOARD,
    )
    return reader.EventAccumulator(str(folder)).Reload()


def test_tensorboard_reads_what_was_written(place: Path) -> None:
    pytest.importorskip("tensorboard", reason=NO_TENSORBOARD)
    assert main([*RUN, "--track", "tensorboard"]) == 0
    events = read_events(FOLDER / "tensorboard")
    rows = list(read_log(FOLDER / "metrics.jsonl"))
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("train/success")] == [
        (row["update"], row["train/success"]) for row in rows
    ]
    assert [e.step for e in events.Scalars("eval/per_task_mean@2")] == [0, 2]
    assert "env: toy-say" in str(events.Tensors("config/text_summary")[0].tensor_proto)


def test_tensorboard_shows_repeated_updates_of_a_resumed_run_once(
    tmp_path: Path,
) -> None:
    pytest.importorskip("tensorboard", reason=NO_TENSORBOARD)
    config = RunConfig(out=str(tmp_path))
    for first, value in ((1, 0.25), (3, 0.5)):
        writer = TensorBoard(config, first)
        for update in range(first, first + 4):
            writer.send({"loss": value}, update)
        writer.close()
    events = read_events(config.folder() / "tensorboard").Scalars("loss")
    assert [(e.step, e.value) for e in events] == [(1, 0.25), (2, 0.25)] + [
        (update, 0.5) for update in range(3, 7)
    ]


def test_wandb_itself_writes_an_offline_run_into_the_run_folder(place: Path) -> None:
    pytest.importorskip("wandb", reason="WANDB ABSENT: pip install '.[wandb]'")
    assert main([*RUN, "--track", "wandb"]) == 0
    (written,) = (FOLDER / "wandb").glob("offline-run-*")
    (log,) = written.glob("*.wandb")
    assert b"train/success" in log.read_bytes()


def test_trackio_itself_takes_the_arguments_it_is_given() -> None:
    trackio = pytest.importorskip("trackio", reason="TRACKIO ABSENT: pip install '.[trackio]'")
    given = {"project": "p", "name": "n", "group": "g", "config": {}, "resume": "allow"}
    inspect.signature(trackio.init).bind(**given)
    inspect.signature(trackio.log).bind({"a": 1.0}, step=1)
    inspect.signature(trackio.finish).bind()
