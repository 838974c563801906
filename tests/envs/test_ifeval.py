"""IFEval: each checker by example, strict and loose verdicts, the environment."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from resd_bench.errors import UsageError
from resd_bench.types import Dialect, Split
from resd_envs.ifeval import IFEvalEnv, check
from resd_envs.ifeval.check import variants
from resd_envs.ifeval.checkers import CHECKERS
from resd_envs.ifeval.echo import is_echo
from resd_envs.ifeval.language import LANGUAGES, detect
from resd_envs.ifeval.prompts import own, probe
from resd_envs.ifeval.sentences import count_capital_words, count_sentences

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
DIALECTS: tuple[Dialect, ...] = ("full", "compact")

EXAMPLES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("punctuation:no_comma", {}, ["a b"], ["a, b"]),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "at least"},
        ["one two three", "it's so", "a_b - c! d"],
        ["one two", "a-b"],
    ),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "less than"},
        ["one two"],
        ["one two three"],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "less than"},
        ["One. Two.", "One line\nand another\nand a third"],
        ["One. Two! Three", "One? Two? Three?"],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["a\n***\nb", "a *** b", "a***b***"],
        ["a", "a\n***\n\n***\nb", "a***b***c"],
    ),
    (
        "keywords:existence",
        {"keywords": ["cat", "dog"]},
        ["Cats and DOGS", "dog cat"],
        ["cat", ""],
    ),
    (
        "keywords:frequency",
        {"keyword": "war", "frequency": 2, "relation": "at least"},
        ["War and warm"],
        ["war"],
    ),
    (
        "keywords:frequency",
        {"keyword": "war", "frequency": 2, "relation": "less than"},
        ["war", ""],
        ["war war"],
    ),
    ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, ["rocks", "a"], ["a Rock."]),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "at least"},
        ["# a\n#"],
        ["#"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "t", "let_frequency": 2, "let_relation": "less than"},
        ["T"],
        ["Tt"],
    ),
    (
        "change_case:english_lowercase",
        {},
        ["this is the answer"],
        ["This is it", "123", "das ist es"],
    ),
    ("change_case:english_capital", {}, ["THIS IS THE ANSWER"], ["THIS is", "123", "DAS IST ES"]),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["NASA and ESA", "I AM here", "IT'S so"],
        ["Nasa and ESA"],
    ),
    (
        "language:response_language",
        {"language": "kn"},
        ["ಇದು ಒಂದು ಉತ್ತರ"],
        ["this is English", "ਇਹ ਇੱਕ ਜਵਾਬ ਹੈ", "123"],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["[a] [b]", "[a][]"],
        ["[a]", "[a\nb] [c]"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["a\np.s. b", "P. S."],
        ["PS"],
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["P.P.S b"], ["P.S. b"]),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* and **b**", "*a* *b*"],
        ["*a*", "** ** **", "*a\nb* *c"],
    ),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n* b", "- a\n  * b", "text\n\n* a\n*b"],
        ["* a", "* a\n* b\n- c", "** a\n** b", "a * b\n* c"],
    ),
    (
        "detectable_format:multiple_sections",
        {"num_sections": 2, "section_spliter": "Part"},
        ["Part 1 a Part 2 b", "Part1 Part2"],
        ["Part 1", "part 1 part 2", "Part one Part two"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": 1}', "```json\n[1]\n```", "```\n1\n```"],
        ["{a: 1}", 'Here: {"a": 1}', "[" * 100_000],
    ),
    (
        "detectable_format:title",
        {},
        ["<<a>> b", "x <<a b>>"],
        ["<< >>", "<<>>", "<a>", "<<a\n>>", ">> <<"],
    ),
    (
        "combination:two_responses",
        {},
        ["a\n******\nb", "******a******b******"],
        ["a", "a******a", "a******b******c", "a************b"],
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Say it."},
        ["  say it. So"],
        ["So: Say it."],
    ),
    (
        "startend:end_checker",
        {"end_phrase": "The end?"},
        ['"a the end?"', "The end? "],
        ["The end? b"],
    ),
    ("startend:quotation", {}, ['"a"', ' "a "b" c"\n', '""'], ['"', '"a', "“a”"]),
]


# SHA-256 of the first 100 prompts of google-research's instruction_following_eval, computed from
# the copy in the paper's released code (commit 212b669f), without the arguments that are null.
PUBLISHED = "c6401c78e395a022b5352106ee4adecd80e0ef5bec5e5608c3c4a677dba9a16a"


def test_the_probe_is_the_published_one() -> None:
    rows = [[item.prompt, item.instruction_ids, item.kwargs] for item in probe()]
    assert hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest() == PUBLISHED


def test_the_probe_has_100_prompts_with_163_instructions_of_23_kinds() -> None:
    kinds = Counter(name for item in probe() for name in item.instruction_ids)
    assert len(probe()) == 100
    assert kinds.total() == 163
    assert set(kinds) == set(CHECKERS)
    assert len(CHECKERS) == 23


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), EXAMPLES)
def test_a_checker_tells_right_from_wrong(
    name: str, arguments: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    for text in good:
        assert CHECKERS[name](text, arguments).followed, text
    for text in bad:
        assert not CHECKERS[name](text, arguments).followed, text


def test_every_checker_has_an_example() -> None:
    assert {name for name, *_ in EXAMPLES} == set(CHECKERS)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", 0),
        ("no mark", 1),
        ("One. Two", 2),
        ("Mr. Hall and Dr. May met at 3.5 km. They left.", 2),
        ("Bring tea, milk, etc. to J. Smith.", 1),
        ('He said "go." Then he went.', 2),
        ("(Yes.) No.", 2),
        ("Wait... what? Really?!", 3 - 1),
        ("1. Buy milk\n2. Buy bread", 3),
        ("See www.example.com for more.", 1),
        ("lines\nwithout\nmarks", 1),
    ],
)
def test_sentences_are_counted(text: str, sentences: int) -> None:
    assert count_sentences(text) == sentences


def test_capital_words_are_tokens_without_a_small_letter() -> None:
    assert count_capital_words("I saw NASA's HI-FI in the U.S. and IT'S \"QUOTED\" 42 Times") == 7


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The weather is fine and we walk in the park", "en"),
        ("I LOVE CATS", "en"),
        ("Das Wetter ist schön und wir gehen", "de"),
        ("El tiempo es bueno y vamos al parque", "es"),
        ("Le temps est beau et nous allons au parc", "fr"),
        ("ಇಂದು ಹವಾಮಾನ ಚೆನ್ನಾಗಿದೆ", "kn"),
        ("ਅੱਜ ਮੌਸਮ ਚੰਗਾ ਹੈ", "pa"),
        ("आज हवामान छान आहे आणि आम्ही उद्यानात जात आहोत.", "mr"),
        ("आज मौसम अच्छा है और हम पार्क जा रहे हैं।", "hi"),
        ("هوا امروز خوب است و ما به پارک می‌رویم.", "fa"),
        ("الطقس جميل اليوم ونحن ذاهبون إلى الحديقة.", "ar"),
        ("آج موسم اچھا ہے اور ہم پارک جا رہے ہیں۔", "ur"),
        ("今日は天気が良いので公園に行きます。", "ja"),
        ("12 + 34", ""),
    ],
)
def test_languages_are_told_apart(text: str, language: str) -> None:
    assert detect(text) == language


def test_every_language_of_the_benchmark_is_known() -> None:
    assert len(LANGUAGES) == 30


def test_loose_verdicts_forgive_a_first_line_a_last_line_and_stars() -> None:
    item = {"instruction_ids": ["startend:quotation"], "kwargs": [{}]}
    for text in ('Sure:\n"a"', '"a"\nBye', 'Sure:\n"a"\nBye', '*"a"*', 'Sure:\n**"a"**\nBye'):
        verdicts = check(item, text)
        assert (verdicts.all_strict, verdicts.all_loose) == (False, True)
    assert len(variants("a\nb\nc")) == 8


def test_whatever_is_followed_strictly_is_followed_loosely() -> None:
    env = IFEvalEnv()
    for task in env.tasks("test"):
        verdicts = check(task.data, env.oracle(task)[: len(task.prompt)])
        assert all(loose >= strict for strict, loose in zip(verdicts.strict, verdicts.loose))  # noqa: B905


def test_an_empty_response_follows_nothing_and_reasoning_does_not_count() -> None:
    item = {"instruction_ids": ["punctuation:no_comma"], "kwargs": [{"num_words": None}]}
    assert not check(item, "").all_loose
    assert not check(item, "<think>fine</think>\n").all_loose
    assert check(item, "one, two </think> three").all_strict


def test_an_unknown_instruction_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="punctuation:no_comma"):
        check({"instruction_ids": ["punctuation:no_commas"], "kwargs": [{}]}, "a")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_oracle_follows_all_instructions_of_every_prompt(dialect: Dialect) -> None:
    env = IFEvalEnv(dialect=dialect)
    for split in SPLITS:
        for task in env.tasks(split):
            feedback = env.verify(task, env.oracle(task))
            assert feedback.success, (task.id, feedback.render(4))


def test_nothing_of_the_probe_is_trained_on() -> None:
    def key(item: Any) -> str:
        return json.dumps(sorted(zip(item.instruction_ids, map(dict, item.kwargs)), key=str))  # noqa: B905

    sets = [{key(item) for item in items} for items in (probe(), own("train"), own("validation"))]
    assert not (sets[0] & sets[1]) | (sets[0] & sets[2]) | (sets[1] & sets[2])


def test_score_is_the_fraction_followed_and_info_tells_the_loose_verdict() -> None:
    env = IFEvalEnv(feedback_level=3)
    task = next(t for t in env.tasks("test") if t.id == "ifeval/test/1000")
    env.reset(options={"task": task.id})
    text, reward, _, _, info = env.step("Sure, here it is:\n*a* *b* *c*")
    assert (reward, info["success"], info["loose_success"]) == (0, False, False)
    assert info["score"] == pytest.approx(1 / 3)
    assert info["loose_score"] == pytest.approx(2 / 3)
    assert "1 commas" in text
    assert "7 words" in text


@pytest.mark.parametrize(
    "piece", ["*", "\n*", "[", "<<", ". ", "?", "\ud800", "***", "a.", "{", '"']
)
def test_checking_hostile_text_is_linear(piece: str) -> None:
    task = next(t for t in IFEvalEnv().tasks("test") if t.id == "ifeval/test/1342")
    begin = time.process_time()
    IFEvalEnv().verify(task, piece * 500_000)
    for checker, arguments in ((CHECKERS[name], given) for name, given, *_ in EXAMPLES):
        checker(piece * 50_000, arguments)
    assert time.process_time() - begin < 10


ECHOES: list[Callable[[str], str]] = [
    lambda prompt: prompt,
    str.lower,
    str.upper,
    lambda prompt: f"```\n{prompt}\n```",
    lambda prompt: f"Sure!\n{prompt}\n",
    lambda prompt: prompt.replace(",", ""),
    lambda prompt: prompt[len(prompt) // 3 :],
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("echo", range(len(ECHOES)))
def test_a_copy_of_the_prompt_follows_nothing(dialect: Dialect, echo: int) -> None:
    env = IFEvalEnv(dialect=dialect)
    won = []
    for task in env.tasks("test"):
        said = ECHOES[echo](task.prompt)
        feedback = env.verify(task, said)
        won.append(feedback.success)
        if feedback.kind == "echo":
            assert (feedback.score, feedback.metrics["echo"]) == (0, 1)
            assert "prompt" in feedback.render(3)
    # What is left of a short prompt by cutting it is too short to be told from a text of its own.
    assert sum(won) <= (20 if echo == 6 and dialect == "compact" else 2)


def test_the_release_lets_a_copy_succeed_and_counts_it() -> None:
    env, released = IFEvalEnv(), IFEvalEnv()
    released.grade = "release"
    for task in env.tasks("test"):
        checked = check(task.data, task.prompt).all_strict
        feedback = released.verify(task, task.prompt)
        assert (feedback.success, feedback.metrics["echo"]) == (checked, 1.0)
        assert not env.verify(task, task.prompt).success


def test_what_a_prompt_quotes_or_wants_repeated_may_be_said() -> None:
    prompt = 'Rewrite "we met by the old bridge in the rain last night" as a poem.'
    poem = "We met by the old bridge\nin the rain last night,\nand walked on."
    assert not is_echo(prompt, poem)
    assert is_echo(prompt, prompt)
    asked = "Say hello to all of us in verse."
    prompt = f"{asked}\nFirst repeat the request word for word, then answer."
    assert not is_echo(prompt, f"{asked}\nHello, all!", begin=asked)
    assert is_echo(prompt, asked, begin=asked)
    assert is_echo(prompt, f"{asked}\n***", begin=asked)
    assert is_echo(prompt, prompt, begin=asked)
    wish = "Write a poem. End it with: is there anything else I can do?"
    assert not is_echo(
        wish, "A rose\nIs there anything else I can do?", end="is there anything else I can do?"
    )
    assert not is_echo("Answer yes or no.", "yes")


@pytest.mark.parametrize("unit", ["a ", "a b c d ", '"', "ab"])
def test_copies_are_found_in_linear_time(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    begin = time.process_time()
    is_echo(text, text)
    assert time.process_time() - begin < 3
