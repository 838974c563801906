"""Write a response that follows given instructions; for checkers and tests only.

The responses obey the letter of the instructions and have no meaning. Left out: combinations that
contradict each other, and those that occur in no prompt of the environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_Arguments = Mapping[str, Any]

_TEXT = (
    "we will all see that this is a plain and simple way in which it can be said and and a fine "
    "rule is in the main what we need"
)
FILLER = tuple(_TEXT.split(" "))
SAMPLES: Mapping[str, str] = {
    "fa": "این یک پاسخ کوتاه است و ما آن را می خوانیم.",
    "kn": "ಇದು ಒಂದು ಚಿಕ್ಕ ಉತ್ತರ.",
    "mr": "हे एक लहान उत्तर आहे आणि ते मराठी मध्ये आहे.",
    "pa": "ਇਹ ਇੱਕ ਛੋਟਾ ਜਵਾਬ ਹੈ।",
}
"""A sentence by language."""


def solve(instruction_ids: Sequence[str], kwargs: Sequence[_Arguments]) -> str:
    """A response that follows all of these instructions."""
    found: dict[str, list[_Arguments]] = {}
    for name, arguments in zip(instruction_ids, kwargs, strict=True):
        found.setdefault(name.partition(":")[2], []).append(arguments)
    if "json_format" in found:
        return '{"all": "is fine"}'
    if "response_language" in found:
        return SAMPLES[found["response_language"][0]["language"]]
    text = "\n".join(part for part in _parts(found) if part)
    if "english_capital" in found:
        text = text.upper()
    if "english_lowercase" in found:
        text = text.lower()
    return f'"{text}"' if "quotation" in found else text


def _parts(found: Mapping[str, Sequence[_Arguments]]) -> list[str]:
    """The lines of a response, in an order in which no instruction spoils another."""

    def of(name: str) -> _Arguments:
        return found.get(name, ({},))[0]

    words = _words(found)
    short = " ".join(words[:3])
    splitter = of("multiple_sections").get("section_spliter", "")
    sections = of("multiple_sections").get("num_sections", 0)
    bullets = of("number_bullet_lists").get("num_bullets", 0)
    paragraphs = of("number_paragraphs").get("num_paragraphs", 1)
    return [
        of("repeat_prompt").get("prompt_to_repeat", ""),
        f"<<{short}>>" if "title" in found else "",
        " ".join([*_filled(words, found), *_asked_words(found, short)]),
        *(f"{splitter} {n}\n{short}" for n in range(1, sections + 1)),
        *(f"* {short}" for _ in range(bullets)),
        " ".join([f"{words[0]} {words[1]}."] * _least(found, "number_sentences", "num_sentences")),
        f"{of('postscript')['postscript_marker']} {short}" if "postscript" in found else "",
        *(f"***\n{short}" for _ in range(paragraphs - 1)),
        f"******\n{' '.join(words[3:6])}" if "two_responses" in found else "",
        of("end_checker").get("end_phrase", ""),
    ]


def _words(found: Mapping[str, Sequence[_Arguments]]) -> list[str]:
    """Filler words that break no rule."""
    banned = {word for args in found.get("forbidden_words", ()) for word in args["forbidden_words"]}
    rare = [
        args["letter"].lower()
        for args in found.get("letter_frequency", ())
        if args["let_relation"] == "less than"
    ]
    return [word for word in FILLER if word not in banned and not any(c in word for c in rare)]


def _least(found: Mapping[str, Sequence[_Arguments]], name: str, key: str) -> int:
    """The lower bound of an instruction; 0 if there is none."""
    relation = {"num_words": "relation", "num_sentences": "relation"}.get(key, "")
    return max(
        (args[key] for args in found.get(name, ()) if args[relation] == "at least"), default=0
    )


def _filled(words: Sequence[str], found: Mapping[str, Sequence[_Arguments]]) -> list[str]:
    """As many words as are asked for, at least a few."""
    size = max(6, _least(found, "number_words", "num_words"))
    return [words[n % len(words)] for n in range(size)]


def _asked_words(found: Mapping[str, Sequence[_Arguments]], short: str) -> list[str]:
    """Keywords, letters, capital words, placeholders and highlights, as many as are asked for."""
    words = [word for args in found.get("existence", ()) for word in args["keywords"]]
    for args in found.get("frequency", ()):
        if args["relation"] == "at least":
            words += [args["keyword"]] * args["frequency"]
    for args in found.get("letter_frequency", ()):
        if args["let_relation"] == "at least":
            words.append(args["letter"] * args["let_frequency"])
    for args in found.get("capital_word_frequency", ()):
        if args["capital_relation"] == "at least":
            words += ["YES"] * args["capital_frequency"]
    for args in found.get("number_placeholders", ()):
        words += ["[name]"] * args["num_placeholders"]
    for args in found.get("number_highlighted_sections", ()):
        words += [f"*{short}*"] * args["num_highlights"]
    return words
