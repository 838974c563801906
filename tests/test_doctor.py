"""`doctor` says of this machine what is so, line by line."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

import pytest
import torch

from resd_bench import doctor, nano
from resd_bench.cli import main
from resd_bench.policy import loading
from resd_bench.sandbox import Sandbox

CHECKS = {check.name: check for check in doctor.report()}


def test_the_required_parts_work_here() -> None:
    assert {"python", "torch", "threads", "embedded model", "sandbox"} <= set(CHECKS)
    assert all(check.ok for check in CHECKS.values() if check.required)
    assert main(["doctor"]) == 0


def test_it_names_this_python_and_this_torch() -> None:
    assert CHECKS["python"].detail.startswith(platform.python_version())
    assert CHECKS["torch"].detail == torch.__version__
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    told = f"{torch.get_num_threads()} torch threads on {cores} usable cores"
    assert CHECKS["threads"].detail == told
    assert CHECKS["threads"].ok == (torch.get_num_threads() <= (cores or 1))
    assert ("gpu" in CHECKS) == (not torch.cuda.is_available())


def test_every_embedded_model_that_it_calls_packaged_loads_and_no_other() -> None:
    for name in nano.NAMES:
        assert name in CHECKS["embedded model"].detail
        assert (Path(loading.resolve(name)) / "model.safetensors").is_file()
    assert CHECKS["embedded model"].ok
    sizes = [Path(loading.resolve(n), "model.safetensors").stat().st_size for n in nano.NAMES]
    assert f"{sum(sizes) / 2**20:.1f} MiB" in CHECKS["embedded model"].detail


def test_a_model_that_is_not_packaged_is_named_with_what_it_lacks_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(nano.packaged_folder("nano"), weights / "nano")
    (weights / "nano" / "tokenizer.json").unlink()
    monkeypatch.setattr(nano, "packaged_folder", lambda name: weights / name)
    (check,) = [c for c in doctor.report() if c.name == "embedded model"]
    assert not check.ok
    assert "nano lacks tokenizer.json" in check.detail
    assert "nano-rare lacks config.json" in check.detail
    assert "nano pretrain" in check.remedy


def test_the_sandboxs_level_and_layers_are_those_of_a_sandbox_started_here() -> None:
    with Sandbox("process") as box:
        assert CHECKS["sandbox"].detail == f"level {box.level}"
        for layer in box.layers:
            check = CHECKS[f"sandbox: {layer.name}"]
            assert (check.ok, check.detail) == (layer.active, layer.detail)
            assert check.ok or check.remedy


def test_an_extra_is_there_exactly_if_its_distribution_is() -> None:
    for name, (distribution, remedy) in doctor.EXTRAS.items():
        builds = {distribution, doctor.OTHER_BUILDS.get(name, distribution)}
        versions = {_version(build) for build in builds} - {None}
        assert CHECKS[name].ok == bool(versions)
        if versions:
            assert CHECKS[name].detail in versions
        else:
            assert CHECKS[name].detail == "not installed (optional)"
            assert CHECKS[name].remedy == remedy


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def test_a_remedy_stands_under_what_is_missing_and_nowhere_else() -> None:
    checks = [
        doctor.Check("here", True, "1.0", "not needed"),
        doctor.Check("missing", False, "not installed", "pip install it"),
    ]
    lines = doctor.render(checks).splitlines()
    assert lines[0].startswith("ok  here")
    assert lines[1].startswith("--  missing")
    assert lines[2].strip() == "-> pip install it"
    assert len(lines) == 3
