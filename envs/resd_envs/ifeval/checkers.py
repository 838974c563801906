"""The 23 kinds of instructions of the IFEval probe, each with its checker.

A checker says whether a response follows one instruction, and what it found. The meaning is that of
the published benchmark (arXiv 2311.07911), including its quirks: a "***" alone is not a list item,
a highlight may be a single pair of stars, a keyword may be part of a word. Differences: letters to
count may be any character (the published code replaces "#" or "!" by a random letter), a text
without any letter has no language, and sentences, capital words and languages are determined by
`sentences.py` and `language.py` instead of trained models. Every checker is linear in the length of
the response.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from resd_envs.ifeval.language import LANGUAGES, detect
from resd_envs.ifeval.sentences import count_capital_words, count_sentences, count_words

_Arguments = Mapping[str, Any]


class Verdict(NamedTuple):
    """A checker's result."""

    followed: bool
    seen: str
    """What the response did."""
    asked: str
    """What it was asked to do."""


Checker = Callable[[str, _Arguments], Verdict]


def _compare(count: int, relation: str, bound: int, what: str) -> Verdict:
    """Compare a count with a bound; the relations are those in the data."""
    if relation not in ("at least", "less than"):
        raise ValueError(f"relation {relation!r} is unknown: give 'at least' or 'less than'")
    followed = count >= bound if relation == "at least" else count < bound
    return Verdict(followed, f"{count} {what}", f"{relation} {bound} {what}")


def no_comma(text: str, _: _Arguments) -> Verdict:
    """No comma anywhere."""
    count = text.count(",")
    return Verdict(not count, f"{count} commas", "no comma")


def number_words(text: str, args: _Arguments) -> Verdict:
    """A number of words."""
    return _compare(count_words(text), args["relation"], args["num_words"], "words")


def number_sentences(text: str, args: _Arguments) -> Verdict:
    """A number of sentences."""
    return _compare(count_sentences(text), args["relation"], args["num_sentences"], "sentences")


def number_paragraphs(text: str, args: _Arguments) -> Verdict:
    """An exact number of paragraphs, separated by "***"; none in the middle may be empty."""
    pieces = [piece.strip() for piece in text.split("***")]
    inner = pieces[1:-1]
    count = sum(map(bool, pieces))
    asked = args["num_paragraphs"]
    return Verdict(
        all(inner) and count == asked,
        f"{count} paragraphs" if all(inner) else "an empty paragraph",
        f"{asked} paragraphs separated by ***",
    )


def existence(text: str, args: _Arguments) -> Verdict:
    """Every keyword occurs, in any case and maybe inside a word."""
    missing = [word for word in args["keywords"] if not _occurrences(word, text)]
    return Verdict(not missing, f"missing: {missing}", f"the keywords {list(args['keywords'])}")


def frequency(text: str, args: _Arguments) -> Verdict:
    """A keyword occurs a number of times."""
    word = args["keyword"]
    count = _occurrences(word, text)
    return _compare(count, args["relation"], args["frequency"], f"times {word!r}")


def _occurrences(word: str, text: str) -> int:
    return sum(1 for _ in re.finditer(re.escape(word.strip()), text, re.IGNORECASE))


def forbidden_words(text: str, args: _Arguments) -> Verdict:
    """None of these words occurs as a whole word."""
    found = [
        word
        for word in args["forbidden_words"]
        if re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)
    ]
    return Verdict(not found, f"used: {found}", f"none of {list(args['forbidden_words'])}")


def letter_frequency(text: str, args: _Arguments) -> Verdict:
    """A character occurs a number of times, in either case."""
    letter = args["letter"].strip().lower()
    count = text.lower().count(letter)
    return _compare(count, args["let_relation"], args["let_frequency"], f"times {letter!r}")


def english_lowercase(text: str, _: _Arguments) -> Verdict:
    """English without a capital letter."""
    return _in_case(text, text.islower(), "lowercase")


def english_capital(text: str, _: _Arguments) -> Verdict:
    """English in capital letters only."""
    return _in_case(text, text.isupper(), "capital letters")


def _in_case(text: str, right: bool, case: str) -> Verdict:
    language = detect(text)
    seen = f"{'all' if right else 'not all'} {case}, language {language or 'unknown'}"
    return Verdict(right and language == "en", seen, f"English in {case} only")


def capital_word_frequency(text: str, args: _Arguments) -> Verdict:
    """A number of words in capital letters."""
    count = count_capital_words(text)
    relation, bound = args["capital_relation"], args["capital_frequency"]
    return _compare(count, relation, bound, "words in capital letters")


def response_language(text: str, args: _Arguments) -> Verdict:
    """The whole response is in a language."""
    language = args["language"]
    if language not in LANGUAGES:
        raise ValueError(f"language {language!r} cannot be told: known are {sorted(LANGUAGES)}")
    found = detect(text)
    return Verdict(found == language, f"language {found or 'unknown'}", f"language {language}")


