"""What is not a number is refused with its name: weights, logits, gradients, settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from resd_bench import packaged_models
from resd_bench.cli import main
from resd_bench.config import resolve
from resd_bench.errors import UsageError
from resd_bench.objective import TokenBatch
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.types import Completion, Example, Sampling, user
from tests.policy import tiny

SPOILED = (
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.k_proj.weight",
    "model.layers.0.input_layernorm.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.norm.weight",
)
SAMPLINGS = (Sampling(0.0, 1.0, 6), Sampling(1.0, 1.0, 6), Sampling(1.0, 0.9, 6))


def spoil(model: Any, name: str, value: float = math.nan) -> Any:
    """The model with one weight that is `value`."""
    with torch.no_grad():
        model.get_parameter(name).flatten()[7] = value
    return model


def policy(model: Any, **options: Any) -> LMPolicy:
    return LMPolicy(model, tiny.tokenizer(), PolicyConfig(warmup_updates=0, **options))


def ask(subject: LMPolicy, sampling: Sampling = SAMPLINGS[1]) -> Any:
    return subject.sample([user("hello")], n=2, sampling=sampling, purpose="evaluation")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", SPOILED)
def test_a_model_with_one_weight_that_is_no_number_is_refused_by_its_name(
    name: str, value: float
) -> None:
    with pytest.raises(UsageError, match=f"{name} holds NaN or infinity.*--model"):
        policy(spoil(tiny.model(), name, value))


def test_large_weights_are_no_infinite_ones() -> None:
    model = tiny.model()
    with torch.no_grad():
        model.model.embed_tokens.weight.fill_(3e38)
    policy(model)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "sampled", "nucleus"])
@pytest.mark.parametrize("engine", ["fast", "hf"])
@pytest.mark.parametrize("name", [name for name in SPOILED if "k_proj" not in name])
def test_a_model_that_training_has_broken_is_not_sampled_from_and_the_tensor_is_named(
    name: str, engine: str, sampling: Sampling
) -> None:
    subject = policy(tiny.model(), engine=engine)
    spoil(subject.model, name)
    with pytest.raises(UsageError, match=f"{name} holds NaN or infinity.*--learning-rate"):
        ask(subject, sampling)


@pytest.mark.parametrize("engine", ["fast", "hf"])
def test_a_weight_that_only_later_tokens_read_is_noticed_then(engine: str) -> None:
    subject = policy(tiny.model(tie_word_embeddings=False), engine=engine)
    [[said, _]] = ask(subject, SAMPLINGS[0])
    with torch.no_grad():
        subject.model.model.embed_tokens.weight[said.token_ids[2]] = math.nan
    with pytest.raises(UsageError, match=r"embed_tokens\.weight"):
        ask(subject, SAMPLINGS[0])


def test_activations_that_overflow_are_not_blamed_on_weights() -> None:
    model = tiny.model()
    with torch.no_grad():
        model.model.norm.weight.fill_(3e38)
    with pytest.raises(UsageError, match=r"though its weights are.*--precision float32"):
        ask(policy(model))


def test_a_sound_model_is_sampled_from_as_before() -> None:
    for engine in ("fast", "hf"):
        [[one, two]] = ask(policy(tiny.model(), engine=engine))
        assert all(math.isfinite(p) for p in (*one.logprobs, *two.logprobs))


def broken(batch: TokenBatch) -> torch.Tensor:
    return batch.student_logits.sum((1, 2)) * math.nan


def sound(batch: TokenBatch) -> torch.Tensor:
    return -batch.student_logits.log_softmax(-1)[..., 0].sum(-1)


EXAMPLES = [Example(user("hello"), Completion("ab", (100, 101, 1), (-1.0, -1.0, -1.0)))]


def update(subject: LMPolicy, objective: Any) -> float:
    return subject.update(EXAMPLES, objective, batch_size=1)["policy/skipped_steps"]


def test_three_skipped_steps_in_a_row_end_the_run_with_update_tensor_and_remedy() -> None:
    subject = policy(tiny.model(), learning_rate=1e-3)
    assert [update(subject, one) for one in (broken, broken, sound, broken, broken)] == [
        *(1, 2, 2, 3, 4)
    ]
    with pytest.raises(UsageError, match=r"update 6: the gradient of model\..* --learning-rate"):
        update(subject, broken)


def test_skipped_steps_are_counted_across_a_resumption() -> None:
    subject = policy(tiny.model())
    update(subject, broken)
    update(subject, broken)
    resumed = policy(tiny.model())
    resumed.load_state_dict(subject.state_dict())
    with pytest.raises(UsageError, match=r"update 3: .* for 3 updates in a row"):
        update(resumed, broken)


def test_updates_without_examples_are_no_skipped_steps() -> None:
    subject = policy(tiny.model())
    for _ in range(4):
        subject.update([], broken, batch_size=1)
    assert subject.skipped_steps == 0


def test_only_the_tensor_that_is_not_finite_is_blamed() -> None:
    model = tiny.model(tie_word_embeddings=False)

    def partly(batch: TokenBatch) -> torch.Tensor:
        # A square root at 0 has an infinite derivative, for this one tensor.
        weight: torch.Tensor = model.lm_head.weight
        return sound(batch) + (weight[5, 5] * 0).abs().sqrt()

    subject = policy(model)
    update(subject, partly)
    update(subject, partly)
    with pytest.raises(UsageError, match=r"the gradient of lm_head\.weight"):
        update(subject, partly)


def test_a_rate_that_breaks_the_weights_is_named_at_the_next_sampling() -> None:
    subject = policy(tiny.model(), learning_rate=3e38)
    update(subject, sound)
    with pytest.raises(UsageError, match=r"after 1 updates.*smaller --learning-rate than 3e"):
        ask(subject)


@pytest.mark.parametrize("rate", ["inf", "nan", "-inf", "1e38", "1.5", "-1e-9"])
def test_a_learning_rate_that_is_no_rate_is_refused(rate: str) -> None:
    with pytest.raises(UsageError, match="learning_rate: expected a value from 0 to 1"):
        resolve({"learning_rate": rate})


@pytest.mark.parametrize(
    "name", ["weight_decay", "grad_clip", "temperature", "eval_temperature", "step_seconds"]
)
@pytest.mark.parametrize("value", ["inf", "nan", float("inf")])
def test_settings_are_finite(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"{name}: expected"):
        resolve({name: value})


def test_options_of_a_method_are_finite() -> None:
    with pytest.raises(UsageError, match=r"method\.\w+: expected a"):
        resolve({"method": "resd", "method.ema_rate": "nan"})


def test_eval_of_a_model_with_a_nan_ends_with_its_name_and_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = packaged_models.local_folder("nano")
    assert folder is not None
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    [file] = tmp_path.glob("*.safetensors")
    weights = load_file(file)
    weights["model.layers.0.mlp.down_proj.weight"][0, 0] = math.nan
    save_file(weights, file, metadata={"format": "pt"})
    small = ["--env", "manufactoria-has", "--tasks", "2", "--samples", "1"]
    code = main(["eval", "--model", str(tmp_path), *small, "--max-new-tokens", "8"])
    told = capsys.readouterr()
    assert code == 2
    assert "model.layers.0.mlp.down_proj.weight holds NaN or infinity" in told.err
    assert "%" not in told.out
