"""`--model FOLDER` with an adapter: its base is found from anywhere, is the right one, trains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from resd_bench.config import resolve
from resd_bench.errors import UsageError
from resd_bench.objective import TokenBatch, TokenObjective
from resd_bench.policy import loading
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.types import Completion, Example, user
from tests.policy import odd_tokenizers, tiny

pytest.importorskip("peft", reason="PEFT ABSENT: pip install '.[lora]'")


def nll(batch: TokenBatch) -> torch.Tensor:
    picked = batch.student_logits.gather(-1, batch.token_ids[..., None])[..., 0]
    return batch.student_logits.logsumexp(-1) - picked


def train(policy: LMPolicy, times: int = 2) -> LMPolicy:
    """Let a policy learn something, so that its weights differ from where they began."""
    example = Example(user("ab"), Completion("x", (7, 9, 11, 1)))
    for _ in range(times):
        assert policy.update([example], TokenObjective(nll), batch_size=1)["policy/grad_norm"] > 0
    return policy


def config(rank: int = 0) -> PolicyConfig:
    return PolicyConfig(learning_rate=0.05, warmup_updates=0, lora_rank=rank, adapter_seed=3)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([[5, 6, 7, 8]])).logits
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    tiny.model().save_pretrained(tmp_path / "base")
    tiny.tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An adapter that was trained on a base named by a relative path."""
    monkeypatch.chdir(base.parent)
    train(LMPolicy.load("base", config(2))).save(base.parent / "adapter")
    return base.parent / "adapter"


def test_a_saved_adapter_finds_its_base_from_another_folder(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = logits(loading.load_model(adapter)[0])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert torch.equal(logits(loading.load_model("../adapter")[0]), expected)
    assert not torch.equal(logits(loading.load_model("../base")[0]), expected)


def test_plain_peft_finds_the_base_from_another_folder_too(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft

    expected = logits(loading.load_model(adapter)[0])
    monkeypatch.chdir("/")
    model = peft.AutoPeftModelForCausalLM.from_pretrained(str(adapter))
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)


def test_all_merged_weights_train(adapter: Path) -> None:
    policy = LMPolicy.load(adapter, config())
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    assert all(p.requires_grad for p in policy.model.parameters())
    train(policy)
    assert all(not torch.equal(p, before[n]) for n, p in policy.model.named_parameters())


def test_an_adapter_on_an_adapter_names_the_folder_it_was_trained_on(
    adapter: Path, tmp_path: Path
) -> None:
    second = train(LMPolicy.load(adapter, config(2)))
    expected = logits(second.model)
    second.save(tmp_path / "second")
    named = json.loads((tmp_path / "second/adapter_config.json").read_text())
    assert named["base_model_name_or_path"] == str(adapter)
    found = logits(loading.load_model(tmp_path / "second")[0])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_base_with_other_weights_is_refused(adapter: Path, base: Path) -> None:
    tiny.model(seed=1).save_pretrained(base)
    with pytest.raises(UsageError, match="trained on another"):
        loading.load_model(adapter)


def test_the_base_is_noted_as_it_was_loaded_and_not_as_it_is_at_the_end(
    base: Path, tmp_path: Path
) -> None:
    policy = LMPolicy.load(base, config(2))
    tiny.model(seed=1).save_pretrained(base)
    policy.save(tmp_path / "late")
    with pytest.raises(UsageError, match="trained on another"):
        loading.load_model(tmp_path / "late")


def test_a_base_that_is_gone_is_refused_with_what_to_do(adapter: Path, base: Path) -> None:
    shutil.move(base, base.with_name("moved"))
    with pytest.raises(UsageError, match=r"trained on '.*base', which is not here: put that"):
        loading.load_model(adapter)
    path = adapter / "adapter_config.json"
    named = json.loads(path.read_text()) | {"base_model_name_or_path": str(base.with_name("moved"))}
    path.write_text(json.dumps(named))
    assert loading.load_model(adapter), "set there, it is found"


def test_a_damaged_note_of_the_base_is_a_usage_error(adapter: Path) -> None:
    for text in ("{", "[]", '{"identity": '):
        (adapter / "base_model.json").write_text(text)
        with pytest.raises(UsageError, match=r"base_model\.json cannot be read"):
            loading.load_model(adapter)
    (adapter / "base_model.json").unlink()
    assert loading.load_model(adapter), "adapters of others have none"


def test_an_adapter_of_an_embedded_model_finds_it_wherever_it_is_packaged(tmp_path: Path) -> None:
    LMPolicy.load("nano", config(2)).save(tmp_path / "adapter")
    path = tmp_path / "adapter/adapter_config.json"
    named = json.loads(path.read_text())
    assert Path(named["base_model_name_or_path"]) == odd_tokenizers.SOURCE.resolve()
    away = named | {"base_model_name_or_path": "/another/machine/weights/nano"}
    path.write_text(json.dumps(away))
    assert torch.equal(
        logits(loading.load_model(tmp_path / "adapter")[0]), logits(loading.load_model("nano")[0])
    )


def test_prompts_for_an_adapter_are_worded_as_for_its_base(tmp_path: Path) -> None:
    LMPolicy.load("nano", config(2)).save(tmp_path / "adapter")
    assert (
        resolve({}, {"model": str(tmp_path / "adapter"), "max_new_tokens": 9}).dialect == "compact"
    )
