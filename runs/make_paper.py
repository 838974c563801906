"""Write `runs/paper/` and `runs/release/` from the table below: the experiments of the paper.

    python runs/make_paper.py

A file is complete: it names every setting that the paper or its release states, so that it can be
read and run by itself. `runs/paper/` holds what the paper states (tables 1 to 3, appendices D and
G), and where it is silent what its release does; `runs/release/` what the released scripts do.
docs/paper.md explains the differences. Left out: seeds, which the paper does not state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

HERE = Path(__file__).resolve().parent
Preset = Literal["paper", "release"]
Lines = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A row of the paper's table of hyper-parameters."""

    env: str
    training_tasks: int
    """Batches of 32 and 4 updates each make one epoch; the tail that fills no batch is left out."""
    eval_every: int
    """Updates; evaluation is after every batch, on FiNER after every second."""
    max_prompt: int
    """Tokens that the paper allows a prompt, the teacher's too."""
    max_new_tokens: int
    feedback_level: int
    """The release's feedback; the paper does not say what it shows."""
    feedback: str
    divergence: str
    max_entries: int
    concise_method: str
    weighting: bool
    model: str = "Qwen/Qwen3-4B-Thinking-2507"
    ema_rate: float = 1e-4
    clip_high: float | None = None
    gpus: int = 1

    @property
    def updates(self) -> int:
        return self.training_tasks // 32 * 4


_CASES = "the first failing cases and what happened in them"
_PLACES = "right coordinates too, as the release shows"

TASKS = (
    Task(
        "manufactoria-has", 742, 4, 49_152, 20_480, 3, _CASES,
        "reverse_kl", 200, "prioritized", False, clip_high=5.0,
    ),
    Task(
        "bouncingsim-easy", 640, 4, 58_368, 25_600, 4, _PLACES,
        "jsd", 120, "staleness", True,
    ),
    Task(
        "bouncingsim-medium", 320, 4, 58_368, 25_600, 4, _PLACES,
        "reverse_kl", 150, "prioritized", False,
        model="Qwen/Qwen3-30B-A3B-Thinking-2507", ema_rate=0.01, gpus=8,
    ),
    Task(
        "finer", 1000, 8, 49_152, 20_480, 5, "the right tags, as the release shows",
        "jsd", 120, "staleness", True,
    ),
)  # fmt: skip

RELEASE: Mapping[str, Lines] = {
    "manufactoria-has": {
        "method.clip_high": None,
        "method.concise_method": "staleness",
        "method.success_rate_weighting": True,
    },
    "bouncingsim-easy": {},
    "bouncingsim-medium": {},
    "finer": {"learning_rate": 1e-5, "env.partial_credit": True},
}
"""What the released scripts set otherwise than the paper states."""

ABLATIONS: Mapping[str, Lines] = {
    "no-reflection": {"method.use_reflection": False},
    "no-playbook": {"method.use_playbook": False},
    "no-solution-buffer": {"method.use_solution_buffer": False},
}
"""Table 3; the paper has them on all tasks but bouncingsim-medium."""

METHODS = ("base", "sdpo", "sdpo+ss", "grpo", "resd", *(f"resd-{name}" for name in ABLATIONS))

REASONS: Mapping[str, str] = {
    "budget": "one epoch: {tasks} tasks in batches of 32, four updates each",
    "group_size": "rollouts per task",
    "inner_steps": "updates on a batch, each with fresh rollouts (K)",
    "feedback_level": "{feedback}",
    "grade": "{grade}",
    "max_new_tokens": "appendix G",
    "context_limit": "appendix G: prompts up to {max_prompt}, the teacher's too",
    "engine": "{engine}",
    "engine_memory": "GiB of vLLM's cache; it must hold one sequence of the whole context",
    "eval_temperature": "{eval_temperature}",
    "learning_rate": "{learning_rate}",
    "precision": "float32 weights, bfloat16 products, as in the release",
    "eval_also": "table 5: what is forgotten",
    "method.divergence": "appendix G",
    "method.clip_low": "appendix G",
    "method.clip_high": "{clip_high}",
    "method.top_k": "and one bucket for all other tokens",
    "method.ema_rate": "{ema_rate}",
    "method.importance_cap": "the release; the paper is silent",
    "method.concise_method": "{concise}",
    "method.concise_frequency": "appendix D: every K updates",
    "method.max_entries": "appendix G",
    "method.success_rate_weighting": "Eq. 2; {weighting}",
    "env.partial_credit": "the release trains on the share of right tags",
    "device_map": "over the GPUs of one machine",
}
"""What stands beside a line, and where it is from."""

FINER = """\
# FiNER's data are not ours to ship. Put the training and validation items of the release of ACE
# (github.com/ace-agent/ace; JSON objects with `context` and `target`, one a line) into the folder
# that env.data names, as train.jsonl (1000 items) and test.jsonl (500): the paper tests on what
# ACE calls validation. `hf:OWNER/NAME` reads a data set from the Hub instead. Without env.data the
# set that ships with resd-bench is used, which is smaller and easier and compares with nothing.
"""


