"""Families of problems: one function, several rules, and for each rule a choice.

A family has the wording and the code of each choice, so the statement and the reference solution
cannot disagree. A problem's content is the family and the choices; name and test inputs follow from
these by seeded streams.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from resd_bench.seeds import stream
from resd_envs.python_functions.problem import Problem, content_hash, solved

Level = Literal["easy", "hard"]
Picks = Mapping[str, str]
"""The key of the chosen option, by rule."""
Inputs = Callable[[np.random.Generator, Picks], Sequence[tuple[Any, ...]]]
"""Draws the arguments of the calls; the first is the example in the statement."""


@dataclass(frozen=True, slots=True)
class Option:
    """One choice for one rule."""

    key: str
    text: str
    """A sentence or two of the statement; "" if there is nothing to say."""
    brief: str = ""
    """The same in a few words."""
    code: str = ""
    """The code of the reference solution for this rule."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Further slots of the reference solution."""


def numbers(values: Sequence[int], text: str, brief: str, code: str = "{n}") -> tuple[Option, ...]:
    """An option for each number, which replaces `{n}` in the wordings and the code."""
    return tuple(
        Option(str(n), text.format(n=n), brief.format(n=n), code.replace("{n}", str(n)))
        for n in values
    )


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """Problems that differ only in name and rules."""

    name: str
    level: Level
    entries: tuple[str, ...]
    """Names that the function may have."""
    arguments: str
    """The parameters, with types, as in a signature."""
    returns: str
    """Type of the result."""
    purpose: str
    brief: str
    rules: Mapping[str, tuple[Option, ...]]
    """Each rule has a slot `<rule>` in the template."""
    template: str
    """The reference solution with slots `<name>`; `<entry>` is the function's name."""
    inputs: Inputs
    tolerance: float = 0.0
    cosmetic: frozenset[str] = frozenset()
    """Rules whose options differ only in the inputs, not in what the solution does."""

    def all_picks(self) -> Iterator[dict[str, str]]:
        """Every combination of options."""
        for chosen in itertools.product(*self.rules.values()):
            yield {rule: o.key for rule, o in zip(self.rules, chosen, strict=True)}

    def options(self, picks: Picks) -> dict[str, Option]:
        """The chosen options by rule."""
        return {
            rule: next(o for o in choices if o.key == picks[rule])
            for rule, choices in self.rules.items()
        }

    def solution(self, picks: Picks, entry: str) -> str:
        """The reference solution."""
        slots = {"entry": entry}
        for rule, option in self.options(picks).items():
            slots |= {rule: option.code, **option.more}
        return fill(self.template, slots)

    def problem(self, picks: Picks, seed: int = 0) -> Problem:
        """The problem with these choices; `seed` determines the test inputs, not the content."""
        content = content_hash(self.name, dict(picks))
        entry = self.entries[int(content[:8], 16) % len(self.entries)]
        rng = stream(seed, "python-functions", self.name, content)
        source = self.solution(picks, entry)
        example, *cases = solved(source, entry, self.inputs(rng, picks), self.tolerance)
        signature = f"def {entry}({self.arguments}) -> {self.returns}:"
        options = self.options(picks).values()
        rules = "\n".join(f"- {option.text}" for option in options if option.text)
        shown = ", ".join(map(repr, example.args))
        statement = (
            f"{self.purpose}\n\n{rules}\n\nSignature: `{signature}`\n"
            f"Example: `{entry}({shown})` gives `{example.expected!r}`."
        )
        names = ", ".join(part.split(":")[0].strip() for part in self.arguments.split(", "))
        words = " ; ".join([self.brief, *(option.brief for option in options if option.brief)])
        return Problem(
            id=f"{self.name}-{content[:12]}",
            family=self.name,
            statement=statement,
            brief=f"def {entry}({names}): {words}",
            entry=entry,
            cases=tuple(cases),
            solution=source,
            params=dict(picks),
        )


_SLOT = re.compile(r"<([a-z_]+)>")
_SLOT_LINE = re.compile(r"^([ ]*)<([a-z_]+)>$")


def fill(template: str, slots: Mapping[str, str]) -> str:
    """Put code into slots; a slot alone on its line may take several lines, or none if empty."""
    text = template.strip("\n")
    while _SLOT.search(text):
        lines: list[str] = []
        for line in text.split("\n"):
            alone = _SLOT_LINE.match(line)
            if alone is None:
                lines.append(_SLOT.sub(lambda match: slots[match[1]], line))
            elif slots[alone[2]]:
                lines += [alone[1] + inner for inner in slots[alone[2]].split("\n")]
        text = "\n".join(lines)
    return text


def ints(rng: np.random.Generator, count: int, low: int, high: int) -> list[int]:
    """Whole numbers from `low` to `high`, both included."""
    return [int(n) for n in rng.integers(low, high + 1, size=count)]


def letters(rng: np.random.Generator, count: int, alphabet: str) -> str:
    """Random characters of `alphabet`."""
    return "".join(alphabet[int(i)] for i in rng.integers(len(alphabet), size=count))
