"""Grade a list of tags against the right one, position by position.

The verdicts are those of the released FiNER grader: tags are compared without regard to case and
outer whitespace, extra tags are ignored, a missing tag shifts all that follow. Left out: the
released feedback (it prints the whole right answer after every mistake, which here is level 5) and
the evaluation of answers as programs. Numbers, which a related task asks for, are read as
arithmetic.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from resd_bench.parsing import Grade, last_answer_tag, visible_answer
from resd_bench.types import CaseResult, Dialect, Feedback
from resd_envs.arithmetic import BINARY

MAX_SHOWN_TAG = 100
"""Characters of a given tag that feedback repeats; the longest real tag has 138, but its beginning
is enough."""
MAX_NUMBER_CHARS = 64
MAX_EXPONENT = 64

TEXTS: Mapping[Dialect, Mapping[str, str]] = {
    "full": {
        "wrong_tag": "Question {n}{about}: {said} is not the right tag.",
        "unknown_tag": "Question {n}{about}: {said} is not one of the tags.",
        "missing": "Question {n}{about}: no tag was given.",
        "incorrect_format": "There was no answer between <answer> and </answer>.",
        "named": "The answer must name one of the tags, but it names {n} of them.",
        "truncated": "The response was cut off before it was complete.",
        "about": " ({question})",
    },
    "compact": {
        "wrong_tag": "{n} {said} wrong{about}",
        "unknown_tag": "{n} {said} unknown{about}",
        "missing": "{n} missing{about}",
        "incorrect_format": "no answer element",
        "named": "{n} tags named , not 1",
        "truncated": "cut off",
        "about": " : {question}",
    },
}


def score(
    response_text: str,
    gold: str | Sequence[str],
    *,
    questions: Sequence[str] = (),
    options: Sequence[str] = (),
    dialect: Dialect = "full",
    partial_credit: bool = False,
    truncated: bool = False,
    grade: Grade = "release",
) -> Feedback:
    """Grade the last `<answer>` of a response; `score` is the fraction of right tags.

    `gold` is the list of right tags, or one string separated by commas. `questions` says in a few
    words what each tag is for, `options` which tags there are; both only make feedback clearer. The
    reward is 1 if every tag is right, else 0; with `partial_credit` it is the fraction, on which
    the released code trains. `kind` is "incorrect_format", "truncated" (for a response known to be
    cut off), "partial" or "all_wrong". As in the released grader, an element in unfinished
    reasoning counts; with `grade="answer"`, the environment's default, it does not.
    """
    right = gold.split(",") if isinstance(gold, str) else list(gold)
    read = response_text if grade == "release" else visible_answer(response_text)
    answer = last_answer_tag(read)
    said = [] if answer is None else answer.split(",")
    allowed = {_norm(tag) for tag in options}
    texts = TEXTS[dialect]
    cases = []
    for place, tag in enumerate(right):
        given = said[place].strip() if place < len(said) else ""
        kind = "incorrect_format" if answer is None else _kind(given, tag, allowed)
        about = texts["about"].format(question=questions[place]) if place < len(questions) else ""
        fields = {"n": place + 1, "said": _shown(given), "about": about}
        detail = "" if kind == "pass" else texts[kind].format(**fields)
        cases.append(CaseResult(f"question {place + 1}", kind == "pass", kind, detail, tag.strip()))
    return _verdict(cases, answer is None, truncated, partial_credit, texts)


def score_named(
    response_text: str,
    right: str,
    *,
    question: str,
    options: Sequence[str],
    dialect: Dialect = "full",
    truncated: bool = False,
    grade: Grade = "release",
) -> Feedback:
    """Grade a response that should name the right one of `options`, in any words, and no other.

    `kind` is "incorrect_format" if it names none or several, else as for `score`.
    """
    read = response_text if grade == "release" else visible_answer(response_text)
    words = set(re.findall(r"\w+", read.lower()))
    named = [tag for tag in options if _norm(tag) in words]
    texts = TEXTS[dialect]
    about = texts["about"].format(question=question)
    if len(named) != 1:
        kind, detail = "incorrect_format", texts["named"].format(n=len(named))
    elif agrees(named[0], right):
        kind, detail = "pass", ""
    else:
        kind = "wrong_tag"
        detail = texts[kind].format(n=1, said=_shown(named[0]), about=about)
    cases = [CaseResult("question 1", kind == "pass", kind, detail, right)]
    found = _verdict(cases, kind == "incorrect_format", truncated, False, texts)
    return replace(found, solution=right)


def _verdict(
    cases: list[CaseResult],
    unformatted: bool,
    truncated: bool,
    partial_credit: bool,
    texts: Mapping[str, str],
) -> Feedback:
    fraction = sum(case.passed for case in cases) / len(cases)
    success = all(case.passed for case in cases)
    kind = "" if success else "partial" if fraction else "all_wrong"
    shown = tuple(place for place, case in enumerate(cases) if not case.passed)
    if unformatted:
        kind, shown = "incorrect_format", shown[:1]
    if truncated and not success:
        kind = "truncated"
        if unformatted:
            cases[0] = CaseResult(
                cases[0].name, False, "truncated", texts["truncated"], cases[0].expected
            )
    return Feedback(
        reward=fraction if partial_credit else float(success),
        success=success,
        score=fraction,
        cases=tuple(cases),
        kind=kind,
        shown=shown,
        solution=f"<answer>{','.join(case.expected for case in cases)}</answer>",
    )


def _norm(tag: str) -> str:
    return tag.lower().strip()


def _kind(said: str, right: str, allowed: set[str]) -> str:
    """Class of one tag; `pass` if it is right."""
    if agrees(said, right):
        return "pass"
    if not said:
        return "missing"
    return "unknown_tag" if allowed and _norm(said) not in allowed else "wrong_tag"


def agrees(said: str, right: str) -> bool:
    """Whether two tags are the same, or two numbers if the right answer is a number."""
    value = number(_norm(right))
    if value is None:
        return _norm(said) == _norm(right)
    return number(_norm(said).replace("$", "")) == value


_ARITHMETIC = re.compile(r"[0-9e_.+\-*/%() ]+")


def number(text: str) -> float | None:
    """The value of plain arithmetic such as "25/2" or "1_000"; None for any other text."""
    text = text.strip()
    if len(text) > MAX_NUMBER_CHARS or not _ARITHMETIC.fullmatch(text):
        return None
    try:
        return float(_value(ast.parse(text, mode="eval").body))
    except (SyntaxError, ValueError, ArithmeticError, TypeError):
        return None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        left, right = _value(node.left), _value(node.right)
        huge = abs(right) > MAX_EXPONENT or abs(left) > 10**MAX_EXPONENT
        if isinstance(node.op, ast.Pow) and huge:
            raise ValueError("the power is too large to compute")
        return BINARY[type(node.op)](left, right)
    raise ValueError(f"{type(node).__name__} is not arithmetic")


def _shown(tag: str) -> str:
    """A given tag as feedback repeats it: short, on one line, always encodable."""
    line = " ".join(tag[: 4 * MAX_SHOWN_TAG].split())
    cut = line if len(line) <= MAX_SHOWN_TAG else line[: MAX_SHOWN_TAG - 1] + "…"
    return "".join(char if char.isprintable() else "?" for char in cut)
