"""An untrusted model folder runs no code, keeps nobody waiting and takes no more than there is."""

from __future__ import annotations

import json
import re
import shutil
import struct
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from resd_bench.cli import main
from resd_bench.errors import UsageError
from resd_bench.planning import architecture
from resd_bench.policy import loading
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.types import user
from tests.policy import odd_tokenizers, tiny

pytestmark = pytest.mark.slow


CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded model, to be made hostile."""
    return Path(shutil.copytree(odd_tokenizers.SOURCE, tmp_path / "model"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refusal(given: Path | str) -> str:
    """The one line with which loading a model is refused."""
    with pytest.raises(UsageError) as told:
        loading.load_model(given)
    assert "\n" not in str(told.value)
    return str(told.value)


# Chat templates


@pytest.fixture(scope="module")
def renderer() -> Any:
    from resd_bench.models.chat_renderer import ChatRenderer

    return ChatRenderer()


def refused() -> tuple[type[Exception], ...]:
    from resd_bench.models.chat_renderer import TemplateRefused

    return UsageError, TemplateRefused


def repeated(body: str, times: int = 99_999) -> str:
    return f"{{% for i in range({times}) %}}{body}{{% endfor %}}"


def grown(start: str, more: str) -> str:
    """A value that becomes another one sixty times."""
    change = repeated(f"{{% set n.x = {more} %}}", 60)
    return f"{{% set n = namespace(x={start}) %}}{change}{{{{ n.x }}}}"


ENDLESS = {
    "loops in loops": repeated(repeated(repeated(""))),
    "a power": "{{ 7 ** (10 ** 9) }}",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_that_never_ends_is_ended(
    name: str, renderer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(refused()):
        renderer.render(ENDLESS[name], CHAT)
    assert renderer.render("{{ messages[0].content }}", CHAT) == "hi", "the next one is filled in"


SWELLING = {
    "a product": "{{ 'x' * 10 ** 11 }}",
    "a list": "{{ [0] * 10 ** 11 }}",
    "a format": "{{ '%1000000000d' % 1 }}",
    "a format filter": "{{ '%1000000000d' | format(1) }}",
    "format": "{{ '{:>10000000000}'.format(1) }}",
    "centred": "{{ 'x' | center(10 ** 11) }}",
    "justified": "{{ 'x'.ljust(10 ** 11) }}",
    "filled with zeros": "{{ 'x'.zfill(10 ** 11) }}",
    "doubled": grown("'ab'", "n.x ~ n.x"),
    "added": grown("[1]", "n.x + n.x"),
    "replaced": grown("'aa'", "n.x.replace('a', 'aa')"),
    "indented": "{{ 'x\\ny' | indent(10 ** 10) }}",
    "printed": repeated(repeated("xxxxxxxx")),
    "calls itself": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
}


@pytest.mark.parametrize("name", SWELLING)
def test_a_template_that_takes_all_memory_is_ended(name: str, renderer: Any) -> None:
    with pytest.raises(refused()):
        renderer.render(SWELLING[name], CHAT)
    assert renderer.render("{{ messages[0].content }}", CHAT) == "hi"


def test_a_model_whose_template_never_ends_is_one_line_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "chat_template.jinja").write_text(ENDLESS["loops in loops"])
    words = ["eval", "--model", str(folder), "--env", "manufactoria-has", "--tasks", "1"]
    assert main([*words, "--samples", "1", "--max-new-tokens", "8"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "chat template" in line
    assert "did not finish" in line


def test_a_template_reaches_nothing_of_this_process(renderer: Any) -> None:
    for escape in ("{{ ''.__class__.__mro__ }}", "{{ messages.__init__.__globals__ }}"):
        with pytest.raises(refused()):
            renderer.render(escape, CHAT)


TEMPLATES = [
    "{% generation %}{{ messages[0].content }}{% endgeneration %}",
    "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{% endfor %}x",
    "{{ messages | tojson }} {{ messages | tojson(indent=2) }}",
    "  {% if true %}\n  a\n  {% endif %}\n",
    "{{ messages[0].get('name', 'none') }}{{ tools is none }}{{ documents is none }}",
    "{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(messages[0]['content']) }}",
    "{%- set n = namespace(k=0) -%}{% for m in messages %}{% set n.k = 1 %}{% endfor %}{{ n.k }}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_are_filled_in_as_transformers_does(template: str, renderer: Any) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    expected = tokenizer.apply_chat_template(CHAT["messages"], tokenize=False)
    given = {**CHAT, "tools": None, "documents": None, "add_generation_prompt": False}
    assert renderer.render(template, given | tokenizer.special_tokens_map) == expected


def test_a_helper_that_was_killed_is_started_again(renderer: Any) -> None:
    renderer.render("a", CHAT)
    assert renderer._process is not None
    renderer._process.kill()
    renderer._process.wait()
    assert renderer.render("b", CHAT) == "b"


# Tokenizers


def swell(made: dict[str, Any]) -> None:
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
    made["normalizer"] = {"type": "Sequence", "normalizers": [double] * 6}


def backtrack(made: dict[str, Any]) -> None:
    pattern = {"Regex": "(?:a|a)*$|(?:\\w|\\w)+\\1"}
    made["pre_tokenizer"] = {
        "type": "Split",
        "pattern": pattern,
        "behavior": "Isolated",
        "invert": False,
    }


def nest(made: dict[str, Any]) -> None:
    inner: dict[str, Any] = {"type": "Lowercase"}
    for _ in range(90):
        inner = {"type": "Sequence", "normalizers": [inner]}
    made["normalizer"] = inner


def grow_in_writing(made: dict[str, Any]) -> None:
    made["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 10_000},
            {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 10_000},
        ],
    }


@pytest.mark.parametrize("make", [swell, backtrack, nest, grow_in_writing])
def test_a_tokenizer_that_swells_or_hangs_is_refused_before_it_is_used(
    make: Callable[[dict[str, Any]], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "tokenizer.json"
    made = json.loads(path.read_text())
    make(made)
    path.write_text(json.dumps(made))
    monkeypatch.setattr("resd_bench.models.model_files.TRY_SECONDS", 1)
    assert "tokenizer.json" in refusal(folder)


def test_a_tokenizer_that_pads_to_a_billion_does_not(folder: Path) -> None:
    path = folder / "tokenizer.json"
    padding = {"strategy": {"Fixed": 1_000_000_000}, "direction": "Right", "pad_id": 0}
    padding |= {"pad_to_multiple_of": None, "pad_type_id": 0, "pad_token": "<|pad|>"}
    change(path, padding=padding)
    honest = LMPolicy.load("nano").codec.prompt_ids(user("START"))
    assert LMPolicy.load(folder).codec.prompt_ids(user("START")) == honest
    words = ["run", "--model", str(folder), "--env", "manufactoria-has", "--dry-run"]
    assert main([*words, "--max-new-tokens", "64"]) == 0


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_nested_and_endless_json_of_a_model_is_refused(name: str, folder: Path) -> None:
    (folder / name).write_text('{"a":' * 5000 + "1" + "}" * 5000)
    assert name in refusal(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert name in refusal(folder)


# Sizes


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"num_hidden_layers": 10**9, "layer_types": None}, "layers"),
        ({"num_hidden_layers": -1}, "cannot be loaded"),
        ({"vocab_size": 10**9, "hidden_size": 10**5}, "cannot be loaded"),
        ({"intermediate_size": 10**11}, "cannot be loaded"),
        ({"hidden_size": "many"}, "cannot be loaded"),
    ],
)
def test_a_config_larger_than_this_machine_is_refused_at_once(
    values: dict[str, Any], told: str, folder: Path
) -> None:
    change(folder / "config.json", **values)
    began = time.process_time()
    assert told in refusal(folder)
    assert time.process_time() - began < 20
    if told == "layers":
        with pytest.raises(UsageError, match="layers"):
            architecture.read(str(folder))


HEADERS = {
    "longer than the file": struct.pack("<Q", 1 << 40) + b"{}",
    "not JSON": struct.pack("<Q", 5) + b"hello",
    "nested": struct.pack("<Q", 100_000) + b'{"a":' * 20_000,
    "out of bounds": struct.pack("<Q", 66)
    + b'{"a":{"dtype":"F32","shape":[9999999],"data_offsets":[0,39999996]}}'[:66],
    "empty": b"",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_damaged_head_of_safetensors_is_a_usage_error(name: str, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(HEADERS[name])
    assert "cannot be loaded" in refusal(folder)


# Code


def with_code(folder: Path, mark: Path) -> None:
    """Let config, model and tokenizer ask for a module next to them."""
    auto = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    change(folder / "config.json", auto_map=auto, model_type="evilmodel")
    change(
        folder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["evil.T", "evil.T"]},
        tokenizer_class="EvilTokenizer",
    )
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass C: pass\nM = T = C\n")


def test_a_models_code_is_not_run_and_nobody_is_asked_whether_to(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_code(folder, tmp_path / "ran")
    monkeypatch.setattr("builtins.input", lambda *told: pytest.fail("the user was asked"))
    assert "--trust-remote-code" in refusal(folder)
    with pytest.raises(UsageError, match="trust-remote-code"):
        loading.load_model(folder, weights=False)
    with pytest.raises(UsageError):
        architecture.read(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["eval", "run", "dry run", "calibrate"])
def test_no_command_runs_a_models_code_or_asks_whether_to(
    command: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mark = tmp_path / "ran"
    with_code(folder, mark)
    of = ["--model", str(folder)]
    words = {
        "eval": ["eval", *of, "--env", "guess-number", "--tasks", "1", "--samples", "1"],
        "run": ["run", *of, "--env", "guess-number", "--budget", "1upd"],
        "dry run": ["run", *of, "--env", "guess-number", "--dry-run"],
        "calibrate": ["envs", "calibrate", "guess-number", *of, "--tasks", "1", "--samples", "1"],
    }[command]
    # Whoever is asked says yes.
    answers = StringIO("y\n" * 20)
    monkeypatch.setattr("sys.stdin", answers)
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    said = capsys.readouterr()
    assert "Do you wish" not in said.out + said.err
    assert answers.tell() == 0, "an answer was read"
    assert not mark.exists()
    assert "--trust-remote-code" in said.err
    if command == "dry run":
        assert main([*words, "--trust-remote-code", "true"]) == 0
        assert not mark.exists(), "a plan runs no code of a model"


def test_the_flag_alone_lets_a_models_code_run(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with_code(folder, mark)
    with pytest.raises(UsageError):
        loading.load_model(folder, trust_remote_code=True)
    assert mark.exists()


def test_a_run_folder_cannot_say_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("env: guess-number\ntrust_remote_code: true\n")
    assert main(["run", "--config", str(path), "--dry-run"]) == 2
    assert "only the command line may" in capsys.readouterr().err
    assert main(["run", "--config", str(path), "--dry-run", "--trust-remote-code", "false"]) == 0


def test_pickled_weights_are_refused_with_what_to_do(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    assert loading.load_model(folder), "beside safetensors they are not read"
    (folder / "model.safetensors").unlink()
    assert "safetensors" in refusal(folder)


def test_attention_from_the_hub_is_code_too(folder: Path) -> None:
    with pytest.raises(UsageError, match="code from the Hub"):
        loading.load_model(folder, attention="someone/kernel")
    change(folder / "config.json", attn_implementation="someone/kernel")
    assert "code from the Hub" in refusal(folder)


# Adapters


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of the embedded model, as `peft` writes it."""
    peft = pytest.importorskip("peft", reason="PEFT ABSENT: pip install '.[lora]'")
    model, tokenizer = loading.load_model("nano")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(model, config).save_pretrained(str(tmp_path / "adapter"))
    tokenizer.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_is_merged_by_the_names_of_its_tensors(adapter: Path) -> None:
    expected, _ = loading.load_model(adapter)
    change(adapter / "adapter_config.json", target_modules="((((a|a)*)*)*)*$|.*(q_proj|down_proj)")
    began = time.process_time()
    found, _ = loading.load_model(adapter)
    assert time.process_time() - began < 20
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(found(ids).logits, expected(ids).logits)


