"""An engine is found by entry point, ours like a stranger's, and asked for by name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from resd_bench import plugins
from resd_bench.config import resolve
from resd_bench.distributed.process_group import SINGLE_PROCESS
from resd_bench.errors import UsageError
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


def _build(setup: EngineSetup) -> Shouting:
    return Shouting(setup.model, setup.stop_ids, setup.pad_id)


SHOUTING = EngineSpec("shouting", "an engine of a plugin", _build)


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
    assert {"auto", "fast", "hf", "vllm", "openai"} <= set(registry.names())
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
    with pytest.raises(UsageError, match=r"fast engine does not know Qwen3.*--engine hf or auto"):
        policy(windowed, engine="fast")


def test_a_model_spread_over_devices_is_left_to_hf(monkeypatch: pytest.MonkeyPatch) -> None:
    spread = tiny.model(tie_word_embeddings=False)
    assert registry.choose_engine("auto", spread).name == "fast"
    spread.lm_head.to("meta")
    assert registry.choose_engine("auto", spread).name == "hf"


def test_an_unknown_engine_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown engine 'fats'. Did you mean 'fast'.*auto, fast"):
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


def test_an_engine_for_one_process_is_refused_to_several(shouting: None) -> None:
    setup = EngineSetup(tiny.model(), [1], 0, 256, None, PolicyConfig())
    assert isinstance(registry.make("shouting", setup, SINGLE_PROCESS.size), Shouting)
    with pytest.raises(UsageError, match=r"samples for one process and there are 2.*--engine auto"):
        registry.make("shouting", setup, 2)


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
        registry.make("shouting", setup, 1)


def test_names_are_known_without_loading_an_engine_or_torch() -> None:
    code = (
        "import sys, resd_bench.config, resd_bench.planning.memory; "
        "from resd_bench.policy import limits; from resd_bench.policy.engines import registry; "
        "registry.names(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
