"""CPU seconds of an update of GRPO, SFT and SDPO: our methods beside TRL's trainers, matched.

    OMP_NUM_THREADS=1 python benchmarks/trl_step.py --python trl-venv/bin/python

Model, tasks, prompts, group, lengths, sampling, learning rate, warm-up, clipping and optimiser are
those that `cross-check trl` matches and proves equal on the same samples (docs/interop.md). GRPO
samples, grades and trains; SFT trains on reference solutions. SDPO samples, grades, and trains on
the reverse KL divergence over the student's 100 likeliest tokens and one bucket for the rest, with
a moving teacher; TRL's is given a feedback before it samples, here that on another task's solution,
and ours writes one on every failure, so that their teachers' prompts are alike and not equal.
Each row says how many tokens an update sampled, ours and TRL's. Each library runs in one process on
one thread, one after the other; the first update, which warms up, is not counted, and the turns are
the others. Left out: other models; peak memory is in `trl_memory.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from benchmarks.in_turn import print_row
from resd_bench.config import RunConfig, resolve
from resd_bench.env import TextEnv
from resd_bench.interop.cross_check import run_job
from resd_bench.interop.cross_check_setup import (
    CrossCheck,
    Method,
    check_python,
    config_of,
    method_over,
    samples_of,
)
from resd_bench.jobs.setup import make_envs
from resd_bench.policy.build import build

TARGET = 2.0
THEIRS = """
import json, pathlib, sys, time
import torch
from transformers import TrainerCallback
from trl import GRPOTrainer, SFTTrainer
import resd_bench.interop.trl_worker.__main__ as worker
from resd_bench import plugins
class Clock(TrainerCallback):
    def __init__(self):
        self.found, self.times = {}, [time.process_time()]
        clocks.append(self)
    def on_step_end(self, args, state, control, **seen):
        self.times.append(time.process_time())
def sdpo(job, model, tokenizer, folder):
    from datasets import Dataset
    from trl.experimental.sdpo import SDPOConfig, SDPOTrainer
    args = SDPOConfig(
        **worker.arguments_of(job, folder), num_generations=job["group_size"],
        max_completion_length=job["max_new_tokens"], temperature=job["temperature"],
        top_p=job["top_p"], shuffle_dataset=False, distillation_mode="topk_logits",
        distillation_topk=100, distillation_add_tail=True, teacher_update_rate=job["ema_rate"],
        include_environment_feedback=True, reprompt_template="{prompt}{solution}{feedback}",
        solution_template="\\n{successful_previous_attempt}", feedback_template="\\n{feedback_raw}",
    )
    env = plugins.make_env(job["env"], dialect=job["dialect"])
    trainer = SDPOTrainer(
        model=model, reward_funcs=worker.RewardFunction(env, job["stop_ids"]), args=args,
        train_dataset=Dataset.from_list(job["rows"]), processing_class=tokenizer,
        callbacks=[Clock()],
    )
    trainer.train()
    return trainer, {}
clocks = []
# Without what the cross-check looks at, which takes time of its own.
worker.Gradients, worker.SeenGRPO, worker.SeenSFT = Clock, GRPOTrainer, SFTTrainer
job = json.loads((pathlib.Path(sys.argv[1]) / "job.json").read_text())
if job["method"] == "sdpo":
    torch.manual_seed(job["seed"])
    torch.set_num_threads(1)
    tokenizer = worker.AutoTokenizer.from_pretrained(job["model"])
    model = worker.AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    log = sdpo(job, model, tokenizer, pathlib.Path(sys.argv[1]))[0].state.log_history
else:
    worker.main(sys.argv[1])
    log = json.loads((pathlib.Path(sys.argv[1]) / "told.json").read_text())["log"]
