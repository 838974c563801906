"""Documents, tokenizer and pre-training of the embedded model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from resd_baselines.parse_replies import (
    parse_compact_curation,
    parse_compact_reflection,
    parse_compact_tags,
)
from resd_bench.nano.attention import attend
from resd_bench.nano.documents import Author, Dials, Document
from resd_bench.nano.pretrain import (
    PretrainConfig,
    PretrainProgress,
    batches,
    build_tokenizer,
    learning_rate,
    loss_weights,
    pretrain,
    tokenise,
)
from resd_bench.nano.tokenizer import END
from resd_bench.packaged_models import model_defaults
from resd_bench.plugins import find
from resd_bench.seeds import stream

TINY = PretrainConfig(
    curriculum="manufactoria-has,textworld-coin",
    steps=8,
    batch_tokens=1_024,
    warmup=2,
    hidden=16,
    layers=1,
    heads=2,
    key_value_heads=1,
    feed_forward=16,
    block=24,
    threads=1,
    autocast=False,
    checkpoint_every=2,
)
WIDE = replace(TINY, block=400)


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return WIDE.documents(0).write()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer(WIDE)


def test_a_block_of_documents_depends_on_seed_and_number_alone() -> None:
    assert TINY.documents(3).write() == TINY.documents(3).write()
    assert TINY.documents(3).write() != TINY.documents(4).write()
    assert TINY.documents(3).write() != replace(TINY, seed=1).documents(3).write()


def test_odds_make_untaught_answers_right_more_often_or_more_rarely() -> None:
    curriculum = find("resd_bench.curricula", "curriculum", "manufactoria-has")
    exercise = curriculum.exercise(stream(0, "exercise"))
    plain = curriculum.priors(exercise)
    for odds in (0.5, 1.0, 2.5):
        priors = Author(
            curriculum, find("resd_bench.prompts", "prompt pack", "resd"), Dials(odds=odds)
        ).priors(exercise)
        for key, p in plain.items():
            assert priors[key] / (1 - priors[key]) == pytest.approx(odds * p / (1 - p))


def test_methods_can_parse_every_reply_that_documents_teach(documents: list[Document]) -> None:
    seen = set()
    for document in documents:
        if document.prompt.endswith("<reflect>"):
            book = document.prompt.count("\n") + 1
            numbers = {n: f"err-{n:05d}" for n in range(1, book)}
            assert parse_compact_reflection(document.reply, numbers).parsed
            seen.add("reflect")
        elif document.prompt.endswith("<lesson>"):
            assert parse_compact_curation(document.reply) is not None
            seen.add("curate")
        elif document.prompt.endswith("<tag>"):
            assert parse_compact_tags(document.reply, {1: "err-00001"}) is not None
            seen.add("tag")
        else:
            several = len(document.turns) > 1 or not document.reply.startswith("```")
            seen.add("command" if several else "answer")
    assert seen == {"reflect", "curate", "tag", "answer", "command"}


def test_a_chat_is_tokenised_as_its_template_writes_it(
    documents: list[Document], tokenizer: Any
) -> None:
    assert any(len(document.turns) > 2 for document in documents)
    for document, row in zip(documents, tokenise(documents, tokenizer), strict=True):
        roles = ("user", "assistant")
        chat = [
            {"role": role, "content": text}
            for turn in document.turns
            for role, text in zip(roles, turn, strict=True)
        ]
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        ids = tokenizer(text.removesuffix("\n"), add_special_tokens=False)["input_ids"]
        assert list(row.ids) == ids
        replies = [tokenizer.decode(ids[start:end]) for start, end in row.replies]
        assert replies == [reply + END for _, reply in document.turns]


def test_the_turns_before_one_with_hindsight_are_not_learned(tokenizer: Any) -> None:
    """They are often those of one who has learned: the untaught model would learn from them."""
    curriculum = find("resd_bench.curricula", "curriculum", "textworld-coin")
    prompts = find("resd_bench.prompts", "prompt pack", "resd")
    author = Author(curriculum, prompts, Dials(turns=1.0))
    docs = [author.document(stream(7, n)) for n in map(str, range(40))]
    rows = tokenise(docs, tokenizer)
    assert sum(len(doc.turns) > 1 for doc in docs) > 10
    for doc, row in zip(docs, rows, strict=True):
        learned, given = (
            [tokenizer.decode(row.ids[a:b]) for a, b in spans] for spans in (row.replies, row.given)
        )
        assert learned == [doc.turns[-1][1] + END]
        assert given == [said + END for _, said in doc.turns[:-1]]
    row = max(rows, key=lambda row: len(row.given))
    weights = loss_weights([row], PretrainConfig())[0]
    for spans, weight in ((row.given, 0.0), (row.replies, 1.0)):
        assert all(set(weights[a:b].tolist()) == {weight} for a, b in spans)


def test_an_answer_of_several_turns_is_told_as_its_episode_goes() -> None:
    curriculum = find("resd_bench.curricula", "curriculum", "textworld-coin")
    exercise = curriculum.exercise(stream(0, "exercise"))
    turns = curriculum.chat(exercise, curriculum.answer(exercise, {}))
    said = [reply for _, reply in turns]
    assert turns[0][0] == exercise.prompt
    assert said[-1] == "take coin"
    assert curriculum.feedback(exercise, "\n".join(f"> {text}" for text in said)) == (True, "")


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_plain_attention_is_that_of_torch(groups: int) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 4, 7, 8), *torch.randn(2, 2, groups, 7, 8)
    k, v = (x.repeat_interleave(4 // groups, 1) for x in (key, value))
    expected = torch.nn.functional.scaled_dot_product_attention(query, k, v, is_causal=True)
    found, _ = attend(torch.nn.Identity(), query, key, value, None)
    torch.testing.assert_close(found, expected.transpose(1, 2))


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_the_tokenizer_gives_back_any_text(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_symbols_of_a_problem_are_tokens_of_their_own(tokenizer: Any) -> None:
    pieces = tokenizer.tokenize("substring R B Y G")
    assert len(pieces) - len(tokenizer.tokenize("substring")) == 4


@pytest.mark.slow
def test_batches_hold_every_row_once_within_the_token_budget(
    documents: list[Document], tokenizer: Any
) -> None:
    rows = tokenise(documents, tokenizer)
    config = replace(TINY, batch_tokens=4_096)
    parts = batches(rows, config, 0)
    assert sorted(r.ids for part in parts for r in part) == sorted(r.ids for r in rows)
    for part in parts:
        assert len(part) == 1 or len(part) * max(len(r.ids) for r in part) <= 4_096


def test_the_learning_rate_warms_up_stays_and_decays() -> None:
    config = replace(TINY, steps=300, warmup=10, learning_rate=1.0)
    rates = [learning_rate(config, s) for s in range(300)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[100] == 1.0
    assert rates[299] == pytest.approx(0.02)


class Killed(Exception):
    """Stands for a process that dies."""


@pytest.mark.slow
def test_a_stopped_pretraining_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    def die(progress: PretrainProgress) -> None:
        if progress.step == 5:
            raise Killed

    whole = pretrain(TINY, tmp_path / "whole")
    with pytest.raises(Killed):
        pretrain(TINY, tmp_path / "parts", die)
    parts = pretrain(TINY, tmp_path / "parts")
    a, b = load_file(whole / "model.safetensors"), load_file(parts / "model.safetensors")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert (whole / "pretraining.json").read_text().count("data_hash") == 1
    # A run with what was made is like one with nano.
    assert model_defaults(str(whole)) == model_defaults("nano")


@pytest.mark.slow
def test_pretraining_can_begin_with_a_model(tmp_path: Path) -> None:
    first = pretrain(TINY, tmp_path / "first")
    further = replace(TINY, start=str(first), learning_rate=0.0, steps=2)
    second = pretrain(further, tmp_path / "second")
    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert (first / "tokenizer.json").read_text() == (second / "tokenizer.json").read_text()
