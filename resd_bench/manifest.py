"""What made a run: code, versions, hardware, tasks and seed streams."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from resd_bench import nano
from resd_bench.integrity import cached_sha256
from resd_bench.redaction import redact_command
from resd_bench.types import Task

PACKAGES = (
    "resd-bench",
    "torch",
    "transformers",
    "tokenizers",
    "gymnasium",
    "numpy",
    "scipy",
    "vllm",
    "peft",
    "accelerate",
)

SEED_STREAMS = {
    "tasks": "(seed, tasks, epoch): order of the training tasks, where shuffled",
    "environment": "(seed, env, task, attempt): an attempt's environment",
    "sampler": "(seed, sampler, rollout, update), then turn, prompt and sample",
    "method": "(seed, method, update): what the method itself draws",
    "evaluation": "(seed, eval, task, sample) and (seed, sampler, eval): equal at every checkpoint",
}


MOST_HASHED = 2**30
"""Bytes of weights beyond which they are not hashed: reading them would take longer than a minute
on slow disks."""


def manifest(
    tasks: Iterable[Task],
    threads: int,
    model: str,
    revision: str | None = None,
    identity: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The facts of this process, of the tasks it will use and of the model, as JSON.

    `identity` is what `resd_bench.identity` says the run is about.
    """
    return {
        "code": code_version(),
        "command": redact_command([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "hardware": hardware(),
        "threads": threads,
        "task_panel_sha256": panel_hash(tasks),
        "weights_sha256": weights_hash(model, revision),
        "identity": dict(identity or {}),
        "seed_streams": SEED_STREAMS,
    }


def content_hash(task: Task) -> str:
    """SHA-256 of what poses and marks a task, whatever it is called."""
    text = json.dumps([task.prompt, task.data], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def panel_hash(tasks: Iterable[Task]) -> str:
    """SHA-256 over splits, ids and contents, in order."""
    lines = [f"{task.split} {task.id} {content_hash(task)}" for task in tasks]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def weights_hash(model: str, revision: str | None = None) -> str | None:
    """SHA-256 of the weights that `model` starts from; None where they are on a hub, or large.

    Of a GGUF file it is the file's own; of one in a package, the one that loading insists on.
    """
    if model in nano.GGUF_PACKAGES:
        return nano.GGUF_PACKAGES[model].sha256
    if (file := nano.gguf_file(model, revision)) is not None:
        return cached_sha256(file)
    folder = nano.local_folder(model)
    files = sorted(folder.glob("*.safetensors")) if folder else []
    stats = [(str(file), own.st_size, own.st_mtime_ns) for file in files for own in [file.stat()]]
    if not files or sum(size for _, size, _ in stats) > MOST_HASHED:
        return None
    return _hash_of(tuple(stats))


@cache
def _hash_of(stats: tuple[tuple[str, int, int], ...]) -> str:
    """SHA-256 of files; again only where one has changed."""
    digest = hashlib.sha256()
    for path, _, _ in stats:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def code_version() -> dict[str, Any]:
    """Commit of the repository that holds this package, and whether it has changes; else {}."""
    here = Path(__file__).resolve().parent
    # A virtual environment may lie inside someone else's repository: only tracked code counts.
    if _git(here, "ls-files", "--error-unmatch", "manifest.py") is None:
        return {}
    sha = _git(here, "rev-parse", "HEAD")
    changes = _git(here, "status", "--porcelain", "--untracked-files=no")
    return {} if sha is None else {"sha": sha, "dirty": bool(changes)}


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and accelerators, as far as the system says."""
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_GiB": _memory(),
        "accelerators": _accelerators(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _accelerators() -> Sequence[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
