"""Loading, chat templates and process settings; every mistake is answered with what to do."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.policy import loading
from resd_bench.policy.build import build
from resd_bench.policy.chat_codec import Codec
from resd_bench.types import Message, user
from tests.policy import tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny.model().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def test_a_saved_model_is_loaded_as_it_was(saved: Path) -> None:
    model, tokenizer = loading.load_model(saved)
    ids = torch.tensor(tiny.prompts([7]))
    assert torch.equal(model(ids).logits, tiny.model()(ids).logits)
    assert Codec(tokenizer).prompt_ids(user("hi")) == Codec(tiny.tokenizer()).prompt_ids(user("hi"))
    assert not model.training


def test_the_dtype_is_the_one_asked_for(saved: Path) -> None:
    assert loading.load_model(saved, dtype="bfloat16")[0].dtype == torch.bfloat16
    assert loading.load_model(saved)[0].dtype == torch.float32
    with pytest.raises(UsageError, match="int3"):
        loading.load_model(saved, dtype="int3")


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no model at .*absent.*folder with config\.json"):
        loading.load_model(tmp_path / "absent")


def test_a_bare_unknown_name_is_not_searched_on_the_hub() -> None:
    with pytest.raises(UsageError, match="no model at 'nanno'"):
        loading.load_model("nanno")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a model folder.*no config\.json"):
        loading.load_model(tmp_path)


def test_a_broken_model_folder_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    with pytest.raises(UsageError, match="cannot be loaded"):
        loading.load_model(tmp_path)


def test_a_hub_model_out_of_reach_is_answered_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="--model nano"):
        loading.load_model("no-such-owner/no-such-model")


def changed(saved: Path, folder: Path, config: dict[str, Any], **weights: Any) -> Path:
    """A copy of a model with other settings, and weights that are gone (None) or others."""
    shutil.copytree(saved, folder)
    [file] = folder.glob("*.safetensors")
    held = load_file(file)
    for name, value in weights.items():
        held.pop(name) if value is None else held.update({name: value})
    save_file(held, file, metadata={"format": "pt"})
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | config))
    return folder


DOWN = "model.layers.0.mlp.down_proj.weight"
FULL = "full_attention"


@pytest.mark.parametrize(
    ("config", "weights", "told"),
    [
        ({}, {DOWN: None}, rf"1 missing \(such as {DOWN}\)"),
        ({}, {DOWN: torch.zeros(3, 3)}, rf"1 of another shape \(such as {DOWN}\)"),
        ({"num_hidden_layers": 3, "layer_types": [FULL] * 3}, {}, r"missing \(such as .*layers\.2"),
        ({"num_hidden_layers": 1, "layer_types": [FULL]}, {}, r"it does not have .*layers\.1\."),
    ],
)
def test_weights_that_are_not_the_models_are_refused_and_never_drawn_at_random(
    saved: Path, tmp_path: Path, config: dict[str, Any], weights: dict[str, Any], told: str
) -> None:
    folder = changed(saved, tmp_path / "model", config, **weights)
    with pytest.raises(UsageError, match=rf"do not match its config\.json: .*{told}.*older"):
        loading.load_model(folder)


def test_a_file_of_weights_that_is_cut_is_a_usage_error(saved: Path, tmp_path: Path) -> None:
    folder = changed(saved, tmp_path / "model", {})
    [file] = folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="cannot be loaded as a causal language model"):
        loading.load_model(folder)


def test_a_tokenizer_without_chat_template_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    tiny.model().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="no chat template"):
        loading.load_model(tmp_path)
    with pytest.raises(UsageError, match="no chat template"):
        Codec(tokenizer)


def raising(error: Exception) -> Any:
    def read(*args: Any, **kwargs: Any) -> Any:
        raise error

    return read


def test_a_gated_model_is_answered_with_how_to_get_in(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError("You are trying to access a gated repo.\nMake sure to have access to it.")
    monkeypatch.setattr(loading, "_read", raising(error))
    with pytest.raises(UsageError, match=r"is gated: .*https://huggingface.co/some/model .*login"):
        loading.load_model("some/model")


def test_an_unknown_revision_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError("v9 is not a valid git identifier (branch name, tag name or commit id)")
    monkeypatch.setattr(loading, "_read", raising(error))
    with pytest.raises(UsageError, match=r"no such --model-revision: v9"):
        loading.load_model("some/model", revision="v9")


def test_a_revision_belongs_to_the_hub_and_reaches_it(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="--model-revision v1 was given"):
        loading.load_model(saved, revision="v1")
    asked: list[Any] = []

    def read(given: Any, **options: Any) -> Any:
        asked.append((given.where, given.revision))
        return tiny.model(), tiny.tokenizer()

    monkeypatch.setattr(loading, "_read", read)
    loading.load_model("some/model", revision="v1")
    assert asked == [("some/model", "v1")]


def test_the_attention_is_the_one_asked_for(saved: Path) -> None:
    eager, _ = loading.load_model(saved, attention="eager")
    assert eager.config._attn_implementation == "eager"
    ids = torch.tensor(tiny.prompts([7]))
    torch.testing.assert_close(eager(ids).logits, tiny.model()(ids).logits, atol=1e-4, rtol=1e-4)
    with pytest.raises(UsageError, match="cannot be loaded"):
        loading.load_model(saved, attention="nonsense")


def test_a_device_map_places_the_model(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = loading.load_model(saved, device_map="cpu")
    ids = torch.tensor(tiny.prompts([7]))
    assert torch.equal(model(ids).logits, tiny.model()(ids).logits)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs accelerate"):
        loading.load_model(saved, device_map="auto")


def test_a_run_whose_answers_cannot_fit_the_context_is_refused_at_once(saved: Path) -> None:
    config = RunConfig(model=str(saved), max_new_tokens=256)
    with pytest.raises(UsageError, match=r"256 new tokens .* context of 256 .*--max-new-tokens"):
        build(config)
    assert build(replace(config, max_new_tokens=255)).room_for_prompts(255) == 1


def test_a_runs_settings_reach_the_policy(saved: Path) -> None:
    config = RunConfig(
        model=str(saved),
        max_new_tokens=9,
        precision="mixed",
        lora_rank=2,
        lora_alpha=6,
        gradient_checkpointing=True,
        attention="eager",
        thinking="off",
    )
    policy = build(config)
    assert policy.model.dtype == torch.bfloat16
    trains = {p.dtype for p in policy.model.parameters() if p.requires_grad}
    assert trains == {torch.float32}
    assert policy.adapted.peft_config["default"].lora_alpha == 6
    assert policy.config.gradient_checkpointing
    assert policy.config.autocast
    assert build(replace(config, lora_rank=0)).model.dtype == torch.float32


def test_an_absent_device_is_refused(saved: Path) -> None:
    with pytest.raises(UsageError, match="nonsense"):
        loading.load_model(saved, device="nonsense")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no GPU"):
            loading.load_model(saved, device="cuda")


def test_a_prompt_ends_where_the_assistant_begins() -> None:
    codec = Codec(tiny.tokenizer())
    chat = (Message("user", "ab"), Message("assistant", "c"), Message("user", "d"))
    text = codec.tokenizer.decode(codec.prompt_ids(chat))
    assert text == "<|user|>ab<|end|><|assistant|>c<|end|><|user|>d<|end|><|assistant|>"
    assert codec.prompt_ids(chat) == codec.prompt_ids(tuple(chat))


def test_a_caller_cannot_spoil_the_cached_prompt() -> None:
    codec = Codec(tiny.tokenizer())
    first = codec.prompt_ids(user("x"))
    first.clear()
    assert codec.prompt_ids(user("x"))


def test_decoding_leaves_special_tokens_out_and_spaces_alone() -> None:
    codec = Codec(tiny.tokenizer())
    ids = codec.tokenizer.encode("a , b\n  ü .", add_special_tokens=False)
    assert codec.decode([*ids, 1]) == "a , b\n  ü ."


def test_stops_come_from_the_tokenizer_and_the_generation_config() -> None:
    model = tiny.model()
    model.generation_config.eos_token_id = [1, 7]
    assert Codec(tiny.tokenizer(), model.generation_config).stop_ids == {1, 7}
    assert Codec(tiny.tokenizer()).stop_ids == {1}


def test_a_tokenizer_without_pad_token_pads_with_a_stop_token() -> None:
    tokenizer = tiny.tokenizer()
    assert Codec(tokenizer).pad_id == 0
    tokenizer.pad_token = None
    assert Codec(tokenizer).pad_id == 1
    tokenizer.eos_token = None
    assert Codec(tokenizer).stop_ids == {1}, "the template closes an answer with it"
    tokenizer.chat_template = tiny.TEMPLATE.replace("<|end|>", "")
    with pytest.raises(UsageError, match="end-of-sequence"):
        Codec(tokenizer)


def test_small_models_get_one_thread_unless_told_otherwise() -> None:
    before, model = torch.get_num_threads(), tiny.model()
    try:
        assert loading.set_threads(2, model) == 2
        assert loading.set_threads(None, model) == 1
        with pytest.raises(UsageError, match="--threads 0: give at least 1"):
            loading.set_threads(0, model)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="NOT GLIBC: nothing is tuned here")
def test_the_tuned_allocator_reuses_large_blocks() -> None:
    count = (
        "import resource, torch\n"
        "from resd_bench.policy.loading import tune_allocator\n"
        "torch.set_num_threads(1)\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def cost():\n"
        "    [torch.zeros(1 << 20) for _ in range(3)]\n"
        "    before = faults()\n"
        "    for _ in range(20): torch.zeros(1 << 20) + torch.zeros(1 << 20)\n"
        "    return faults() - before\n"
        "plain = cost()\n"
        "print(tune_allocator() and cost() * 10 < plain, plain)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", count], capture_output=True, text=True, check=True
    ).stdout
    assert out.split()[0] == "True", out
