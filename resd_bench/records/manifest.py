"""The provenance of a run: code, versions, hardware, tasks and seed streams."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from resd_bench.files.redaction import redact_command
from resd_bench.machine import cores, memory
from resd_bench.models.identity import weights_hash
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
    "gepa",
)

SEED_STREAMS = {
    "tasks": "(seed, tasks, epoch): order of the training tasks, where shuffled",
    "environment": "(seed, env, task, attempt): an attempt's environment",
    "sampler": "(seed, sampler, rollout, update), then turn, prompt and sample",
    "method": "(seed, method, update): what the method itself draws",
    "evaluation": "(seed, eval, task, sample) and (seed, sampler, eval): equal at every checkpoint",
}


def manifest(
    tasks: Iterable[Task],
    threads: int,
    model: str,
    revision: str | None = None,
    identity: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The facts of this process, of the tasks it will use and of the model, as JSON.

    `identity` is the content of the run as hashed by `resd_bench.records.content`.
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
    """SHA-256 of everything that defines and grades a task, but not of its id."""
    text = json.dumps([task.prompt, task.data], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def panel_hash(tasks: Iterable[Task]) -> str:
    """SHA-256 over splits, ids and contents, in order."""
    lines = [f"{task.split} {task.id} {content_hash(task)}" for task in tasks]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@cache
def code_version() -> Mapping[str, Any]:
    """Commit of the repository of this package, and whether it has changes; else {}.

    Looked up once a process: what was imported does not change with the repository.
    """
    here = Path(__file__).resolve().parent
    # A virtual environment may be inside someone else's repository: only tracked code counts.
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
    """Processor, cores and memory that may be used, accelerators, as far as the system tells."""
    has = memory.usable_memory()
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": cores.usable_cores(),
        "memory_GiB": None if has is None else round(has / 2**30, 1),
        "accelerators": _accelerators(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _accelerators() -> Sequence[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
