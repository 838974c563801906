"""The settings of small models that bring none of their own."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from resd_bench import packaged_models
from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.models import small
from resd_bench.policy import loading
from tests.policy import families, tiny_gguf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return families.save("qwen3", tmp_path / "model")


def bfloat16(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpu: str) -> None:
    (tmp_path / "cpuinfo").write_text(cpu)
    monkeypatch.setattr(small, "_CPU", tmp_path / "cpuinfo")
    monkeypatch.setattr(small, "has_bfloat16", small.has_bfloat16.__wrapped__)


def test_parameters_are_counted_without_reading_weights(folder: Path, tmp_path: Path) -> None:
    assert small.parameter_count(str(folder)) == loading.parameters(families.model("qwen3"))
    tiny_gguf.write(tmp_path / "tiny.gguf")
    expected = loading.parameters(tiny_gguf.model())
    assert small.parameter_count(str(tmp_path / "tiny.gguf")) == expected
    assert small.parameter_count("nobody/has-this-model") is None


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0[]", b"\x08" + b"\0" * 7]
)
def test_damaged_weights_have_no_size_and_change_no_settings(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    assert small.parameter_count(str(folder)) in (None, 0)
    resolve({}, {"model": str(folder)})


def test_a_small_model_gets_short_answers_and_rates_at_which_it_learns(folder: Path) -> None:
    config = resolve({}, {"model": str(folder)})
    assert config.max_new_tokens < 200
    assert config.learning_rate > 10 * RunConfig().learning_rate
    adapted = resolve({}, {"model": str(folder), "lora_rank": "16"})
    assert adapted.learning_rate == 10 * config.learning_rate
    given = resolve({"learning_rate": 3e-6}, {"model": str(folder), "max_new_tokens": "7"})
    assert (given.learning_rate, given.max_new_tokens) == (3e-6, 7)
    assert resolve({}, {"model": "smollm2"}).max_new_tokens == config.max_new_tokens


def test_a_large_model_keeps_the_settings_of_the_paper(folder: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [small.SMALL, 1], "data_offsets": [0, 0]}})
    written = struct.pack("<Q", len(header)) + header.encode()
    (folder / "model.safetensors").write_bytes(written)
    assert small.parameter_count(str(folder)) == small.SMALL
    paper = resolve({}, {"model": "Qwen/Qwen3-4B"})
    config = resolve({}, {"model": str(folder)})
    assert (config.max_new_tokens, config.learning_rate) == (20_480, 1e-6)
    assert (paper.max_new_tokens, paper.dialect, paper.precision) == (20_480, "full", "float32")


def test_the_embedded_model_keeps_its_own_settings() -> None:
    config = resolve({}, {"model": "nano"})
    assert (config.precision, config.dialect, config.batch_size) == ("float32", "compact", 16)
    assert (config.max_new_tokens, config.learning_rate) == (320, 3e-4)
    assert config.method_options["writer_temperature"] is None


def test_settings_that_come_with_a_model_replace_those_of_small_ones(folder: Path) -> None:
    own = {"max_new_tokens": 9, "lora": {"learning_rate": 0.25}}
    (folder / packaged_models.SETTINGS_FILE).write_text(json.dumps(own))
    config = resolve({}, {"model": str(folder)})
    assert (config.max_new_tokens, config.learning_rate) == (9, RunConfig().learning_rate)
    assert resolve({}, {"model": str(folder), "lora_rank": "2"}).learning_rate == 0.25


@pytest.mark.parametrize("own", [{"out": "/etc"}, {"lora": {}}, {"methods": {}}, [1], "x"])
@pytest.mark.parametrize("place", ["lora", "methods.sft"])
def test_a_part_of_a_models_settings_may_set_no_more_than_others(
    folder: Path, place: str, own: Any
) -> None:
    section, _, method = place.partition(".")
    settings = {section: {method: own} if method else own}
    (folder / packaged_models.SETTINGS_FILE).write_text(json.dumps(settings))
    with pytest.raises(UsageError, match=rf"{place}"):
        resolve({}, {"model": str(folder)})


@pytest.mark.parametrize("nested", ["{}", '{{"lora": {}}}', '{{"methods": {{"resd": {}}}}}'])
def test_a_model_cannot_choose_the_method(folder: Path, nested: str) -> None:
    (folder / packaged_models.SETTINGS_FILE).write_text(nested.format('{"method": "sft"}'))
    with pytest.raises(UsageError, match="method is not a JSON object: give its options by name"):
        resolve({}, {"model": str(folder)})


@pytest.mark.parametrize(
    ("cpu", "precision"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 sse\n", "mixed"),
        ("Features : fp asimd bf16 i8mm\n", "mixed"),
        ("processor : 0\nflags\t\t: fpu avx2 avx512f\n", "float32"),
        ("", "float32"),
    ],
)
def test_products_are_bfloat16_where_the_cpu_computes_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: str, precision: str
) -> None:
    bfloat16(monkeypatch, tmp_path, cpu)
    assert resolve({}, {"model": str(folder)}).precision == precision
    assert resolve({}, {"model": "smollm2"}).precision == precision
    assert resolve({}, {"model": "nano"}).precision == "float32"
    asked = resolve({}, {"model": str(folder), "precision": "float32"})
    assert asked.precision == "float32"
