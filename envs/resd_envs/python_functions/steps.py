"""Chains of steps on a list of whole numbers that end in one number.

Short chains of few words are the smallest tier, whose prompts and answers have tens of tokens; long
chains of many words are a family of the hard tier. Left out: steps on anything but numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from resd_bench.seeds import stream
from resd_envs.python_functions.family import ints
from resd_envs.python_functions.problem import Problem, bucket, content_hash, solved

FAMILY = "steps"
ENTRY = "f"


@dataclass(frozen=True, slots=True)
class Word:
    """What one step does to the list `a`."""

    text: str
    code: str
    numbers: range = field(default_factory=lambda: range(0))
    """Possible values of n; empty for a word without a number."""


EACH: Mapping[str, Word] = {
    "over": Word(
        "Keep only the numbers greater than {n}.", "[x for x in a if x > {n}]", range(1, 9)
    ),
    "under": Word("Keep only the numbers less than {n}.", "[x for x in a if x < {n}]", range(1, 9)),
    "least": Word(
        "Keep only the numbers that are {n} or more.", "[x for x in a if x >= {n}]", range(1, 9)
    ),
    "most": Word(
        "Keep only the numbers that are {n} or less.", "[x for x in a if x <= {n}]", range(1, 9)
    ),
    "plus": Word("Add {n} to each number.", "[x + {n} for x in a]", range(1, 10)),
    "minus": Word("Subtract {n} from each number.", "[x - {n} for x in a]", range(1, 10)),
    "times": Word("Multiply each number by {n}.", "[x * {n} for x in a]", range(2, 10)),
}
"""Words of the basic tier."""

FILTERS = ("over", "under", "least", "most")
CHANGES = ("plus", "minus", "times")

MORE: Mapping[str, Word] = {
    "floor": Word(
        "Divide each number by {n}, rounding down.", "[x // {n} for x in a]", range(2, 6)
    ),
    "mod": Word(
        "Replace each number by its remainder modulo {n}, which is never negative.",
        "[x % {n} for x in a]",
        range(2, 8),
    ),
    "cap": Word(
        "Replace each number greater than {n} by {n}.", "[min(x, {n}) for x in a]", range(2, 15)
    ),
    "size": Word("Replace each number by its absolute value.", "[abs(x) for x in a]"),
    "distinct": Word("Of equal numbers keep only the first.", "list(dict.fromkeys(a))"),
    "sort": Word("Sort the numbers, the smallest first.", "sorted(a)"),
    "reverse": Word("Reverse the order of the numbers.", "a[::-1]"),
    "running": Word(
        "Replace each number by the sum of it and all before it.",
        "[sum(a[:i + 1]) for i in range(len(a))]",
    ),
    "steps": Word(
        "Replace the list by the differences of neighbours, each number minus the one before it, "
        "so that it gets one shorter; an empty list stays empty.",
        "[y - x for x, y in zip(a, a[1:])]",
    ),
    "skip": Word(
        "Leave out the first {n} numbers, or all if there are fewer.", "a[{n}:]", range(1, 4)
    ),
    "tail": Word(
        "Keep only the last {n} numbers, or all if there are fewer.", "a[-{n}:]", range(2, 6)
    ),
    "other": Word("Keep the first number, the third, the fifth and so on.", "a[::2]"),
    "peaks": Word(
        "Keep only the numbers that are greater than every number before them.",
        "[x for i, x in enumerate(a) if all(x > y for y in a[:i])]",
    ),
}
"""Further words of the hard tier."""

WORDS = {**EACH, **MORE}

ENDS: Mapping[str, tuple[str, str]] = {
    "sum": ("the sum of the numbers", "sum(a)"),
    "max": ("the largest number", "max(a)"),
    "min": ("the smallest number", "min(a)"),
    "count": ("how many numbers there are", "len(a)"),
    "first": ("the first number", "a[0]"),
    "last": ("the last number", "a[-1]"),
}


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps in order, the result, and the result for an empty list."""

    steps: tuple[tuple[str, int | None], ...]
    end: str
    empty: int

    @property
    def params(self) -> dict[str, object]:
        """As plain data."""
        return {"steps": [list(step) for step in self.steps], "end": self.end, "empty": self.empty}

    @property
    def hash(self) -> str:
        """Content hash."""
        return content_hash(FAMILY, self.params)

    @property
    def brief(self) -> str:
        """The compact prompt."""
        words = [word if n is None else f"{word} {n}" for word, n in self.steps]
        return f"def f(a): {' ; '.join([*words, self.end, f'empty {self.empty}'])}"

    @classmethod
    def from_params(cls, params: Mapping[str, object]) -> Chain:
        """The chain of `params`."""
        steps: list[list[object]] = params["steps"]  # type: ignore[assignment]
        pairs = tuple((str(word), None if n is None else int(str(n))) for word, n in steps)
        return cls(pairs, str(params["end"]), int(str(params["empty"])))


