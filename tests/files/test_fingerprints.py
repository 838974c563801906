"""Hashes of what a run is about: of values, models, prompts and adapters' bases."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.config import resolve
from resd_bench.errors import UsageError
from resd_bench.files.fingerprints import fingerprint
from resd_bench.jobs.run import run
from resd_bench.models import adapters
from resd_bench.models import identity as models
from resd_bench.models.identity import model_identity, refuse_other_base, sampled_hash
from resd_bench.records.content import prompts_hash
from resd_bench.sweep import content
from tests.places import TOY_PLUGIN


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    return folder


def test_the_base_of_an_adapter_counts(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"small")
    about = {"base_model_name_or_path": str(model)}
    (adapter / "adapter_config.json").write_text(json.dumps(about))
    before = model_identity(str(adapter))
    (model / "model.safetensors").write_bytes(b"others")
    after = model_identity(str(adapter))
    assert {key for key in before if before[key] != after[key]} == {"model.base.weights"}


def test_an_adapter_that_names_itself_as_its_base_is_read_all_the_same(tmp_path: Path) -> None:
    about = {"base_model_name_or_path": str(tmp_path)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(about))
    assert model_identity(str(tmp_path))


def test_a_model_of_the_hub_is_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--name"
    for commit in ("a" * 40, "b" * 40):
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    for commit in ("a" * 40, "b" * 40):
        (repository / "refs" / "main").write_text(commit)
        assert model_identity("owner/name") == {"model.commit": commit}
    assert model_identity("owner/name", "a" * 40) == {"model.commit": "a" * 40}
    assert model_identity("owner/absent") == {}


def test_files_that_are_too_large_are_read_in_part_and_training_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "SAMPLED_BYTES", 8)
    monkeypatch.setattr(models, "STRIDE_BYTES", 64)
    path = tmp_path / "model.safetensors"
    content = bytearray(range(200))
    seen = []
    for place in (None, 3, 70, 199):
        changed = bytearray(content)
        if place is not None:
            changed[place] ^= 1
        path.write_bytes(changed)
        seen.append(sampled_hash([path]))
    assert len(set(seen)) == 4


def test_every_byte_of_weights_in_an_older_format_counts(tmp_path: Path) -> None:
    content = bytearray(1 << 18)
    seen = set()
    for place in (0, 100_000, 200_000):
        content[place] ^= 1
        (tmp_path / "pytorch_model.bin").write_bytes(content)
        (tmp_path / "training_args.bin").write_bytes(bytes([place % 256]))
        seen.add(model_identity(str(tmp_path))["model.weights"])
    assert len(seen) == 3


def test_an_exported_adapter_knows_its_base(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    refuse_other_base(adapter, str(model))
    adapters.note_base(adapter, str(model), model_identity(str(model)))
    refuse_other_base(adapter, str(model))
    (model / "model.safetensors").write_bytes(b"others")
    with pytest.raises(UsageError, match=r"trained on another .*model\.weights.*Restore"):
        refuse_other_base(adapter, str(model))


def test_prompts_are_those_of_the_dialect() -> None:
    assert prompts_hash("full") != prompts_hash("compact")
    assert prompts_hash("full") == prompts_hash("full")


@pytest.mark.slow
def test_a_sweep_does_not_take_a_finished_run_of_other_tasks_for_its_own(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "validation", "test"):
        rows = [{"context": f"{split} {n}", "target": f"Tag{n}"} for n in range(6)]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small: dict[str, Any] = {
        "env": "finer",
        "method": "toy-learner",
        "model": "scripted",
        "budget": "5ep",
    }
    small |= {"batch_size": 5, "eval_samples": 1, "max_new_tokens": 20}
    config = resolve(small, {"out": str(tmp_path)}, [f"env.data={data}"])
    files = {}
    for seed in (0, 1):
        run(replace(config, seed=seed))
        files[seed] = tmp_path / f"{seed}.yaml"
        files[seed].write_text(replace(config, seed=seed).to_yaml())
    monkeypatch.setenv("PYTHONPATH", str(TOY_PLUGIN))
    assert content.changed(list(files.values())) == {}
    (data / "test.jsonl").write_text(json.dumps({"context": "another", "target": "Tag"}) + "\n")
    found = content.changed(list(files.values()))
    assert set(found) == set(files.values())
    assert all("tasks.test" in text for text in found.values())


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN, PLAIN)
def test_values_that_differ_have_other_fingerprints(a: Any, b: Any) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (fingerprint(a) == fingerprint(b)) == same


@pytest.mark.slow
@given(st.dictionaries(st.text(), PLAIN, max_size=6))
def test_the_order_of_a_mapping_is_no_content(value: dict[str, Any]) -> None:
    assert fingerprint(dict(reversed(value.items()))) == fingerprint(value)


@dataclass(frozen=True)
class Case:
    given: int
    wanted: int

    def __repr__(self) -> str:
        return "a case"


class Lazy:
    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def words(self) -> list[str]:
        return self.text.split()


def test_objects_are_their_fields_and_not_their_place_in_memory() -> None:
    assert fingerprint(Case(1, 2)) == fingerprint(Case(1, 2)) != fingerprint(Case(1, 3))
    assert fingerprint(object()) == fingerprint(object())
    looked_at = Lazy("a b")
    assert looked_at.words == ["a", "b"]
    assert fingerprint(looked_at) == fingerprint(Lazy("a b")) != fingerprint(Lazy("a c"))


@pytest.mark.slow
def test_a_value_that_holds_itself_has_a_fingerprint() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert fingerprint(loop) != fingerprint([1])
    assert fingerprint(deep)
