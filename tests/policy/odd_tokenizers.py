"""The embedded model's tokenizer and template, each time odd in a way that is met in the wild."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resd_bench import packaged_models

Change = Callable[[dict[str, Any]], None]
SOURCE = packaged_models.packaged_folder("nano")
TEMPLATE = (SOURCE / "chat_template.jinja").read_text()
CONTENT = "message['content']"
FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Odd:
    """What differs from the embedded model."""

    template: str = TEMPLATE
    tokenizer: Change = lambda made: None
    core: Change = lambda made: None
    """Of tokenizer.json."""


def without(*names: str) -> Change:
    """Take keys away."""
    return lambda made: [made.pop(name, None) for name in names].clear()


def given(**values: Any) -> Change:
    """Set keys."""
    return lambda made: made.update(values)


def not_special(made: dict[str, Any]) -> None:
    """Call no added token special."""
    for token in made["added_tokens"]:
        token["special"] = False


def normalised(made: dict[str, Any]) -> None:
    """Bring text into a normal form before tokens are looked for."""
    made["normalizer"] = {"type": "NFKC"}
    for token in made["added_tokens"]:
        token["normalized"] = True


def begins_with_a_token(made: dict[str, Any]) -> None:
    """Put a token before every text that is tokenised."""
    start = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
    processor = made["post_processor"]
    processor["single"] = [start, *processor["single"]]
    token = {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}
    processor["special_tokens"] = {"<|im_start|>": token}


def cut_and_padded(made: dict[str, Any]) -> None:
    """Cut every text to 16 tokens and fill it up to 128."""
    cut = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    made["truncation"] = cut
    made["padding"] = {
        **{"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": None},
        **{"pad_id": 0, "pad_type_id": 0, "pad_token": "<|pad|>"},
    }


def unknown_is_special(made: dict[str, Any]) -> None:
    """Let the unknown token be one of the special ones."""
    made["model"]["unk_token"] = "<|pad|>"


HISTORY = (
    "{%- for m in messages -%}{{ '<|im_start|>'+m['role']+'\\n' }}"
    "{%- if m['role']=='assistant' -%}{{ m['content'].split('</think>')[-1].lstrip('\\n') }}"
    "{%- else -%}{{ m['content'] }}{%- endif -%}{{ '<|im_end|>\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
ODD: Mapping[str, Odd] = {
    "plain": Odd(),
    "no pad token": Odd(tokenizer=without("pad_token")),
    "no end token": Odd(tokenizer=without("eos_token")),
    "another end token": Odd(tokenizer=given(eos_token="<|pad|>")),
    "a beginning token": Odd(
        "{{ bos_token }}" + TEMPLATE, given(bos_token="<|im_start|>"), begins_with_a_token
    ),
    "trims": Odd(TEMPLATE.replace(CONTENT, f"{CONTENT} | trim")),
    "upper case": Odd(TEMPLATE.replace(CONTENT, f"{CONTENT} | upper")),
    "as JSON": Odd(TEMPLATE.replace(CONTENT, f"{CONTENT} | tojson")),
    "escaped JSON": Odd(TEMPLATE.replace(CONTENT, f"{CONTENT} | tojson(ensure_ascii=true)")),
    "says it twice": Odd(TEMPLATE.replace(CONTENT, f"{CONTENT} + {CONTENT}")),
    "strips history": Odd(HISTORY),
    "opens thinking": Odd(
        TEMPLATE.replace("assistant\\n' }}{%- endif", "assistant\\n<think>\\n' }}{%- endif")
    ),
    "no generation prompt": Odd(TEMPLATE.partition("{%- if add_generation_prompt")[0]),
    "cut and padded": Odd(core=cut_and_padded),
    "no token is special": Odd(core=not_special),
    "normalised": Odd(core=normalised),
    "unknown is special": Odd(core=unknown_is_special),
    "splits its own": Odd(tokenizer=given(split_special_tokens=False, model_max_length=64)),
}


def save(name: str, folder: Path) -> Path:
    """Write tokenizer, template and config of an odd model to `folder`."""
    odd = ODD[name]
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copyfile(SOURCE / file, folder / file)
    for file, change in (("tokenizer_config.json", odd.tokenizer), ("tokenizer.json", odd.core)):
        made = json.loads((folder / file).read_text())
        change(made)
        (folder / file).write_text(json.dumps(made))
    (folder / "chat_template.jinja").write_text(odd.template)
    return folder
