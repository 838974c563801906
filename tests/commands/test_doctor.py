"""`doctor` says of this machine what is so, line by line."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch

from resd_bench import packaged_models, sandbox
from resd_bench.cli import main
from resd_bench.commands import doctor
from resd_bench.plugins import Check
from resd_bench.policy import loading
from resd_bench.sandbox import Sandbox


@cache
def checks() -> Mapping[str, Check]:
    """What the command looks at on this machine, by name."""
    return {check.name: check for check in doctor.report()}


def test_the_required_parts_work_here() -> None:
    assert {"python", "torch", "threads", "embedded model", "sandbox"} <= set(checks())
    assert all(check.ok for check in checks().values() if check.required)
    assert main(["doctor"]) == 0


def test_it_names_this_python_and_this_torch() -> None:
    assert checks()["python"].detail.startswith(platform.python_version())
    assert checks()["torch"].detail == torch.__version__
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    told = f"{torch.get_num_threads()} torch threads on {cores} usable cores"
    assert checks()["threads"].detail == told
    assert checks()["threads"].ok == (torch.get_num_threads() <= (cores or 1))
    assert ("gpu" in checks()) == (not torch.cuda.is_available())


def test_every_embedded_model_that_it_calls_packaged_loads_and_no_other() -> None:
    for name in packaged_models.NAMES:
        assert name in checks()["embedded model"].detail
        assert (Path(loading.local_path(name)) / "model.safetensors").is_file()
    assert checks()["embedded model"].ok
    sizes = [
        Path(loading.local_path(n), "model.safetensors").stat().st_size
        for n in packaged_models.NAMES
    ]
    assert f"{sum(sizes) / 2**20:.1f} MiB" in checks()["embedded model"].detail


def test_a_model_that_is_not_packaged_is_named_with_what_it_lacks_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(packaged_models.packaged_folder("nano"), weights / "nano")
    (weights / "nano" / "tokenizer.json").unlink()
    monkeypatch.setattr(packaged_models, "packaged_folder", lambda name: weights / name)
    (check,) = [c for c in doctor.report() if c.name == "embedded model"]
    assert not check.ok
    assert "nano lacks tokenizer.json" in check.detail
    assert "nano-rare lacks config.json" in check.detail
    assert "nano pretrain" in check.remedy


def test_the_sandboxs_level_and_layers_are_those_of_a_sandbox_started_here() -> None:
    with Sandbox("process") as box:
        assert checks()["sandbox"].detail == f"level {box.level}"
        for layer in box.layers:
            check = checks()[f"sandbox: {layer.name}"]
            assert (check.ok, check.detail) == (layer.active, layer.detail)
            assert check.ok or check.remedy


def test_an_extra_is_there_exactly_if_its_distribution_is() -> None:
    for name, (distribution, remedy) in doctor.EXTRAS.items():
        builds = {distribution, doctor.OTHER_BUILDS.get(name, distribution)}
        versions = {_version(build) for build in builds} - {None}
        assert checks()[name].ok == bool(versions)
        if versions:
            assert checks()[name].detail in versions
        else:
            assert checks()[name].detail == "not installed (optional)"
            assert checks()[name].remedy == remedy


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def test_a_remedy_stands_under_what_is_missing_and_nowhere_else() -> None:
    checks = [
        Check("here", True, "1.0", "not needed"),
        Check("missing", False, "not installed", "pip install it"),
    ]
    lines = doctor.render(checks).splitlines()
    assert lines[0].startswith("ok  here")
    assert lines[1].startswith("--  missing")
    assert lines[2].strip() == "-> pip install it"
    assert len(lines) == 3


# Each check is seen to say yes and to say no.


@dataclass(frozen=True)
class FakeLayer:
    name: str
    active: bool
    detail: str = "as told"


class FakeSandbox:
    """A sandbox of some level, whose walls all stand or none does."""

    stands = True

    def __init__(self, require: str) -> None:
        self.level = "kernel" if self.stands else "process"
        self.layers = [FakeLayer(name, self.stands) for name in doctor.LAYER_REMEDIES]

    def __enter__(self) -> FakeSandbox:
        return self

    def __exit__(self, *told: object) -> None:
        pass


class FallenSandbox(FakeSandbox):
    stands = False


class Gpu:
    name, total_memory = "H200", 139 * 2**30


def versions(found: Mapping[str, str]) -> Callable[[str], str]:
    def version(distribution: str) -> str:
        if distribution not in found:
            raise importlib.metadata.PackageNotFoundError(distribution)
        return found[distribution]

    return version


def arrange(part: str, works: bool, patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a part of the machine work, or not; a sandbox is not started."""
    patch.setattr(sandbox, "Sandbox", FakeSandbox)
    if part == "python":
        patch.setattr(doctor, "OLDEST", (3, 11) if works else (9, 9))
        patch.setattr(doctor, "NEWEST", (9, 9))
    elif part == "torch":
        patch.setitem(sys.modules, "torch", torch if works else None)
    elif part == "threads":
        patch.setattr(torch, "get_num_threads", lambda: 1 if works else 10_000)
    elif part == "gpu":
        patch.setattr(torch.cuda, "is_available", lambda: works)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "get_device_properties", lambda index: Gpu)
    elif part == "embedded model":
        if not works:
            patch.setattr(packaged_models, "packaged_folder", lambda name: folder / name)
    elif part in packaged_models.GGUF_PACKAGES:
        file = folder / "model.gguf"
        file.write_bytes(b"weights")
        digest = hashlib.sha256(b"weights" if works else b"others").hexdigest()
        package = replace(packaged_models.GGUF_PACKAGES[part], sha256=digest)
        patch.setattr(packaged_models, "GGUF_PACKAGES", {part: package})
        patch.setattr(packaged_models.GgufPackage, "find", lambda self: file)
    elif part == "documents":
        patch.setattr(doctor, "PACKAGE", folder / "site-packages/resd_bench")
        patch.setattr(sys, "prefix", str(folder))
        if works:
            (folder / "share/doc/resd-bench").mkdir(parents=True)
            (folder / "share/doc/resd-bench/sweeps.md").write_text("")
    elif part.startswith("sandbox"):
        patch.setattr(sandbox, "Sandbox", FakeSandbox if works else FallenSandbox)
    elif part in doctor.EXTRAS:
        found = {doctor.EXTRAS[part][0]: "1.2.3"} if works else {}
        patch.setattr(importlib.metadata, "version", versions(found))
    else:
        raise KeyError(part)


