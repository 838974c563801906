"""Chats of every family become prompts, and tokens become text again, whatever was sampled."""

from __future__ import annotations

from typing import Any

import pytest

from resd_bench.errors import UsageError
from resd_bench.parsing import without_reasoning
from resd_bench.policy.chat_codec import Codec
from resd_bench.policy.loading import load_model
from resd_bench.types import Message, Messages, user
from tests.policy import families

CHAT: Messages = (Message("user", "one"), Message("assistant", "two"), Message("user", "three"))


def codec(name: str, **options: Any) -> Codec:
    return Codec(families.tokenizer(name), **options)


def shown(subject: Codec, messages: Messages) -> str:
    return str(subject.tokenizer.decode(subject.prompt_ids(messages)))


@pytest.mark.parametrize("name", families.NAMES)
def test_a_prompt_ends_where_the_answer_begins(name: str) -> None:
    text = shown(codec(name), CHAT)
    assert text.endswith(families.FAMILIES[name].opening)
    assert text.index("one") < text.index("two") < text.index("three")


@pytest.mark.parametrize("name", families.NAMES)
def test_a_system_message_is_read_by_every_template(name: str) -> None:
    text = shown(codec(name), (Message("system", "be brief"), Message("user", "hello")))
    assert text.index("be brief") < text.index("hello")
    assert text.endswith(families.FAMILIES[name].opening)


def test_without_a_system_role_its_text_heads_the_first_user_message() -> None:
    subject = codec("gemma2")
    told = (Message("system", "be brief"), *CHAT)
    assert shown(subject, told) == shown(subject, (Message("user", "be brief\n\none"), *CHAT[1:]))
    alone = (Message("system", "be brief"),)
    assert shown(subject, alone) == shown(subject, user("be brief"))


def test_a_template_that_drops_the_system_message_gets_it_as_user_text() -> None:
    tokenizer = families.tokenizer("llama")
    tokenizer.chat_template = families.LLAMA3.replace(
        "messages -%}", "messages if m.role != 'system' -%}"
    )
    text = shown(Codec(tokenizer), (Message("system", "be brief"), Message("user", "hello")))
    assert "be brief\n\nhello" in text


def test_a_chat_the_template_refuses_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"refuses a chat of user, user: .*must alternate"):
        codec("gemma3").prompt_ids((*user("a"), *user("b")))


def test_thinking_is_switched_by_the_templates_own_variable() -> None:
    closed = "<think>\n\n</think>\n\n"
    assert not shown(codec("qwen3"), CHAT).endswith(closed)
    assert not shown(codec("qwen3", thinking="on"), CHAT).endswith(closed)
    assert shown(codec("qwen3", thinking="off"), CHAT).endswith(closed)
    llama = codec("llama", thinking="off")
    assert shown(llama, CHAT) == shown(codec("llama"), CHAT)


@pytest.mark.parametrize("name", families.NAMES)
def test_only_a_template_that_opens_the_thinking_says_so(name: str) -> None:
    assert codec(name).opens_thinking == (name == "qwen3-thinking")
    assert not codec("qwen3", thinking="off").opens_thinking


@pytest.mark.parametrize("name", families.NAMES)
def test_earlier_answers_are_shown_without_their_thinking(name: str) -> None:
    answer = (
        "<think>\nsecret</think>\n\nout" if name != "qwen3-thinking" else "secret</think>\n\nout"
    )
    text = shown(codec(name), (*user("one"), Message("assistant", answer), *user("two")))
    assert "secret" not in text
    assert "out" in text


def test_an_answer_whose_opening_tag_stands_in_the_prompt_is_stripped_all_the_same() -> None:
    subject = codec("qwen3-thinking")
    ids = subject.tokenizer.encode("read the task</think>\n\nthe answer", add_special_tokens=False)
    text = subject.decode([*ids, subject.tokenizer.eos_token_id])
    assert text == "read the task</think>\n\nthe answer"
    assert without_reasoning(text) == "the answer"
    assert not subject.left_thinking(text)


def test_thinking_that_was_cut_off_is_known_and_kept_whole() -> None:
    opened, plain = codec("qwen3-thinking"), codec("qwen3")
    assert opened.left_thinking("read the ta")
    assert without_reasoning("read the ta") == "read the ta"
    assert plain.left_thinking("<think>\nread the ta")
    assert not plain.left_thinking("the ans")
    assert not plain.left_thinking("<think>\nread</think>\nthe ans")
    assert plain.left_thinking("<think>a</think> b <think>c")


