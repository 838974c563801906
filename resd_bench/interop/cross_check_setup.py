"""What `cross-check trl` runs: settings, the other Python, the jobs that it gets.

TRL runs in a process of its own, by the Python of an environment that has both packages; one
process does all jobs, since importing TRL takes longer than a step of a small model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from resd_bench import plugins
from resd_bench.agent import Agent, Policy
from resd_bench.config import RunConfig, method_config, resolve
from resd_bench.env import TextEnv
from resd_bench.errors import UsageError, reason_of
from resd_bench.files.writing import make_folder
from resd_bench.jobs.replay import Tell
from resd_bench.jobs.run import batch_of, step_of
from resd_bench.models import small
from resd_bench.policy import loading
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.types import (
    Completion,
    Feedback,
    Group,
    Step,
    Task,
    Trajectory,
    Turn,
    user,
)

Method = Literal["grpo", "sft"]
METHODS: tuple[Method, ...] = get_args(Method)
TRL_INSTALL = "python3 -m venv trl-venv && trl-venv/bin/pip install -c constraints.txt -e . trl"
TrlJobs = Mapping[Path, Mapping[str, Any]]
"""What TRL is to do, by the folder where it leaves what came out."""
TOLD = "told.json"
"""The last file that a job of TRL leaves."""
POLL = 0.5
"""Seconds between two looks at what TRL has left."""


@dataclass(frozen=True)
class CrossCheck:
    """What is compared, and with how much effort."""

    python: str = sys.executable
    """Python of an environment with TRL and this package."""
    env: str = "manufactoria-has"
    model: str = "nano-common"
    seeds: Sequence[int] = (0, 1, 2)
    updates: int = 8
    """Updates of each run."""
    tasks: int = 8
    """Tasks of a GRPO update."""
    group_size: int = 8
    demonstrations: int = 16
    """Answers of an SFT update."""
    eval_tasks: int = 64
    eval_samples: int = 2
    margin: float = 0.1
    """Held-out success is the same where it surely differs by less."""


def check_python(python: str) -> str:
    """The version of TRL that `python` has; UsageError without TRL or this package."""
    asked = "import trl, resd_bench; print(trl.__version__)"
    try:
        told = subprocess.run([python, "-c", asked], capture_output=True, text=True, timeout=300)
    except OSError as error:
        raise UsageError(
            f"--python {python}: {reason_of(error)}. Make an environment: {TRL_INSTALL}"
        ) from None
    if told.returncode:
        last = (told.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(
            f"{python} cannot import TRL and resd-bench ({last}). Make an environment that has "
            f"both, in a clone: {TRL_INSTALL}; then give --python trl-venv/bin/python"
        )
    if not told.stdout.strip():
        raise UsageError(f"{python} is not a Python. Make an environment: {TRL_INSTALL}")
    return told.stdout.strip()


def config_of(check: CrossCheck, method: Method, seed: int) -> RunConfig:
    """The settings of both: those of the method, without a nucleus or a correction for it."""
    size = check.tasks if method == "grpo" else check.demonstrations
    # The batch is this check's own, to which a rate for the method's usual batch does not apply.
    general = small.settings_of(check.model)
    rate: dict[str, Any] = {
        key: general[key] for key in ("learning_rate", "warmup") if key in general
    }
    own = {"importance_cap": None} if method == "grpo" else {"buffer_size": size}
    flags = {
        **rate,
        "env": check.env,
        "model": check.model,
        "method": method,
        "seed": seed,
        "batch_size": size,
        "inner_steps": 1,
        "group_size": check.group_size if method == "grpo" else 1,
        "top_p": 1.0,
        "budget": f"{max(1, check.updates)}upd",
        "device": "cpu",
        "eval_samples": check.eval_samples,
        "method_options": own,
    }
    return resolve({}, flags)


def run_theirs(check: CrossCheck, jobs: TrlJobs, scratch: Path, tell: Tell) -> None:
    """Do all jobs by TRL in one process; UsageError with its last line if it fails."""
    for folder, job in jobs.items():
        make_folder(folder, folder)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    words = [check.python, "-P", "-m", "resd_bench.interop.trl_worker", *map(str, jobs)]
    quiet = {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "TOKENIZERS_PARALLELISM": "0"}
    log = scratch / "trl.log"
    with log.open("w", encoding="utf-8") as said:
        theirs = subprocess.Popen(words, stdout=said, stderr=said, env={**os.environ, **quiet})
        try:
            _follow(theirs, list(jobs), tell)
        finally:
            theirs.kill()
            theirs.wait()
    if theirs.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise UsageError(f"TRL failed: {(lines or ['it said nothing'])[-1][:500]}")


def _follow(theirs: subprocess.Popen[bytes], folders: Sequence[Path], tell: Tell) -> None:
    """Wait until TRL ends, and tell of each job that it begins: the last file of one is there."""
    begun = 0
    while True:
        left = sum((folder / TOLD).is_file() for folder in folders)
        while begun <= left and begun < len(folders):
            tell(f"TRL: {folders[begun].name}, job {begun + 1} of {len(folders)}")
            begun += 1
        try:
            theirs.wait(POLL)
            return
        except subprocess.TimeoutExpired:
            continue


def base_job(config: RunConfig, policy: LMPolicy, check: CrossCheck) -> dict[str, Any]:
    """What every job says."""
    size = config.batch_size * (config.group_size or 1)
    return {
        "method": config.method,
        "model": loading.local_path(config.model),
        "seed": config.seed,
        "env": config.env,
        "dialect": policy.dialect,
        "env_options": config.env_options,
        "stop_ids": sorted(policy.codec.stop_ids),
        "updates": check.updates,
        "sequences": size,
        "group_size": config.group_size,
        "max_new_tokens": config.max_new_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "learning_rate": config.learning_rate,
        "warmup_updates": config.warmup_updates,
        "weight_decay": config.weight_decay,
        "grad_clip": config.grad_clip,
        "given": False,
    }


def method_over(config: RunConfig, policy: Any) -> Agent:
    """The method of `config` over `policy`."""
    spec = plugins.method(config.method)
    options = method_config(spec.config, config.method_options, spec.name)
    return spec.build(cast(Policy, policy), options)


def demonstrations(env: TextEnv, policy: LMPolicy, tasks: Sequence[Task]) -> list[Group]:
    """The environment's reference solution of each task, as a successful attempt."""
    won = Feedback(1.0, True, 1.0)
    end = min(policy.codec.stop_ids)
    groups = []
    for task in tasks:
        text = env.reference(task)
        ids = policy.codec.tokenizer.encode(text, add_special_tokens=False)
        said = Completion(text, (*ids, end), (0.0,) * (len(ids) + 1))
        turn = Turn(user(env.opening(task)), said)
        groups.append(Group(task, (Trajectory(task, (turn,), won),)))
    return groups


def samples_of(
    check: CrossCheck,
    config: RunConfig,
    update: int,
    policy: LMPolicy,
    env: TextEnv,
    envs: EnvPool,
) -> tuple[Step, list[Group]]:
    """An update, and what a method learns from in it: attempts; for SFT, reference solutions."""
    step, tasks = step_of(config, update), batch_of(env.tasks("train"), config, update)[1]
    if config.method == "sft":
        return step, demonstrations(env, policy, tasks)
    return step, roll_out(
        policy.sample,
        envs,
        tasks,
        n=check.group_size,
        sampling=step.sampling,
        purpose="rollout",
        ledger=policy.ledger,
        seed=config.seed,
    )


def told_by_theirs(folder: Path) -> dict[str, Any]:
    """What TRL's training in `folder` logged."""
    found: dict[str, Any] = json.loads((folder / TOLD).read_text(encoding="utf-8"))
    return found
