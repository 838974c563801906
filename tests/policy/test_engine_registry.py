"""An engine is found by entry point, ours like a third party's, and asked for by name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any

import pytest

from resd_bench import plugins
from resd_bench.check.engine_properties import ENGINE_PROPERTIES
from resd_bench.check.engine_subject import EngineSubject
from resd_bench.cli import main
from resd_bench.config import RunConfig, differences, resolve
from resd_bench.errors import UsageError
from resd_bench.options import Range
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines import registry
from resd_bench.policy.engines.fast import FastEngine
from resd_bench.policy.engines.hf import HfEngine
from resd_bench.policy.engines.registry import EngineSetup, EngineSpec
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.types import Sampling, user
from tests.policy import tiny


class Shouting(HfEngine):
    """An engine of someone else's."""

    options: ShoutingOptions


@dataclass(frozen=True)
class ShoutingOptions:
    """Options of its own."""

    volume: Annotated[int, Range(1, 11)] = 5
    """How loud, from 1 to 11."""
    whispers: bool = False
    """Whether it may whisper."""


def _build(setup: EngineSetup) -> Shouting:
    made = Shouting(setup.model, setup.stop_ids, setup.pad_id)
    made.options = setup.own
    return made


SHOUTING = EngineSpec("shouting", "an engine of a plugin", _build, config=ShoutingOptions)


@pytest.fixture
def shouting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package's engine, installed for the length of a test."""
    known = dict(plugins.installed(registry.GROUP))
    known["shouting"] = EntryPoint("shouting", f"{__name__}:SHOUTING", registry.GROUP)

    def installed(group: str) -> dict[str, EntryPoint]:
        return known if group == registry.GROUP else found(group)

    found = plugins.installed
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.setattr(plugins, "installed", installed)


def policy(model: Any = None, **options: Any) -> LMPolicy:
    return LMPolicy(model or tiny.model(), tiny.tokenizer(), PolicyConfig(**options))


def test_every_file_of_an_engine_has_its_line_and_bears_its_name() -> None:
    assert {"auto", "chat", "fast", "hf", "vllm", "openai"} <= set(registry.names())
    for name in plugins.installed(registry.GROUP):
        spec = registry.find_engine(name)
        assert isinstance(spec, EngineSpec)
        assert spec.name == name
    assert registry.find_engine("auto") is None


def test_auto_is_the_fast_engine_where_it_serves_the_model_and_hf_elsewhere() -> None:
    windowed = tiny.model(
        use_sliding_window=True, sliding_window=4, max_window_layers=0, num_hidden_layers=2
    )
    assert isinstance(policy().engine, FastEngine)
    assert isinstance(policy(windowed).engine, HfEngine)
    assert isinstance(policy(engine="hf").engine, HfEngine)
    with pytest.raises(UsageError, match=r"fast engine does not support Qwen3.*--engine hf"):
        policy(windowed, engine="fast")


def test_a_model_spread_over_devices_is_left_to_hf(monkeypatch: pytest.MonkeyPatch) -> None:
    spread = tiny.model(tie_word_embeddings=False)
    assert registry.choose_engine("auto", spread).name == "fast"
    spread.lm_head.to("meta")
    assert registry.choose_engine("auto", spread).name == "hf"


def test_an_unknown_engine_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown engine 'fats'. Did you mean 'fast'.*auto, chat"):
        resolve(flags={"engine": "fats"})
    with pytest.raises(UsageError, match="Did you mean 'vllm'"):
        policy(engine="vlm")


def test_an_engine_of_another_package_samples_and_is_never_what_auto_chooses(
    shouting: None,
) -> None:
    assert resolve(flags={"engine": "shouting"}).engine == "shouting"
    subject = policy(engine="shouting")
    assert isinstance(subject.engine, Shouting)
    made = subject.sample([user("a")], n=2, sampling=Sampling(max_new_tokens=4), purpose="rollout")
    assert [len(group) for group in made] == [2]
    assert isinstance(policy().engine, FastEngine)