def test_tags_of_thinking_survive_decoding_even_where_they_are_special() -> None:
    tokenizer = families.tokenizer("qwen3")
    said = "<think>the task</think>the answer"
    ids = [*tokenizer.encode(said, add_special_tokens=False), tokenizer.eos_token_id]
    assert Codec(tokenizer).decode(ids) == said
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the taskthe answer"
    assert Codec(tokenizer).decode(ids) == said


# Tokens that end a turn, and padding


def test_the_token_that_closes_an_answer_ends_a_turn() -> None:
    gemma, llama = codec("gemma2"), codec("llama")
    ends = gemma.tokenizer.convert_tokens_to_ids(["<eos>", "<end_of_turn>"])
    assert gemma.stop_ids == set(ends)
    ends = llama.tokenizer.convert_tokens_to_ids(["<|end_of_text|>", "<|eot_id|>"])
    assert llama.stop_ids == set(ends)
    assert codec("qwen3").stop_ids == {codec("qwen3").tokenizer.eos_token_id}


def test_the_embedded_model_stops_at_its_one_end_token() -> None:
    model, tokenizer = load_model("nano")
    found = Codec(tokenizer, model.generation_config, model_config=model.config).stop_ids
    assert found == {tokenizer.eos_token_id}


def test_stops_may_come_from_the_models_config_alone() -> None:
    tokenizer = families.tokenizer("llama")
    tokenizer.eos_token = None
    model = families.model("llama")
    model.config.eos_token_id = [3, 9]
    assert {3, 9} < Codec(tokenizer, model_config=model.config).stop_ids


def test_ids_outside_the_vocabulary_neither_pad_nor_stop() -> None:
    tokenizer, model = families.tokenizer("llama"), families.model("llama")
    tokenizer.add_special_tokens({"pad_token": "<|new_pad|>"})
    assert tokenizer.pad_token_id >= model.config.vocab_size
    assert Codec(tokenizer, model_config=model.config).pad_id < model.config.vocab_size
    model.config.eos_token_id = [10_000, 3]
    assert 10_000 not in Codec(tokenizer, model_config=model.config).stop_ids
    model.config.vocab_size = 1
    with pytest.raises(UsageError, match="outside the model's vocabulary of 1"):
        Codec(tokenizer, model_config=model.config)


def test_a_tokenizer_without_pad_token_pads_with_a_stop_token() -> None:
    subject = codec("llama")
    assert subject.tokenizer.pad_token_id is None
    assert subject.pad_id in subject.stop_ids


# Hostile text


@pytest.mark.parametrize("name", families.NAMES)
def test_an_emoji_over_several_tokens_is_whole_when_they_are(name: str) -> None:
    subject = codec(name)
    ids = subject.tokenizer.encode("robot 🦾 moves", add_special_tokens=False)
    emoji = subject.tokenizer.encode("🦾", add_special_tokens=False)
    assert len(emoji) == 4
    assert subject.decode(ids) == "robot 🦾 moves"


@pytest.mark.parametrize("name", families.NAMES)
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_part_of_an_emoji_is_a_replacement_character_and_no_error(name: str, cut: int) -> None:
    subject = codec(name)
    whole = subject.tokenizer.encode("a🦾", add_special_tokens=False)
    text = subject.decode(whole[: cut - 4])
    assert text.startswith("a�")
    text.encode()


@pytest.mark.parametrize("name", families.NAMES)
def test_prompts_of_any_text_become_ids_of_the_vocabulary(name: str) -> None:
    subject = codec(name)
    for text in ("\ud800 lone", "\x00\x07\x1b[31m", "ü" * 1000, "\ufffe\u202e", ""):
        ids = subject.prompt_ids(user(text))
        assert min(ids) >= 0
        assert max(ids) < len(subject.tokenizer)


def test_a_byte_outside_the_vocabulary_falls_back_to_byte_tokens() -> None:
    subject = codec("gemma2")
    ids = subject.tokenizer.encode("é", add_special_tokens=False)
    assert subject.tokenizer.convert_ids_to_tokens(ids) == ["<0xC3>", "<0xA9>"]
    assert subject.decode(ids) == "é"