times = clocks[0].times
lengths = [row["completions/mean_length"] for row in log if "completions/mean_length" in row]
spent = [after - before for before, after in zip(times, times[1:])]
print(json.dumps({"spent": spent, "lengths": lengths}))
"""
SHARED = ("env", "model", "seed", "learning_rate", "warmup", "inner_steps", "top_p", "budget")
SDPO = {"batch_size": 16, "group_size": 2, "device": "cpu"}


@dataclass(frozen=True)
class Spent:
    """What the updates of a run took."""

    seconds: list[float]
    tokens: list[float]
    """Mean length of the answers that were sampled; none where none are."""


def settings(check: CrossCheck, method: str) -> RunConfig:
    """Those of the cross-check; of SDPO, which it does not have, like those of GRPO."""
    if method != "sdpo":
        return config_of(check, cast(Method, method), check.seeds[0])
    like = config_of(check, "grpo", check.seeds[0])
    return resolve({}, {name: getattr(like, name) for name in SHARED} | {"method": method} | SDPO)


def ours(check: CrossCheck, method: str) -> Spent:
    """Our updates."""
    config = settings(check, method)
    check = replace(check, group_size=config.group_size or 1)
    env, envs = make_envs(config)
    policy = build(config)
    agent, seconds, tokens = method_over(config, policy), [], []
    for number in range(check.updates):
        start = time.process_time()
        step, groups = samples_of(check, config, number, policy, env, envs)
        agent.learn(groups, step)
        seconds.append(time.process_time() - start)
        said = [turn.completion for g in groups for t in g.trajectories for turn in t.turns]
        tokens += [statistics.mean(len(one.token_ids) for one in said)] * (method != "sft")
    envs.close()
    return Spent(seconds, tokens)


def their_words(check: CrossCheck, method: str, folder: Path) -> list[str]:
    """The command that runs TRL's updates, with their job in `folder`."""
    config = settings(check, method)
    env, envs = make_envs(config)
    envs.close()
    job = dict(run_job(check, replace(config, method="grpo" if method == "sdpo" else method), env))
    if method == "sdpo":
        job |= {"method": method, "ema_rate": config.method_options["ema_rate"]}
        job["rows"] = [row | {"privileged_context": told(env, row)} for row in job["rows"]]
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return [check.python, "-c", THEIRS, str(folder)]


def theirs(check: CrossCheck, method: str, folder: Path) -> Spent:
    """TRL's updates."""
    ran = subprocess.run(their_words(check, method, folder), stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        sys.exit("TRL failed; its messages are above")
    found = json.loads(ran.stdout.splitlines()[-1])
    return Spent(found["spent"], found["lengths"])


def told(env: TextEnv, row: Mapping[str, Any]) -> str:
    """The feedback on the solution of the task before."""
    tasks = env.tasks(row["split"])
    number = next(n for n, task in enumerate(tasks) if task.id == row["task"])
    env.reset(options={"task": tasks[number].id, "split": tasks[number].split})
    return str(env.step(env.reference(tasks[number - 1]))[-1]["feedback"].text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="Python of an environment with TRL")
    parser.add_argument("--updates", type=int, default=5)
    given = parser.parse_args()
    check = CrossCheck(given.python, updates=given.updates, seeds=(0,), tasks=4, eval_tasks=1)
    peer = f"TRL {check_python(given.python)}"
    sizes = {"grpo": f"{check.tasks} x {check.group_size}", "sdpo": "16 x 2", "sft": "16 answers"}
    for method, size in sizes.items():
        with tempfile.TemporaryDirectory() as scratch:
            here, there = ours(check, method), theirs(check, method, Path(scratch))
        row = (here.seconds[1:], there.seconds[1:])
        lengths = zip(("tokens", "peer_tokens"), (here.tokens, there.tokens), strict=True)
        tokens = {name: round(statistics.mean(own[1:]), 1) for name, own in lengths if own}
        about = f"training: an update of {method}, {size}"
        print_row(about, "CPU s", row, peer, target_ratio=TARGET, **tokens)


if __name__ == "__main__":
    main()
