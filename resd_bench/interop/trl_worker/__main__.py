"""The part of `cross-check trl` that runs where TRL is installed.

    python -m resd_bench.interop.trl_worker FOLDER ...

A job, `job.json` in each folder, is one training by TRL's own trainers: of one step on given
samples, whose log-probabilities, advantages, loss and gradients are written, or of several steps
that sample for themselves. Left out: any comparison, see `cross_check`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer
from trl import __version__ as trl_version

from resd_bench import plugins
from resd_bench.interop.trl import RewardFunction

TrlJob = Mapping[str, Any]


class Gradients(TrainerCallback):
    """Copies the gradients of the last optimiser step."""

    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **seen: Any) -> None:
        """Called by the trainer after clipping, which one step on given samples does without."""
        named = seen["model"].named_parameters()
        self.found = {n: p.grad.detach().clone() for n, p in named if p.grad is not None}


class SeenGRPO(GRPOTrainer):  # type: ignore[misc]
    """GRPO that keeps what its loss is made of."""

    seen: Any = None

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        """The trainer's own loss."""
        whole = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        with torch.no_grad():
            width = inputs["completion_ids"].shape[1]
            logps = self._get_per_token_logps_and_entropies(model, whole, mask, width)[0]
        loss = super().compute_loss(model, inputs, *args, **options)
        scored = torch.cat([torch.zeros_like(inputs["prompt_mask"]), inputs["completion_mask"]], 1)
        self.seen = {
            "ids": whole.contiguous(),
            "read": mask.contiguous(),
            "scored": scored.contiguous(),
            "logprobs": logps[inputs["completion_mask"].bool()].contiguous(),
            "advantages": inputs["advantages"].contiguous(),
            "loss": loss.detach().reshape(1),
        }
        return loss


class SeenSFT(SFTTrainer):  # type: ignore[misc]
    """SFT that keeps what its loss is made of."""

    seen: Any = None

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        """The trainer's own loss."""
        labels = inputs["labels"]
        with torch.no_grad():
            logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
            z = logits.logits[:, :-1].float().log_softmax(-1)
            target = labels[:, 1:]
            logps = z.gather(-1, target.clamp(min=0)[..., None])[..., 0]
        loss = super().compute_loss(model, inputs, *args, **options)
        self.seen = {
            "ids": inputs["input_ids"].contiguous(),
            "read": inputs["attention_mask"].contiguous(),
            "scored": (labels >= 0).long().contiguous(),
            "logprobs": logps[target >= 0].contiguous(),
            "loss": (loss[0] if isinstance(loss, tuple) else loss).detach().reshape(1),
        }
        return loss


def arguments_of(job: TrlJob, folder: Path) -> dict[str, Any]:
    """Arguments of both trainers: AdamW, a constant learning rate after warm-up, float32."""
    one_step = job["given"]
    return {
        "output_dir": str(folder / "trainer"),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "seed": job["seed"],
        "max_steps": job["updates"],
        "per_device_train_batch_size": job["sequences"],
        "gradient_accumulation_steps": 1,
        "learning_rate": 0.0 if one_step else job["learning_rate"],
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": job["warmup_updates"],
        "weight_decay": job["weight_decay"],
        "max_grad_norm": 0.0 if one_step else job["grad_clip"],
        "dataloader_num_workers": 0,
    }


def grpo(job: TrlJob, model: Any, tokenizer: Any, folder: Path) -> Any:
    """GRPO as the paper has it: loss by sequence, clip 0.2 and 0.28, no KL term."""
    rows = job["rows"]
    args = GRPOConfig(
        **arguments_of(job, folder),
        num_generations=job["group_size"],
        max_completion_length=job["max_new_tokens"],
        temperature=job["temperature"],
        top_p=job["top_p"],
        loss_type="grpo",
        scale_rewards="group",
        beta=0.0,
        epsilon=0.2,
        epsilon_high=0.28,
        shuffle_dataset=False,
    )
    options: dict[str, Any] = {}
    if job["given"]:
        options["rollout_func"] = lambda prompts, trainer: {
            name: job[name] for name in ("prompt_ids", "completion_ids", "logprobs")
        }
        rewards: Any = lambda completions, **others: job["rewards"]  # noqa: E731
    else:
        env = plugins.make_env(job["env"], dialect=job["dialect"], **job["env_options"])
        rewards = RewardFunction(env, job["stop_ids"])
    data, seen = Dataset.from_list(rows), Gradients()
    trainer = SeenGRPO(
        model=model,
        reward_funcs=rewards,
        args=args,
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[seen],
        **options,
    )
    trainer.train()
    return trainer, seen.found


def sft(job: TrlJob, model: Any, tokenizer: Any, folder: Path) -> Any:
    """SFT on given answers, whose tokens are those that we train on."""
    args = SFTConfig(
        **arguments_of(job, folder),
        max_length=None,
        packing=False,
        shuffle_dataset=False,
        completion_only_loss=True,
        eos_token=tokenizer.eos_token,
    )
    seen = Gradients()
    trainer = SeenSFT(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(job["rows"]),
        processing_class=tokenizer,
        callbacks=[seen],
    )
    # The trainer would draw the order of the rows.
    trainer._get_train_sampler = lambda dataset=None: torch.utils.data.SequentialSampler(
        trainer.train_dataset
    )
    trainer.train()
    return trainer, seen.found


def main(*folders: str) -> None:
    """Train as each folder's job says, and leave there what came out."""
    torch.set_num_threads(1)
    for folder in map(Path, folders):
        do(json.loads((folder / "job.json").read_text(encoding="utf-8")), folder)


def do(job: TrlJob, folder: Path) -> None:
    """One job."""
    torch.manual_seed(job["seed"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"], trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=torch.float32, trust_remote_code=False
    )
    prompts = [row["prompt"] for row in job["rows"]] if "prompt" in job["rows"][0] else []
    train = {"grpo": grpo, "sft": sft}[job["method"]]
    trainer, gradients = train(job, model, tokenizer, folder)
    if job["given"]:
        save_file(trainer.seen, str(folder / "seen.safetensors"))
        save_file({n: g.contiguous() for n, g in gradients.items()}, str(folder / "g.safetensors"))
    else:
        trainer.model.save_pretrained(str(folder / "model"))
        tokenizer.save_pretrained(str(folder / "model"))
    templated = [
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        for chat in prompts
    ]
    told = {"trl": trl_version, "log": trainer.state.log_history, "prompt_ids": templated}
    (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