def code_of(word: str, n: int | None) -> str:
    """The expression of one step."""
    return WORDS[word].code.replace("{n}", str(n))


def solution(chain: Chain) -> str:
    """A program with one line per step."""
    lines = [f"def {ENTRY}(a):", *(f" a = {code_of(word, n)}" for word, n in chain.steps)]
    return "\n".join(
        [*lines, " if not a:", f"  return {chain.empty}", f" return {ENDS[chain.end][1]}"]
    )


def statement(chain: Chain, example: str) -> str:
    """The chain in full sentences."""
    lines = [
        f"{number}. {WORDS[word].text.format(n=n)}"
        for number, (word, n) in enumerate(chain.steps, 1)
    ]
    return (
        "Take a list of whole numbers through these steps, in this order, each on the result of "
        "the one before:\n\n"
        + "\n".join(lines)
        + f"\n\nThen return {ENDS[chain.end][0]}. If no number "
        f"is left, return {chain.empty}.\n\nSignature: `def {ENTRY}(a: list[int]) -> int:`\n"
        f"Example: {example}."
    )


def line_statement(chain: Chain, example: str) -> str:
    """A chain of one step, as briefly as a small model needs it."""
    ((word, n),) = chain.steps
    return (
        f"The function f takes a list of whole numbers. {WORDS[word].text.format(n=n)} Then return "
        f"{ENDS[chain.end][0]}; for no numbers it is {chain.empty}.\n\nExample: {example}."
    )


def line_solution(chain: Chain) -> str:
    """A program whose body is one line, for a chain of one step that ends in 0 without numbers."""
    ((word, n),) = chain.steps
    result = ENDS[chain.end][1].replace("(a)", f"({code_of(word, n)})")
    return f"def {ENTRY}(a):\n return {result}"


def inputs(chain: Chain, rng: np.random.Generator, count: int) -> list[tuple[list[int]]]:
    """An ordinary list first, then empty, single, equal, boundary, negative and random ones."""
    bounds = [n for word, n in chain.steps if n is not None and word in FILTERS]
    limits = _limits(chain)
    close = [n + d for n in limits or bounds for d in (0, -1, 1)]
    calls = [ints(rng, 5, 0, 12), [], *([n] for n in bounds + limits), [0], [-4], [20], close]
    calls += [[4, 4, 4], [-3, -8, -1], [9, 1, 9, 5], [20, -20, 3], [*bounds[::-1], 6, 2]]
    calls += [ints(rng, size, -12, 15) for size in rng.integers(2, 8, size=count).tolist()]
    return [(call,) for call in calls]


def _limits(chain: Chain) -> list[int]:
    """Numbers that are exactly at the limit when they reach a filter, after any changes."""
    found: list[int] = []
    reached = {x: x for x in range(-20, 21)}
    for word, n in chain.steps:
        if word in FILTERS:
            found += [x for x, value in reached.items() if value == n]
        elif word not in CHANGES:
            break
        else:
            change = {"plus": int.__add__, "minus": int.__sub__, "times": int.__mul__}[word]
            reached = {x: change(value, n or 0) for x, value in reached.items()}
    return found


