"""Judge a response on all instructions of a prompt, strictly and loosely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resd_bench.errors import near_miss
from resd_bench.parsing import Grade, visible_answer, without_reasoning
from resd_envs.ifeval.checkers import CHECKERS, Verdict

_MAX_CHARS = 200_000
"""Only this many characters of a response are judged."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The checkers' results for one response; all fields are in the order of the instructions."""

    instruction_ids: tuple[str, ...]
    strict: tuple[bool, ...]
    """Whether the response as it is follows each instruction."""
    loose: tuple[bool, ...]
    """Whether at least one of the eight variants does, see `variants`."""
    details: tuple[Verdict, ...]
    """What the strict checkers saw."""

    @property
    def all_strict(self) -> bool:
        """Prompt-level strict accuracy."""
        return all(self.strict)

    @property
    def all_loose(self) -> bool:
        """Prompt-level loose accuracy."""
        return all(self.loose)

    @property
    def strict_score(self) -> float:
        """Fraction of instructions followed strictly."""
        return sum(self.strict) / len(self.strict)

    @property
    def loose_score(self) -> float:
        """Fraction of instructions followed loosely."""
        return sum(self.loose) / len(self.loose)


def read(response: str, grade: Grade = "release") -> str:
    """The part of a response that is judged; with `grade="release"`, unfinished reasoning too."""
    text = without_reasoning(response) if grade == "release" else visible_answer(response)
    return text[:_MAX_CHARS]


def check(prompt_item: Mapping[str, Any], response: str, *, grade: Grade = "release") -> Verdicts:
    """Judge `response`, without its reasoning, on the instructions of `prompt_item`.

    `prompt_item` holds `instruction_ids` and `kwargs`, one mapping per instruction, with None for
    an argument that it does not have. An empty response follows nothing. UsageError for an unknown
    instruction.
    """
    text = read(response, grade)
    ids = tuple(prompt_item["instruction_ids"])
    arguments = [
        {key: value for key, value in given.items() if value is not None}
        for given in prompt_item["kwargs"]
    ]
    pairs = list(zip(ids, arguments, strict=True))
    details = tuple(_judge(name, text, given) for name, given in pairs)
    strict = tuple(verdict.followed for verdict in details)
    loose = tuple(
        followed or any(_judge(name, variant, given).followed for variant in variants(text)[1:])
        for followed, (name, given) in zip(strict, pairs, strict=True)
    )
    return Verdicts(ids, strict, loose, details)


def _judge(name: str, text: str, arguments: Mapping[str, Any]) -> Verdict:
    if name not in CHECKERS:
        raise near_miss("IFEval instruction", name, CHECKERS)
    verdict = CHECKERS[name](text, arguments)
    return verdict if text.strip() else Verdict(False, "an empty response", verdict.asked)


def variants(text: str) -> tuple[str, ...]:
    """The text; without its first line, its last line and both; and all four without stars."""
    lines = text.split("\n")
    cut = (
        text,
        "\n".join(lines[1:]).strip(),
        "\n".join(lines[:-1]).strip(),
        "\n".join(lines[1:-1]).strip(),
    )
    return (*cut, *(variant.replace("*", "") for variant in cut))