PARTS = (
    *("python", "torch", "threads", "gpu", "embedded model", "sandbox", "documents"),
    *(f"sandbox: {layer}" for layer in doctor.LAYER_REMEDIES),
    *packaged_models.GGUF_PACKAGES,
    *doctor.EXTRAS,
)


@pytest.mark.parametrize("works", [True, False], ids=["works", "fails"])
@pytest.mark.parametrize("part", PARTS)
def test_a_check_is_ok_exactly_if_what_it_checks_works(
    part: str, works: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arrange(part, works, monkeypatch, tmp_path)
    monkeypatch.setattr(doctor, "installed", lambda group: {})
    shown = f"{part} 0" if (part, works) == ("gpu", True) else part
    (check,) = [check for check in doctor.report() if check.name == shown]
    assert check.ok == works
    assert check.detail
    if not works:
        assert check.remedy
    lines = doctor.render([check]).splitlines()
    assert lines[0].startswith("ok" if works else "--")
    assert len(lines) == (1 if works else 2)


def test_nothing_is_checked_that_is_not_seen_to_work_and_to_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "installed", lambda group: {})
    monkeypatch.setattr(sandbox, "Sandbox", FakeSandbox)
    assert {check.name.removesuffix(" 0") for check in doctor.report()} == set(PARTS)


@pytest.mark.parametrize("part", ["python", "torch", "embedded model", "sandbox", "gpu", "vllm"])
def test_the_exit_code_is_1_exactly_if_a_required_part_fails(
    part: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arrange(part, False, monkeypatch, tmp_path)
    monkeypatch.setattr(doctor, "installed", lambda group: {})
    assert main(["doctor"]) == int(part in ("python", "torch", "sandbox"))
