"""`run` warns before it samples what cannot be answered, and shows the defaults that apply."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from resd_bench import plugins
from resd_bench.cli import main
from resd_bench.commands.run import HEADINGS, PLANS, flags_of_config
from resd_bench.packaged_models import NAMES, packaged_folder, unspoken
from resd_bench.plugins import installed

SPOKEN = {
    *("manufactoria-has", "manufactoria-has-l2", "manufactoria-has-l3", "manufactoria-has-l4"),
    *("manufactoria-has-l5", "python-functions-basic", "bouncingsim-basic", "finer"),
    *("finer-few", "textworld-coin", "textworld-coin-easy", "textworld-coin-hard"),
    "textworld-coin-listed",
}
REFLECTIVE = {name for name in SPOKEN if name.startswith(("finer", "manufactoria-has"))}
"""What nano-reflective was trained on, with tiers."""


@pytest.mark.parametrize("model", NAMES)
def test_the_embedded_models_speak_what_they_were_trained_on(toy: ModuleType, model: str) -> None:
    found = {name for name in installed("resd_bench.envs") if not unspoken(model, name)}
    assert found == (REFLECTIVE if model == "nano-reflective" else SPOKEN)
    told = unspoken(model, "guess-number")
    assert all(name in told for name in found if "-" not in name)
    assert ("textworld-coin" in told) == (model != "nano-reflective")


def test_of_other_models_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where a file of that name is not about a model elsewhere
    for told in ("", "[]", "[" * 100_000, json.dumps({"config": {"curriculum": "finer"}})):
        (tmp_path / "pretraining.json").write_text(told)
        assert bool(unspoken(str(tmp_path), "ifeval")) == ("finer" in told)
    assert not unspoken("smollm2", "ifeval")
    assert not unspoken("OWNER/NAME", "ifeval")


def test_one_warning_comes_before_anything_is_sampled(
    toy: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("resd_bench.commands.run.run_one", lambda *a, **k: print("sampled") or 0)
    monkeypatch.setattr("resd_bench.commands.run.show_mean", lambda folders: None)
    assert main(["run", "--env", "toy-say", "--seeds", "0-2"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("sampled") == 3
    assert printed.err.count("does not speak toy-say") == 1
    assert main(["run", "--env", "finer"]) == 0
    assert "warning" not in capsys.readouterr().err


def test_help_has_every_setting_once_under_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    named = [name for own in HEADINGS.values() for name in own]
    assert sorted(named) == sorted(flag.name for flag in flags_of_config())
    assert main(["run", "--help"]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(f"\n{heading}:\n") for heading in ("Options", *HEADINGS, PLANS)]
    assert places == sorted(places)
    assert places[-1] < shown.index("--gpus")


def test_help_says_what_applies_with_the_default_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = json.loads((packaged_folder("nano").parents[1] / "defaults.json").read_text())
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["run", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    by_method = {name for own in settings.pop("methods").values() for name in own}
    for name, value in settings.items():
        if name != "method" and name not in by_method:
            assert f"with nano: {value}]" in shown
    for told in ("8, 16 or 32", "4, 8, 16 or 32", "0.0003 or 0.001", "0.05, 0.125 or 0.25"):
        assert f"with nano, by method: {told}]" in shown
    assert "{" not in shown
    assert main(["methods", "info", "resd"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"({settings['method']['max_entries']} with nano)" in shown.replace("│ ", "")
    assert f"(--group-size): {plugins.method('resd').group_size}." in shown
    assert main(["methods", "info", "sdpo"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--learning-rate 0.001" in shown
    assert "--warmup 0.25 --batch-size 8. `run --method sdpo --dry-run`" in shown
