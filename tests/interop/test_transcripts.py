"""The outputs in docs/interop.md are what the examples print."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from tests.places import ROOT


@pytest.fixture(scope="module")
def transcripts() -> Any:
    spec = importlib.util.spec_from_file_location("_transcripts", ROOT / "docs/_transcripts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_transcript(transcripts: Any) -> None:
    examples = {path.stem for path in (ROOT / "examples").glob("*.py")}
    found = {block["name"]: block["text"] for block in transcripts.BLOCK.finditer(page())}
    assert set(found) == examples - {"bisection"}, "which the others import"
    assert all(text.strip() for text in found.values())


def test_only_the_block_of_an_example_is_replaced(transcripts: Any) -> None:
    def shown(name: str, text: str) -> str:
        return f"<!-- transcript: python examples/{name}.py -->\n```\n{text}```\n"

    first = "one\n" + shown("a", "old\n") + "two\n"
    before, after = (first + shown("b", text) + "three\n" for text in ("", "new\n"))
    assert transcripts.write(before, "b", "new\n") == after
    logged = "{'loss': '0', 'reward': '1'}\nstep 1\n{'train_runtime': '1'}\n{'mine': 1}\n"
    assert transcripts.LOGGED.sub("", logged) == "step 1\n{'mine': 1}\n"


@pytest.mark.slow
def test_the_transcript_of_a_chat_endpoint_is_what_it_prints(transcripts: Any) -> None:
    found = {block["name"]: block["text"] for block in transcripts.BLOCK.finditer(page())}
    assert transcripts.transcribe("chat_endpoint", sys.executable) == found["chat_endpoint"]


def page() -> str:
    return (ROOT / "docs/interop.md").read_text()