def test_an_engine_has_options_of_its_own_which_a_file_and_a_flag_set(
    shouting: None, tmp_path: Path
) -> None:
    loud = resolve({"engine": "shouting", "engine.volume": 7}, {}, ["engine.whispers=true"])
    assert loud.engine_options == {"volume": 7, "whispers": True}
    assert RunConfig.from_yaml(loud.to_yaml()) == loud
    plain = resolve({"engine": "shouting"})
    assert plain.engine_options == {"volume": 5, "whispers": False}
    assert plain.digest() != loud.digest()
    assert differences(plain, loud)[0] == "engine.volume: 5 there, 7 here"
    built = policy(engine="shouting", engine_options={"volume": "9"}).engine
    assert isinstance(built, Shouting)
    assert built.options == ShoutingOptions(volume=9)


@pytest.mark.parametrize(
    ("engine", "sets", "message"),
    [
        ("shouting", ["engine.volum=3"], "unknown option of engine shouting 'volum'. Did you mean"),
        ("shouting", ["engine.volume=12"], r"engine.volume: expected a value from 1 to 11"),
        ("shouting", ["engine.volume=loud"], "engine.volume: expected a whole number"),
        ("fast", ["engine.volume=3"], "unknown option of engine fast 'volume'"),
        ("auto", ["engine.volume=3"], "engine.volume is an option of one engine: name it with"),
    ],
)
def test_what_an_engine_has_not_is_refused(
    shouting: None, engine: str, sets: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(flags={"engine": engine}, sets=sets)


def test_options_of_engines_leave_records_of_before_as_they_are() -> None:
    config = resolve()
    assert not any("engine." in key for key in config.of_results())
    old = config.to_yaml().replace("engine_options: {}\n", "")
    assert old != config.to_yaml()
    assert RunConfig.from_yaml(old).digest() == config.digest()


def test_the_command_line_tells_and_checks_options_of_an_engine(
    shouting: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engines", "info", "shouting"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--set engine.NAME=VALUE" in shown
    assert "How loud, from 1 to 11." in shown
    assert main(["engines", "list"]) == 0
    assert "engine.volume" in capsys.readouterr().out
    assert main(["engines", "info", "auto"]) == 2
    subject = EngineSubject("shouting", SHOUTING, tiny.model(), {"volume": "2"})
    assert "engine.volume, engine.whispers" in ENGINE_PROPERTIES["spec"](subject)
    built = subject.engine()
    assert isinstance(built, Shouting)
    assert built.options.volume == 2
    with pytest.raises(UsageError, match="Did you mean 'volume'"):
        EngineSubject("shouting", SHOUTING, tiny.model(), {"volum": "2"}).engine()


def test_an_engine_for_one_process_is_refused_to_several(shouting: None) -> None:
    setup = EngineSetup(tiny.model(), [1], 0, 256, None, PolicyConfig())
    assert isinstance(registry.make("shouting", setup), Shouting)
    with pytest.raises(UsageError, match=r"supports only one process, and there are 2.*auto"):
        registry.make("shouting", replace(setup, processes=2))


def test_an_engine_gets_what_it_requires_and_no_other_gets_a_server(
    shouting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://localhost:1/v1"
    for engine, server in [("openai", None), ("fast", url), ("auto", url), ("shouting", url)]:
        with pytest.raises(UsageError, match="goes together with"):
            registry.check_server(engine, server)
    registry.check_server("openai", url)
    needy = replace(SHOUTING, options=("server",), required=("server",))
    monkeypatch.setattr(sys.modules[__name__], "SHOUTING", needy)
    setup = EngineSetup(tiny.model(), [1], 0, 256, None, PolicyConfig())
    with pytest.raises(UsageError, match="--engine shouting needs --server"):
        registry.make("shouting", setup)


def test_names_are_known_without_loading_an_engine_or_torch() -> None:
    code = (
        "import sys, resd_bench.config, resd_bench.planning.memory; "
        "from resd_bench.policy import limits; from resd_bench.policy.engines import registry; "
        "registry.names(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
