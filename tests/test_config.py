"""The configuration: layers, types, errors, and what its digest depends on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench import packaged_models
from resd_bench.config import (
    NOT_RESULTS,
    RunConfig,
    differences,
    load_file,
    method_config,
    resolve,
)
from resd_bench.errors import UsageError
from resd_bench.options import coerce, field_help

TOY = {"env": "toy-say", "method": "toy-learner", "model": "somewhere"}

pytestmark = pytest.mark.usefixtures("toy")


def make(**flags: Any) -> RunConfig:
    return resolve(TOY, flags)


def test_later_layers_override_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = {"learning_rate": 3e-4, "top_p": 0.8, "method": {"rate": 0.1, "unheard_of": 1}}
    monkeypatch.setattr(packaged_models, "model_defaults", lambda model: shipped)
    file = {**TOY, "preset": "release", "top_p": 0.7, "seed": 3}
    config = resolve(file, {"seed": "4"}, ["method.remember=9", "env.size=2"])
    assert config.weight_decay == 0.01
    assert config.eval_temperature == 0.6
    assert config.learning_rate == 3e-4
    assert (config.top_p, config.seed) == (0.7, 4)
    assert config.method_options == {"remember": 9, "rate": 0.1, "wait": 0.0, "imitate_all": False}
    assert config.env_options == {"size": 2}


def test_a_preset_reaches_harness_and_method() -> None:
    assert make().eval_temperature == 1.0
    release = make(preset="release")
    assert release.eval_temperature == 0.6
    assert release.method_options["rate"] == 0.25
    assert resolve(TOY | {"preset": "release"}, {}, ["method.rate=2"]).method_options["rate"] == 2


def test_the_method_says_how_large_a_group_is() -> None:
    assert make().group_size == 1
    assert make(method="toy-group").group_size == 4
    assert make(method="toy-group", group_size="2").group_size == 2


def test_yaml_gives_the_same_configuration_back() -> None:
    config = make(seed="7", eval_tasks="3", learning_rate="1e-5")
    assert RunConfig.from_yaml(config.to_yaml()) == config


def test_yaml_numbers_that_yaml_takes_for_text_are_numbers() -> None:
    assert resolve({**TOY, "learning_rate": "3e-4"}).learning_rate == 3e-4


def test_nested_and_dotted_options_mean_the_same() -> None:
    dotted = resolve(TOY, {}, ["method.rate=2"])
    nested = resolve({**TOY, "method_options": {"rate": 2}})
    assert dotted == nested == resolve({**TOY, "method_options.rate": 2})


def test_the_digest_depends_on_what_changes_results_and_on_nothing_else() -> None:
    config = make()
    for f in fields(RunConfig):
        changed: Any = {f.name: {"x": 1} if f.name.endswith("options") else "changed"}
        equal = replace(config, **changed).digest() == config.digest()
        assert equal == (f.name in NOT_RESULTS), f.name


def test_differences_name_keys_as_flags_do() -> None:
    old, new = make(), resolve(TOY, {"seed": 1}, ["method.rate=3"])
    assert differences(old, new) == [
        "seed: 0 there, 1 here",
        "method.rate: 0.5 there, 3.0 here",
    ]


@pytest.mark.parametrize(
    ("flags", "sets", "message"),
    [
        ({"env": "toy-sai"}, [], "unknown environment 'toy-sai'. Did you mean 'toy-say'"),
        ({"method": "toy-lerner"}, [], "unknown method 'toy-lerner'. Did you mean 'toy-learner'"),
        ({}, ["learning_rat=1"], "configuration key 'learning_rat'. Did you mean 'learning_rate'"),
        ({}, ["method.remembr=1"], "method toy-learner 'remembr'. Did you mean 'remember'"),
        ({}, ["nonsense"], "give KEY=VALUE"),
        ({}, ["policy.x=1"], "dotted keys start with method., env. or engine."),
        ({"learning_rate": "fast"}, [], "learning_rate: expected a number, got 'fast'"),
        ({"batch_size": "2.5"}, [], "batch_size: expected a whole number, got '2.5'"),
        ({"batch_size": "0"}, [], "batch_size: expected a value at least 1"),
        ({"top_p": "0"}, [], r"top_p: expected a value in \(0, 1\]"),
        ({"temperature": "nan"}, [], "temperature: expected a value at least 0"),
        ({"budget": "12"}, [], "such as 1280ep"),
        ({"preset": "papers"}, [], "expected 'paper' or 'release', got 'papers'"),
        ({}, ["method.remember=many"], "method.remember: expected a whole number, got 'many'"),
        ({}, ["env.dialect=full"], "give --dialect instead"),
    ],
)
def test_mistakes_are_named_with_their_remedy(
    flags: dict[str, str], sets: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(TOY, flags, sets)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "holds a list: give a mapping"),
        ("a: [1\n", "is not valid YAML"),
        ("batch_sizes: 3\n", "Did you mean 'batch_size'"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Any, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        resolve({**load_file(path), **TOY})


def test_a_missing_file_is_named(tmp_path: Any) -> None:
    with pytest.raises(UsageError, match=r"absent.yaml cannot be read"):
        load_file(tmp_path / "absent.yaml")


def test_values_are_converted_by_type() -> None:
    assert coerce("x", "1_000", int) == 1000
    assert coerce("x", "1e3", int) == 1000
    assert coerce("x", "off", bool) is False
    assert coerce("x", "none", int | None) is None
    assert coerce("x", "a,b", tuple[str, ...]) == ("a", "b")
    assert coerce("x", ["1", 2], list[int]) == [1, 2]
    assert coerce("x", "2", Literal[1, 2]) == 2
    assert coerce("x", 3, float | None) == 3.0
    for value, hint in [(True, int), ("maybe", bool), ("inf", int), (None, int), (2, bool)]:
        with pytest.raises(UsageError, match="x: expected"):
            coerce("x", value, hint)


@given(st.text())
def test_no_text_breaks_conversion(text: str) -> None:
    for hint in (int, float, bool, int | None, Literal["a"]):
        with suppress(UsageError):
            coerce("x", text, hint)


def test_every_setting_says_what_it_is() -> None:
    assert set(field_help(RunConfig)) == {f.name for f in fields(RunConfig)}


def test_what_a_method_refuses_is_a_mistake_of_the_user(toy: ModuleType) -> None:
    with pytest.raises(UsageError, match="method picky: rate must be below 1"):
        method_config(Picky, {"rate": "2"}, "picky")


@dataclass(frozen=True)
class Picky:
    rate: float = 0.5

    def __post_init__(self) -> None:
        if self.rate >= 1:
            raise ValueError("rate must be below 1")


def test_bytes_are_not_text() -> None:
    with pytest.raises(UsageError, match="model: expected text, got b'nano'"):
        resolve({**TOY, "model": b"nano"})


WARM: dict[str, Any] = {"method": "toy-group", "batch_size": 8}
"""Groups of four: 32 rollouts an update."""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 10),  # 40 updates: the paper's number
        ({"budget": "400upd"}, 10),
        ({"budget": "12upd"}, 3),  # at most a quarter
        ({"budget": "1upd"}, 0),
        ({"budget": "5Mtok"}, 10),
        ({"warmup": 0.125}, 5),
        ({"warmup": 0.125, "budget": "1281ep"}, 5),
        ({"warmup": 0.125, "budget": "400upd"}, 50),
        ({"warmup": 0.125, "batch_size": 64}, 0),  # five updates, none of them whole
        ({"warmup": 0.125, "budget": "30min"}, 5),
        ({"warmup": 0.29, "budget": "100upd"}, 29),
        ({"warmup": 0}, 0),
        ({"warmup_updates": 39}, 39),
    ],
)
def test_a_warm_up_is_a_share_of_the_updates(settings: dict[str, Any], expected: int) -> None:
    config = resolve({**TOY, **WARM, **settings})
    assert (config.warmup, config.warmup_updates) == (None, expected)
    assert RunConfig.from_yaml(config.to_yaml()) == config, "a record names the number"


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 5000))
def test_no_share_is_the_whole_run(share: float, updates: int) -> None:
    config = resolve({**TOY, "warmup": share, "budget": f"{updates}upd"})
    assert 0 <= (config.warmup_updates or 0) < updates


def test_of_two_warm_ups_the_later_layer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = {"warmup": 0.5}
    monkeypatch.setattr(packaged_models, "model_defaults", lambda model: shipped)
    file = {**TOY, **WARM, "warmup_updates": 3}
    assert resolve({**TOY, **WARM}).warmup_updates == 20
    assert resolve(file).warmup_updates == 3
    assert resolve(file, {"warmup": "0.25"}).warmup_updates == 10
    assert resolve(file, {"warmup": "0.25"}, ["warmup_updates=4"]).warmup_updates == 4
    with pytest.raises(UsageError, match="both given: give one"):
        resolve({**file, "warmup": 0.25})


def test_a_warm_up_that_covers_the_run_is_refused_but_can_be_read() -> None:
    settings = {**TOY, **WARM, "batch_size": 64, "warmup_updates": 5}
    with pytest.raises(UsageError, match=r"covers the whole run, which has 5 .* give at most 4"):
        resolve(settings)
    written = replace(resolve({**settings, "warmup_updates": 4}), warmup_updates=5).to_yaml()
    assert RunConfig.from_yaml(written).warmup_updates == 5
