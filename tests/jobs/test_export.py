"""Exporting what a run has trained: the same logits elsewhere, and a card that tells the truth."""

from __future__ import annotations

import inspect
import socket
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from resd_baselines.playbook import Playbook
from resd_bench.cli import main
from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.jobs.export import export, push
from resd_bench.jobs.setup import make_agent
from resd_bench.packaged_models import model_defaults
from resd_bench.policy import loading
from resd_bench.records.checkpoints import checkpoint_files, load_checkpoint
from tests.policy import tiny

RUN = [
    *("run", "--env", "manufactoria-has", "--budget", "2upd", "--batch-size", "4"),
    *("--eval-tasks", "2", "--eval-samples", "1", "--eval-every", "0", "--max-new-tokens", "24"),
    *("--warmup-updates", "1"),
]
IDS = torch.arange(4, 20)[None]


@torch.no_grad()
def logits(model: Any) -> Tensor:
    found: Tensor = model.eval()(IDS).logits
    return found


def trained(run: Path) -> Any:
    """The model as the run's last checkpoint has it."""
    policy, agent = make_agent(RunConfig.from_yaml((run / "config.yaml").read_text()))
    agent.load_state_dict(load_checkpoint(checkpoint_files(run / "checkpoints")[0]).state["agent"])
    return policy.model  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def adapter_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    assert main([*RUN, "--method", "resd", "--lora-rank", "2", "--out", str(out)]) == 0
    return out / "manufactoria-has/resd/seed-0"


@pytest.mark.slow
def test_an_exported_adapter_gives_the_same_logits_in_plain_peft(
    adapter_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "adapter"
    assert main(["export", str(adapter_run), "--to", str(to)]) == 0
    assert "adapter after 2 updates" in capsys.readouterr().out
    base: Any = AutoModelForCausalLM.from_pretrained(
        loading.local_path("nano"), dtype=torch.float32
    )
    before = logits(base)
    # Here, since it takes long to import.
    import peft

    reloaded = logits(peft.PeftModel.from_pretrained(base, to))
    assert torch.equal(reloaded, logits(trained(adapter_run)))
    assert not torch.equal(reloaded, before)
    assert not any("teacher" in path.name for path in to.iterdir())
    assert AutoTokenizer.from_pretrained(to).chat_template


@pytest.mark.slow
def test_an_exported_model_gives_the_same_logits_in_plain_transformers(tmp_path: Path) -> None:
    # A model of one's own, so that nothing depends on what ships.
    model, tokenizer = tiny.model(max_position_embeddings=4096), tiny.tokenizer()
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    arguments = ["--model", str(tmp_path / "base"), "--method", "sdpo", "--dialect", "compact"]
    arguments += ["--learning-rate", "0.01"]
    assert main([*RUN, *arguments, "--out", str(tmp_path / "runs")]) == 0
    run = tmp_path / "runs/manufactoria-has/sdpo/seed-0"
    made = export(run, tmp_path / "model", update=2)
    assert (made.adapter, made.playbook) == (False, False)
    reloaded: Any = AutoModelForCausalLM.from_pretrained(made.folder, dtype=torch.float32)
    assert torch.equal(logits(reloaded), logits(trained(run)))
    assert not torch.equal(logits(reloaded), logits(tiny.model(max_position_embeddings=4096)))
    assert "model organism" not in (made.folder / "README.md").read_text()
    assert model_defaults(str(made.folder)) == {}


def test_the_card_says_what_was_run_what_came_out_and_that_nano_is_a_model_organism(
    adapter_run: Path, tmp_path: Path
) -> None:
    made = export(adapter_run, tmp_path)
    text = (tmp_path / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "peft"
    assert front["tags"] == ["resd-bench", "resd", "manufactoria-has"]
    assert "base_model" not in front
    for part in ("model organism", "| before |", "| after 8 training rollouts |", "seed 0"):
        assert part in text
    assert "LoRA rank 2" in text
    assert "commit of resd-bench: `" in text or "unknown" in text
    assert "{" not in text.split("```")[0]
    config = RunConfig.from_yaml((tmp_path / "run-config.yaml").read_text())
    assert (
        config.digest() == RunConfig.from_yaml((adapter_run / "config.yaml").read_text()).digest()
    )
    assert made.update == 2
    # A run with it has the settings of a run with nano, not those of any small model.
    assert model_defaults(str(tmp_path)) == model_defaults("nano")


def test_the_exported_playbook_is_the_one_the_method_ended_with(
    adapter_run: Path, tmp_path: Path
) -> None:
    made = export(adapter_run, tmp_path)
    state = load_checkpoint(checkpoint_files(adapter_run / "checkpoints")[0]).state["agent"]
    kept = Playbook.from_state(state["playbook"])
    assert made.playbook == bool(kept.entries)
    if kept.entries:
        written = Playbook.parse((tmp_path / "playbook.txt").read_text())
        assert [e.line for e in written.entries] == [e.line for e in kept.entries]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--to", "new"], "is not a run folder"),
        (["RUN", "--to", "taken"], "is not an empty folder"),
        (["RUN", "--to", "new", "--checkpoint", "77"], "has no checkpoint 77"),
        (["RUN", "--to", "new", "--push", "no/such/name"], "give OWNER/NAME"),
    ],
)
def test_mistakes_are_answered_before_anything_is_written(
    adapter_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").mkdir()
    Path("taken/file").write_text("mine")
    given = [str(adapter_run) if word == "RUN" else word for word in arguments]
    assert main(["export", *given]) == 2
    assert message in capsys.readouterr().err
    assert not Path("new").exists()


class Hub:
    """Stands for `HfApi`: calls must fit its signatures, and are written down."""

    calls: list[tuple[str, dict[str, Any]]]

    def create_repo(self, *args: Any, **kwargs: Any) -> str:
        self._note("create_repo", args, kwargs)
        return "https://huggingface.co/me/mine"

    def upload_folder(self, *args: Any, **kwargs: Any) -> None:
        self._note("upload_folder", args, kwargs)

    def _note(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        real = getattr(REAL_API, name)
        bound = inspect.signature(real).bind(self, *args, **kwargs)
        type(self).calls.append((name, dict(bound.arguments)))


REAL_API = huggingface_hub.HfApi


def test_a_push_makes_a_private_repository_and_sends_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Hub.calls = []
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(loading, "without_network", lambda: False)
    assert push(tmp_path, "me/mine", private=True) == "https://huggingface.co/me/mine"
    (made, repository), (sent, folder) = Hub.calls
    assert (made, sent) == ("create_repo", "upload_folder")
    assert repository["private"] is True
    assert folder["folder_path"] == str(tmp_path)


def test_a_push_without_network_or_login_says_how_to_send_the_folder_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*address: Any) -> None:
        raise OSError("no network")

    for name in ("HTTPS_PROXY", "https_proxy", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    with pytest.raises(UsageError, match=f"cannot be reached.*hf upload me/mine {tmp_path}"):
        push(tmp_path, "me/mine", private=True)

    def refused(*args: Any, **kwargs: Any) -> None:
        raise huggingface_hub.errors.LocalTokenNotFoundError("no token")

    monkeypatch.setattr(loading, "without_network", lambda: False)
    monkeypatch.setattr(Hub, "create_repo", refused)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    with pytest.raises(UsageError, match="hf auth login"):
        push(tmp_path, "me/mine", private=True)
