"""Killed and resumed, a run measures the same; nothing measured is lost; damage is named."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.jobs.run import run
from resd_bench.policy.build import build
from resd_bench.records.checkpoints import checkpoint_files
from resd_bench.records.log_files import read_log
from resd_bench.records.recorder import LOGS
from tests.places import TOY_PLUGIN

pytestmark = pytest.mark.slow


CLOCK = {"seconds", "evaluation_seconds"}
"""What differs between any two runs."""

SETTINGS = {
    "env": "toy-say",
    "method": "toy-learner",
    "model": "scripted",
    "budget": "120ep",
    "batch_size": 5,
    "eval_every": 3,
    "eval_samples": 2,
    "max_new_tokens": 20,
    "checkpoint_every": 2,
}

CHILD = """
import sys
from pathlib import Path
import toy_plugin
from resd_bench.config import RunConfig
from resd_bench.jobs.run import run
config = RunConfig.from_yaml(Path(sys.argv[1]).read_text())
policy = toy_plugin.policy if config.model == "scripted" else None
print(run(config, resume=True, policy=policy).state)
"""


@pytest.fixture
def config(toy: ModuleType, tmp_path: Path) -> RunConfig:
    return resolve(SETTINGS, {"out": str(tmp_path / "out")})


def measured(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [{k: v for k, v in row.items() if k not in CLOCK} for row in read_log(folder / name)]
        for name in LOGS
    }


def interrupt(config: RunConfig, after: int, policy: Any = None) -> None:
    """Leave the run as a kill after `after` updates would: checkpoints lag behind the logs."""

    class Killed(BaseException):
        pass

    class Killer:
        def updated(self, row: dict[str, Any]) -> None:
            if row["update"] == after:
                raise Killed

        def evaluated(self, point: Any) -> None:
            pass

    with pytest.raises(Killed):
        run(config, watchers=[Killer()], policy=policy)


def start(config: RunConfig, tmp_path: Path) -> subprocess.Popen[str]:
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    path = str(TOY_PLUGIN)
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(file)],
        env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_and_resume(config: RunConfig, tmp_path: Path, *, kills: int, seconds: float) -> int:
    """Run to the end in child processes of which the first `kills` die; how many did."""
    rng, killed, born = random.Random(time.time_ns()), 0, 0.0
    while True:
        child, began = start(config, tmp_path), time.monotonic()
        log = config.folder() / "metrics.jsonl"
        while killed == 0 and not log.exists() and child.poll() is None:
            assert time.monotonic() - began < 120, "the child never got to an update"
            time.sleep(0.01)
        # Once it has begun, an attempt lives for a random part of what the updates take.
        start_up = 0.7 * born
        born = born or time.monotonic() - began
        if killed < kills:
            with suppress(subprocess.TimeoutExpired):
                child.wait(start_up + rng.uniform(0, seconds))
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
                killed += 1
        out, errors = child.communicate(timeout=120)
        if child.returncode == 0:
            assert out.strip() in ("finished", "already finished")
            return killed
        assert child.returncode == -signal.SIGKILL, errors


def test_killed_at_random_moments_a_run_ends_with_the_same_measurements(
    config: RunConfig, tmp_path: Path
) -> None:
    config = replace(config, method_options={**config.method_options, "wait": 0.02})
    whole = replace(config, out=str(tmp_path / "whole"))
    run(whole)
    assert kill_and_resume(config, tmp_path, kills=3, seconds=0.4) > 0
    assert measured(config.folder()) == measured(whole.folder())


def tiny_model(folder: Path) -> Path:
    """A language model of a few thousand weights, in the format of any other."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    letters = [*map(str, range(10)), *"abcdefghijklmnopqrstuvwxyz", " ", "<eos>", "<user>", "<bot>"]
    inner = Tokenizer(models.WordLevel({c: i for i, c in enumerate(letters)}, unk_token=" "))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    make_tokenizer: Any = PreTrainedTokenizerFast
    tokenizer = make_tokenizer(
        tokenizer_object=inner,
        eos_token="<eos>",
        pad_token="<eos>",
        additional_special_tokens=["<user>", "<bot>"],
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<user>' if m.role == 'user' else '<bot>' }}{{ m.content }}"
        "{% if m.role == 'assistant' %}<eos>{% endif %}{% endfor %}<bot>"
    )
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(letters),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=128,
        eos_token_id=letters.index("<eos>"),
        bos_token_id=None,
        tie_word_embeddings=True,
    )
    make_model: Any = Qwen3ForCausalLM
    make_model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_language_model_killed_at_a_random_moment_ends_with_the_same_measurements(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(tiny_model(tmp_path / "model"))
    options = {**config.method_options, "imitate_all": True, "wait": 0.02}
    config = replace(config, model=model, learning_rate=0.02, threads=1, method_options=options)
    whole = replace(config, out=str(tmp_path / "whole"))
    assert run(whole, policy=build).state == "finished"
    assert kill_and_resume(config, tmp_path, kills=2, seconds=0.8) > 0
    assert measured(config.folder()) == measured(whole.folder())
    trained = measured(config.folder())["metrics.jsonl"][-1]
    assert trained["policy/grad_norm"] > 0


def test_a_run_that_trains_an_adapter_goes_on_from_its_checkpoint(
    config: RunConfig, tmp_path: Path
) -> None:
    model = str(tiny_model(tmp_path / "model"))
    options = {**config.method_options, "imitate_all": True}
    config = replace(config, model=model, learning_rate=0.02, threads=1, method_options=options)
    config = replace(config, lora_rank=2, gradient_checkpointing=True, budget="30ep")
    whole = replace(config, out=str(tmp_path / "whole"))
    run(whole, policy=build)
    interrupt(config, 3, build)
    assert run(config, resume=True, policy=build).state == "finished"
    assert measured(config.folder()) == measured(whole.folder())
    assert measured(config.folder())["metrics.jsonl"][-1]["policy/grad_norm"] > 0


@pytest.mark.parametrize("after", [1, 2, 3, 5, 6, 24])
def test_what_was_measured_after_the_checkpoint_is_measured_again_and_kept(
    config: RunConfig, tmp_path: Path, after: int
) -> None:
    whole = replace(config, out=str(tmp_path / "whole"))
    run(whole)
    interrupt(config, after)
    outcome = run(config, resume=True)
    assert measured(config.folder()) == measured(whole.folder())
    orphaned = config.folder() / "metrics.jsonl.orphaned"
    updates = [json.loads(line)["update"] for line in orphaned.read_text().splitlines()]
    assert updates == list(range((after - 1) // 2 * 2 + 1, after + 1))
    assert any("moved to *.orphaned" in note for note in outcome.notes)


def test_a_run_killed_before_its_first_checkpoint_starts_again(config: RunConfig) -> None:
    interrupt(config, 1)
    for path in checkpoint_files(config.folder() / "checkpoints"):
        path.unlink()
    assert run(config, resume=True).state == "finished"
    assert len((config.folder() / "evals.jsonl.orphaned").read_bytes().splitlines()) == 12


def test_a_line_that_a_kill_cut_off_moves_aside(config: RunConfig, tmp_path: Path) -> None:
    whole = replace(config, out=str(tmp_path / "whole"))
    run(whole)
    interrupt(config, 5)
    path = config.folder() / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"update": 6, "epi')
    run(config, resume=True)
    assert measured(config.folder()) == measured(whole.folder())
    assert '{"update": 6, "epi' in (config.folder() / "metrics.jsonl.orphaned").read_text()


def test_a_log_that_lost_its_last_line_is_filled_from_the_checkpoint_before(
    config: RunConfig, tmp_path: Path
) -> None:
    whole = replace(config, out=str(tmp_path / "whole"))
    run(whole)
    interrupt(config, 6)
    path = config.folder() / "metrics.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)[:4]
    path.write_bytes(b"".join(kept)[:-9])
    outcome = run(config, resume=True)
    assert any("relies on 4 rows of metrics.jsonl" in note for note in outcome.notes)
    assert measured(config.folder()) == measured(whole.folder())


def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_touched(config: RunConfig) -> None:
    interrupt(config, 6)
    path = config.folder() / "evals.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b'{"upd\n', *lines[4:]]))
    before = {p: p.read_bytes() for p in config.folder().rglob("*") if p.is_file()}
    with pytest.raises(UsageError, match=r"evals.jsonl line 4 is damaged .*head -n 3.*--resume"):
        run(config, resume=True)
    assert before == {p: p.read_bytes() for p in before}


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    config: RunConfig, tmp_path: Path
) -> None:
    whole = replace(config, out=str(tmp_path / "whole"))
    run(whole)
    interrupt(config, 6)
    newest = checkpoint_files(config.folder() / "checkpoints")[0]
    data = bytearray(newest.read_bytes())
    data[-20] ^= 1
    newest.write_bytes(data)
    outcome = run(config, resume=True)
    assert any("checksum does not match" in note for note in outcome.notes)
    assert newest.with_name(newest.name + ".damaged").exists()
    assert measured(config.folder()) == measured(whole.folder())


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", b'{"update": 1}\n'])
def test_without_any_intact_checkpoint_the_remedy_is_named(
    config: RunConfig, damage: bytes
) -> None:
    interrupt(config, 6)
    for path in checkpoint_files(config.folder() / "checkpoints"):
        path.write_bytes(damage)
    logs = {name: (config.folder() / name).read_bytes() for name in LOGS}
    with pytest.raises(UsageError, match=r"no checkpoint in .* can be used.*start again without"):
        run(config, resume=True)
    assert logs == {name: (config.folder() / name).read_bytes() for name in LOGS}


def test_seconds_go_on_from_the_checkpoint(config: RunConfig) -> None:
    interrupt(config, 6)
    before = list(read_log(config.folder() / "metrics.jsonl"))[3]["seconds"]
    run(config, resume=True)
    seconds = [row["seconds"] for row in read_log(config.folder() / "metrics.jsonl")]
    assert seconds[4] > before
    assert seconds == sorted(seconds)