@pytest.mark.parametrize(
    "values",
    [
        {"megatron_config": {"a": 1}, "megatron_core": "antigravity"},
        {"layer_replication": [[0, 4]] * 1000},
        {"rank_pattern": {"((a|a)*)*$": 4}},
        {"alpha_pattern": {"(.*)*x": 4}},
        {"r": 10**9},
        {"peft_type": "NONSENSE"},
        {"base_model_name_or_path": None},
        {"base_model_name_or_path": "/nowhere/at/all"},
    ],
)
def test_an_adapter_that_asks_for_more_is_refused(values: dict[str, Any], adapter: Path) -> None:
    change(adapter / "adapter_config.json", **values)
    assert "adapter" in refusal(adapter)


def test_an_adapter_that_is_its_own_base_is_refused(adapter: Path) -> None:
    change(adapter / "adapter_config.json", base_model_name_or_path=str(adapter))
    assert "stacked adapters" in refusal(adapter)


def test_a_pickled_adapter_is_refused(adapter: Path) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    (adapter / "adapter_model.safetensors").unlink()
    torch.save(weights, adapter / "adapter_model.bin")
    assert "safetensors" in refusal(adapter)


def test_an_adapter_of_another_shape_does_not_fit(adapter: Path, tmp_path: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file({k: torch.cat([v, v], -1).contiguous() for k, v in load_file(path).items()}, path)
    assert "does not fit its base model" in refusal(adapter)


def test_the_helper_imports_nothing_of_ours() -> None:
    from resd_bench.models import chat_process

    source = Path(chat_process.__file__).read_text()
    imports = re.findall(r"^ *(?:from|import) (\w+)", source, re.M)
    assert imports
    assert not {name for name in imports if name.startswith("resd")}