def problem(chain: Chain, seed: int = 0, count: int = 4, *, line: bool = False) -> Problem:
    """The problem of a chain; `count` is the number of random lists in the tests.

    `line` poses and solves a chain of one step briefly.
    """
    content = chain.hash
    source = line_solution(chain) if line else solution(chain)
    rng = stream(seed, "python-functions", FAMILY, content)
    example, *cases = solved(source, ENTRY, inputs(chain, rng, count))
    shown = f"`{ENTRY}({example.args[0]!r})` gives `{example.expected!r}`"
    return Problem(
        id=f"{FAMILY}-{content[:12]}",
        family=FAMILY,
        statement=line_statement(chain, shown) if line else statement(chain, shown),
        brief=chain.brief,
        entry=ENTRY,
        cases=tuple(cases),
        solution=source,
        params=chain.params,
    )


def every_step_matters(chain: Chain, posed: Problem) -> bool:
    """Whether every program that leaves out one of the steps fails the problem's tests."""
    inputs_ = [case.args for case in posed.cases]
    wanted = [case.expected for case in posed.cases]
    for place in range(len(chain.steps)):
        kept = (*chain.steps[:place], *chain.steps[place + 1 :])
        program = solution(Chain(kept, chain.end, chain.empty))
        if [case.expected for case in solved(program, ENTRY, inputs_)] == wanted:
            return False
    return True


def pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    """One of `choices`."""
    return choices[int(rng.integers(len(choices)))]


def step(rng: np.random.Generator, word: str) -> tuple[str, int | None]:
    """`word` with a number, if it takes one."""
    numbers = WORDS[word].numbers
    return word, numbers[int(rng.integers(len(numbers)))] if numbers else None


def short_chain(rng: np.random.Generator) -> Chain:
    """A chain of the basic tier: a filter and a change in either order, perhaps another change."""
    words = [pick(rng, FILTERS), pick(rng, CHANGES)]
    if rng.random() < 0.5:
        words.reverse()
    if rng.random() < 0.4:
        words.insert(int(rng.integers(3)), pick(rng, CHANGES))
    steps = tuple(step(rng, word) for word in words)
    return Chain(steps, pick(rng, tuple(ENDS)), int(rng.integers(1, 10)))


def line_chains() -> Iterator[Chain]:
    """Every chain of one step whose answer fits on one line, since nothing sums to 0."""
    for word in WORDS:
        for n in WORDS[word].numbers or (None,):
            for end in ("sum", "count"):
                yield Chain(((word, n),), end, 0)


LONG = (4, 6)
"""Fewest and most steps of a chain of the hard tier."""


def long_chain(rng: np.random.Generator) -> Chain:
    """A chain of the hard tier: all words differ, and no filter occurs twice."""
    words = [
        str(w) for w in rng.permutation(list(WORDS))[: int(rng.integers(LONG[0], LONG[1] + 1))]
    ]
    steps = tuple(step(rng, word) for word in words)
    return Chain(steps, pick(rng, tuple(ENDS)), int(rng.integers(-9, 0)))


def chains(seed: int, name: str) -> Iterator[Chain]:
    """An endless stream of different chains, `short` or `long` ones."""
    rng, draw = (
        stream(seed, "python-functions", name),
        {"short": short_chain, "long": long_chain}[name],
    )
    seen: set[str] = set()
    while True:
        chain = draw(rng)
        if chain.hash not in seen:
            seen.add(chain.hash)
            yield chain


RUN_BUCKETS = 10
"""Short chains in the first ten of a hundred buckets are tasks of runs; all others are for
pre-training the embedded model."""


def for_runs(chain: Chain) -> bool:
    """Whether a short chain may be a task of a run."""
    return bucket(chain.hash) < RUN_BUCKETS
