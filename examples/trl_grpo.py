"""TRL's GRPOTrainer trains nano on one of our environments, unchanged (needs trl)."""

from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from resd_bench.interop.trl import RewardFunction, dataset
from resd_bench.packaged_models import weights_folder
from resd_bench.plugins import make_env

folder = str(weights_folder("nano-common"))
env = make_env("manufactoria-has", dialect="compact")
tokenizer = AutoTokenizer.from_pretrained(folder)
trainer = GRPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
    processing_class=tokenizer,
    reward_funcs=RewardFunction(env, stop_ids=[tokenizer.eos_token_id]),
    train_dataset=dataset(env),
    args=GRPOConfig(
        output_dir="runs-out/trl",
        use_cpu=True,
        bf16=False,
        max_steps=3,
        per_device_train_batch_size=32,
        num_generations=8,
        max_completion_length=320,
        learning_rate=3e-4,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
    ),
)
trainer.train()
for row in trainer.state.log_history[:-1]:
    length = row["completions/mean_length"]
    print(f"step {row['step']}: reward {row['reward']:.3f}, {length:.0f} tokens a completion")