def number_placeholders(text: str, args: _Arguments) -> Verdict:
    """A minimum number of [placeholders], each within a line."""
    count = sum(_bracketed(line) for line in text.split("\n"))
    return _compare(count, "at least", args["num_placeholders"], "placeholders")


def _bracketed(line: str) -> int:
    count, begin = 0, line.find("[")
    while begin >= 0:
        end = line.find("]", begin)
        if end < 0:
            break
        count, begin = count + 1, line.find("[", end)
    return count


def postscript(text: str, args: _Arguments) -> Verdict:
    """A postscript marker; dots and blanks of "P.S." and "P.P.S" may vary, as published."""
    marker = args["postscript_marker"].strip()
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    found = re.search(patterns.get(marker, re.escape(marker.lower())), text.lower())
    return Verdict(
        bool(found), "a postscript" if found else "no postscript", f"{marker} at the end"
    )


def number_highlighted_sections(text: str, args: _Arguments) -> Verdict:
    """A minimum number of *highlights* or **highlights** that are not blank."""
    single = re.findall(r"\*([^\n*]*)\*", text)
    double = re.findall(r"\*\*([^\n*]*)\*\*", text)
    count = sum(bool(content.strip()) for content in single + double)
    return _compare(count, "at least", args["num_highlights"], "highlighted sections")


def number_bullet_lists(text: str, args: _Arguments) -> Verdict:
    """An exact number of bullet points: lines that begin with "*" or "-"."""
    lines = [line.lstrip() for line in text.split("\n")]
    count = sum(line.startswith("-") for line in lines)
    number = 0
    while number < len(lines):
        line = lines[number]
        if line == "*" and number + 1 < len(lines):
            # A star alone on its line takes the next line as its text.
            count, number = count + 1, number + 1
        elif line.startswith("*") and line[1:2] not in ("", "*"):
            count += 1
        number += 1
    asked = args["num_bullets"]
    return Verdict(count == asked, f"{count} bullet points", f"exactly {asked} bullet points")


def multiple_sections(text: str, args: _Arguments) -> Verdict:
    """A minimum number of sections, marked by the splitter and a number."""
    splitter = args["section_spliter"].strip()
    count = len(re.findall(rf"{re.escape(splitter)}\s?\d+", text))
    return _compare(count, "at least", args["num_sections"], f"marks {splitter!r} with a number")


def json_format(text: str, _: _Arguments) -> Verdict:
    """JSON and nothing else, maybe in one code fence."""
    body = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        body = body.removeprefix(fence)
    try:
        json.loads(body.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return Verdict(False, "not JSON", "JSON only")
    return Verdict(True, "JSON", "JSON only")


def title(text: str, _: _Arguments) -> Verdict:
    """A title in double angular brackets that is not blank."""
    found = any(_titled(line) for line in text.split("\n"))
    return Verdict(found, "a title" if found else "no title", "a title such as <<title>>")


def _titled(line: str) -> bool:
    begin, end = line.find("<<"), line.rfind(">>")
    return 0 <= begin < end - 2 and bool(line[begin:end].lstrip("<").rstrip(">").strip())


def two_responses(text: str, _: _Arguments) -> Verdict:
    """Two different responses, separated by "******"."""
    pieces = [piece.strip() for piece in text.split("******")]
    answers = [piece for piece in pieces if piece]
    followed = all(pieces[1:-1]) and len(answers) == 2 and answers[0] != answers[1]
    return Verdict(followed, f"{len(answers)} responses", "2 different responses around ******")


def repeat_prompt(text: str, args: _Arguments) -> Verdict:
    """The response begins with the request."""
    followed = text.strip().lower().startswith(args["prompt_to_repeat"].strip().lower())
    seen = "begins with the request" if followed else f"begins with {text.strip()[:40]!r}"
    return Verdict(followed, seen, f"first repeat: {args['prompt_to_repeat']}")


def end_checker(text: str, args: _Arguments) -> Verdict:
    """The response ends with a phrase."""
    phrase = args["end_phrase"].strip()
    body = text.strip().strip('"').lower()
    return Verdict(
        body.endswith(phrase.lower()), f"ends with {body[-40:]!r}", f"ends with {phrase!r}"
    )


def quotation(text: str, _: _Arguments) -> Verdict:
    """The whole response is in double quotation marks."""
    body = text.strip()
    followed = len(body) > 1 and body.startswith('"') and body.endswith('"')
    return Verdict(
        followed, f"{body[:10]!r} to {body[-10:]!r}", "double quotation marks around all"
    )


CHECKERS: Mapping[str, Checker] = {
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "combination:repeat_prompt": repeat_prompt,
    "combination:two_responses": two_responses,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:json_format": json_format,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:title": title,
    "keywords:existence": existence,
    "keywords:forbidden_words": forbidden_words,
    "keywords:frequency": frequency,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_words": number_words,
    "punctuation:no_comma": no_comma,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
}
"""By instruction id, as in the data."""
