"""TRL's GRPOTrainer over an environment of several turns (needs trl).

nano does not know the tool, so its rewards are 0: this shows that the trainer takes the
environment, and then plays an episode by hand as the trainer would.
"""

from pathlib import Path

import trl
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from resd_bench.interop.trl import dataset, environment_factory
from resd_bench.packaged_models import weights_folder
from resd_bench.plugins import make_env

folder = str(weights_folder("nano"))
tokenizer = AutoTokenizer.from_pretrained(folder)
# nano's own chat template has no tools.
templates = Path(trl.__file__).parent / "chat_templates"
tokenizer.chat_template = (templates / "qwen3.jinja").read_text()
trainer = GRPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
    processing_class=tokenizer,
    environment_factory=environment_factory("guess-number"),
    train_dataset=dataset(make_env("guess-number")),
    args=GRPOConfig(
        output_dir="runs-out/trl",
        use_cpu=True,
        bf16=False,
        max_steps=1,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=32,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
    ),
)
trainer.train()
print("tools:", [tool.__name__ for tool in trainer.tools])
print("reward:", trainer.state.log_history[0]["reward"])

episode, row = environment_factory("guess-number")(), dataset(make_env("guess-number"))[0]
print(episode.reset(**row))
low, high = 1, 200
while not (said := episode.act(str((low + high) // 2))).startswith("The episode"):
    print((low + high) // 2, "->", said or "right")
    middle = (low + high) // 2
    low, high = (middle + 1, high) if "low" in said else (low, middle - 1)
    if not said:
        break
print("reward:", episode.get_reward())