def settings(task: Task, method: str, preset: Preset) -> Lines:
    """The lines of one file."""
    name, _, ablation = method.partition("-")
    lines: Lines = {
        "env": task.env,
        "method": name,
        "model": task.model,
        "preset": preset,
        "budget": f"{task.updates}upd",
        "batch_size": 32,
        "group_size": 8 if name == "grpo" else 1,
        "inner_steps": 4,
        "task_order": "dataset",
        "feedback_level": task.feedback_level,
        "grade": "answer" if preset == "paper" else "release",
        "max_new_tokens": task.max_new_tokens,
        "context_limit": task.max_prompt + task.max_new_tokens,
        "temperature": 1.0,
        "top_p": 0.95,
        "eval_every": eval_every(task, name),
        "eval_samples": 4,
        "eval_temperature": 1.0 if preset == "paper" else 0.6,
        "eval_top_p": 0.95,
        "learning_rate": 1e-6,
        "warmup_updates": 10,
        "weight_decay": 0.01,
        "grad_clip": 1.0,
        "precision": "mixed",
        "gradient_checkpointing": True,
        "engine": "vllm" if task.gpus == 1 else "hf",
        "device": "cuda",
        "out": "/".join(["runs-out", preset, *([ablation] if ablation else [])]),
    }
    lines |= {"device_map": "auto"} if task.gpus > 1 else {"engine_memory": 12.0}
    if task.env == "finer":
        lines["env.data"] = "data/finer"
    if name in ("base", "resd") and not ablation and task.env != "bouncingsim-medium":
        lines["eval_also"] = "ifeval"
    if name in ("resd", "sdpo", "sdpo+ss"):
        lines |= distillation(task)
    if name == "resd":
        lines |= context(task)
    if preset == "release":
        lines |= {k: v for k, v in RELEASE[task.env].items() if belongs(k, name, lines)}
    return lines | ABLATIONS.get(ablation, {})


def eval_every(task: Task, method: str) -> int:
    """The base model does not change; the released script of GRPO on Medium halves evaluations."""
    if method == "base":
        return 0
    return 8 if method == "grpo" and task.env == "bouncingsim-medium" else task.eval_every


def belongs(key: str, method: str, lines: Lines) -> bool:
    """Whether a change of the release concerns this method."""
    if key == "learning_rate":
        return method in ("resd", "sdpo", "sdpo+ss")
    return not key.startswith("method.") or key in lines


def distillation(task: Task) -> Lines:
    """The loss, the same for RESD and SDPO as in the released scripts."""
    return {
        "method.divergence": task.divergence,
        "method.top_k": 100,
        "method.clip_low": 0.2,
        "method.clip_high": task.clip_high,
        "method.ema_rate": task.ema_rate,
        "method.importance_cap": 2.0,
    }


def context(task: Task) -> Lines:
    """Playbook and weights."""
    return {
        "method.max_entries": task.max_entries,
        "method.concise_method": task.concise_method,
        "method.concise_frequency": 4,
        "method.success_rate_weighting": task.weighting,
    }


def words(task: Task, method: str, preset: Preset) -> Mapping[str, str]:
    """What the reasons leave open."""
    paper = preset == "paper"
    finer, first = task.env == "finer", task.env == "manufactoria-has"
    raised = finer and not paper and belongs("learning_rate", method.partition("-")[0], {})
    rate = "the script's; the paper has one for all, 1e-6" if raised else "one for all (appendix G)"
    return {
        "tasks": f"{task.training_tasks:,}",
        "max_prompt": f"{task.max_prompt:,}",
        "engine": "needs the extra vllm"
        if task.gpus == 1
        else "vLLM does not fit beside the trainer on one GPU",
        "feedback": task.feedback,
        "grade": "what is left of a response without its reasoning"
        if paper
        else "what its verifier reads, blocks in the reasoning or unfinished reasoning too",
        "eval_temperature": "the paper names no other" if paper else "the script's",
        "learning_rate": rate,
        "clip_high": clip_words(task, paper),
        "ema_rate": "appendix G" if paper else "without effect: the release's teacher stays",
        "concise": concise_words(task, paper),
        "weighting": "appendix G" if paper or not first else "the script's; off in the paper",
    }


def clip_words(task: Task, paper: bool) -> str:
    """Only one task has an upper bound, and only in the paper."""
    if task.clip_high is None:
        return "no upper bound"
    return "appendix G" if paper else "the script sets none; the paper 5"


def concise_words(task: Task, paper: bool) -> str:
    """Appendices D and G disagree on two tasks."""
    if task.concise_method == "staleness":
        return "appendix G"
    if task.env == "manufactoria-has" and not paper:
        return "the script's; appendix G says prioritized"
    return "appendix G; appendix D says staleness for all"


def render(task: Task, method: str, preset: Preset) -> str:
    """The text of one file."""
    path = f"runs/{preset}/{task.env}/{file_name(method)}"
    told = words(task, method, preset)
    source = "the paper states it" if preset == "paper" else "its released code runs it"
    lines = [
        f"# {method} on {task.env} as {source} (arXiv 2605.12741). Written by runs/make_paper.py.",
        f"# resd-bench run --config {path}",
        f"# With --dry-run --gpus {task.gpus} --gpu-memory 141GB it shows what that takes; the",
        "# paper had one node of eight H200. docs/paper.md says where paper and release differ.",
    ]
    if method.partition("-")[2] and task.env == "bouncingsim-medium":
        lines.append("# The paper does not have this ablation on this task.")
    text = "\n".join(lines) + "\n" + (FINER if task.env == "finer" else "")
    for key, value in settings(task, method, preset).items():
        entry = yaml.safe_dump({key: value}).strip()
        reason = REASONS.get(key, "").format(**told)
        text += f"{entry}  # {reason}\n" if reason else f"{entry}\n"
    return text


def file_name(method: str) -> str:
    """`sdpo+ss` is `sdpo-ss.yaml`."""
    return method.replace("+", "-") + ".yaml"


def files() -> Iterator[tuple[Path, str]]:
    """Every file and its text."""
    presets: tuple[Preset, ...] = ("paper", "release")
    for preset in presets:
        for task in TASKS:
            for method in METHODS:
                yield HERE / preset / task.env / file_name(method), render(task, method, preset)


if __name__ == "__main__":
    for path, text in files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
