"""What looks secret is not written down: no manifest, configuration, status or tracker has it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given

from resd_bench.cli import main
from resd_bench.config import RunConfig, differences, resolve
from resd_bench.errors import UsageError
from resd_bench.records.manifest import manifest

HIDDEN = "<hidden>"
SECRETS = [
    *("api_key", "api-key", "apiKey", "APIKEY", "OPENAI_API_KEY", "HF_TOKEN", "token", "password"),
    *("env.api_key", "env.db.passwd", "client_secret", "aws_secret_access_key", "Authorization"),
    *("openai_key", "HF_KEY", "wandb_key", "license_key", "master_key", "privatekey", "dsn"),
    *("private_key", "auth", "github_token", "access.token", "key", "env.key", "credentials"),
]
HARMLESS = [
    *("max_new_tokens", "generated_tokens", "method.top_k", "pad_token", "eos_token_id", "author"),
    *(
        "monkey",
        "keyboard",
        "env.path",
        "tokenizer",
        "answer_key",
        "seed",
        "authority",
        "keys_read",
    ),
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_name_that_looks_secret_is_known(name: str) -> None:
    from resd_bench.files.redaction import looks_secret

    assert looks_secret(name)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_name_is_not_hidden(name: str) -> None:
    from resd_bench.files.redaction import looks_secret

    assert not looks_secret(name)


def test_every_setting_of_a_run_is_shown() -> None:
    from resd_bench.files.redaction import looks_secret

    assert not [name for name in RunConfig.__dataclass_fields__ if looks_secret(name)]
    config = resolve({}, {"max_new_tokens": 64})
    assert HIDDEN not in config.to_yaml()
    assert RunConfig.from_yaml(config.to_yaml()) == config


WORDS = [
    ["--set", "env.api_key=SEKRIT"],
    ["--set=env.password=SEKRIT"],
    ["--api-key", "SEKRIT"],
    ["--token=SEKRIT"],
    ["--set", "env.headers={Authorization: SEKRIT, n: 1}"],
    ["--set", 'env.headers={"api_key": "SEKRIT and more", n: 1}'],
    ["--server", "https://user:SEKRIT@host/v1"],
    ["--server", "https://host/v1?api_key=SEKRIT&x=1"],
    ["--set", "env.header=Bearer SEKRIT"],
    ["SEKRIT-in-the-environment"],
]


@pytest.mark.parametrize("words", WORDS)
def test_the_command_line_of_a_manifest_hides_values(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "SEKRIT-in-the-environment")
    monkeypatch.setattr(sys, "argv", ["resd-bench", "run", "--max-new-tokens", "64", *words])
    command = manifest([], 1, "nano")["command"]
    assert "SEKRIT" not in json.dumps(command)
    assert HIDDEN in json.dumps(command)
    assert command[1:4] == ["run", "--max-new-tokens", "64"]


def test_keys_of_known_shapes_are_hidden_wherever_they_stand() -> None:
    from resd_bench.files.redaction import redact

    shapes = ["sk-abcdefgh12345678", "hf_abcdefghij123", "ghp_" + "a" * 36, "AKIA" + "A" * 16]
    for key in shapes:
        assert key not in redact(f"server said: {key}!")
    assert redact("runs-out/task-skill/risk-free") == "runs-out/task-skill/risk-free"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=6))
def test_any_command_line_is_taken(words: list[str]) -> None:
    from resd_bench.files.redaction import redact_command

    assert len(redact_command(words)) == len(words)


def test_the_value_of_a_secret_option_is_neither_in_a_configuration_nor_forgotten() -> None:
    sets = ["env.api_key=SEKRIT", "env.size=3", "env.nested={token: SEKRIT}"]
    config = resolve({}, {"env": "guess-number"}, sets)
    text = config.to_yaml()
    assert "SEKRIT" not in text
    assert "SEKRIT" not in json.dumps(config.shown())
    assert "SEKRIT" not in json.dumps(config.of_results())
    assert config.env_options["api_key"] == "SEKRIT", "the environment gets it"
    saved = RunConfig.from_yaml(text)
    assert differences(saved, config) == [], "it can be gone on with"
    assert saved.digest() == config.digest()
    with pytest.raises(UsageError, match=r"env\.api_key was hidden.*--set env\.api_key=VALUE"):
        resolve(yaml.safe_load(text))
    again = resolve(yaml.safe_load(text), {}, [sets[0], "env.nested.token=SEKRIT", sets[2]][::2])
    assert again.env_options["api_key"] == "SEKRIT"


def test_what_a_failed_run_says_of_itself_holds_no_secret(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_API_KEY", "SEKRIT-VALUE")

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise UsageError("https://me:SEKRIT@host/v1 refuses SEKRIT-VALUE, password: SEKRIT")

    monkeypatch.setattr("resd_bench.jobs.run.Run.advance", refuse)
    words = ["run", "--env", "toy-say", "--method", "toy-learner", "--model", "scripted"]
    words += ["--out", "out", "--budget", "10ep", "--batch-size", "5", "--max-new-tokens", "20"]
    assert main(words) == 2
    status = (tmp_path / "out/toy-say/toy-learner/seed-0/status.json").read_text()
    assert "refuses" in status
    assert "SEKRIT" not in status


@pytest.mark.parametrize("service", ["WandB", "Trackio"])
def test_a_tracker_is_not_told_secrets(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resd_bench.monitoring import trackers

    told: list[Any] = []

    class Fake(ModuleType):
        def init(self, **options: Any) -> None:
            told.append(options)

    monkeypatch.setitem(sys.modules, service.lower(), Fake(service.lower()))
    config = resolve({}, {"env": "guess-number", "out": str(tmp_path)}, ["env.api_key=SEKRIT"])
    getattr(trackers, service)(config, 0)
    assert "SEKRIT" not in json.dumps(told)
    assert told[0]["config"]["env"] == "guess-number"


@pytest.mark.slow
def test_redaction_takes_time_in_the_length_of_the_text() -> None:
    import time

    from resd_bench.files.redaction import redact

    for piece in ("token: ", "a=", "token=", "-eyJ", "://a", "token='", "a"):
        began = time.process_time()
        redact(piece * (200_000 // len(piece)))
        assert time.process_time() - began < 3, piece
