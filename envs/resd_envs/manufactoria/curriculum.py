"""The Manufactoria curriculum of the embedded model: programs with known misconceptions.

Every answer is a chain of states a0, a1, ... that each wait for one symbol. Seven misconceptions
can spoil it: five shared ones, which a lesson cures on every problem (of a family), and two
instance-specific ones, which only a reflection on the attempt can name. Pre-training problems are
longer words, richer counts, sibling families, and words with a `*`, which any symbol matches; no
problem of any `manufactoria-has` tier. Those tiers hold every short word, so without the starred
ones the model would learn that words of the three families are never short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from resd_bench.nano.curriculum import Exercise, Mistake, OrderedCurriculum
from resd_bench.types import SPLITS, Task
from resd_envs.manufactoria.env import ManufactoriaHasEnv
from resd_envs.manufactoria.problems import (
    Case,
    Problem,
    compact_prompt,
    content_hash,
    make_problem,
)
from resd_envs.manufactoria.verifier import verify

_COLOURS = "RBYG"
STAR = "*"
"""Stands for any symbol, in problems of pre-training only."""
_PAINTERS = {"R": "PAINTER_RED", "B": "PAINTER_BLUE", "Y": "PAINTER_YELLOW", "G": "PAINTER_GREEN"}
PARTNER = {"R": "B", "B": "R", "Y": "G", "G": "Y"}

ORDER = ("colon", "end", "skip", "wait", "back", "stay", "order", "omit", "slip")
"""Misconceptions in the order in which feedback and program reveal them."""

PRIORS = {
    "colon": 0.50,
    "skip": 0.30,
    "back": 0.35,
    "stay": 0.35,
    "order": 0.35,
    "wait": 0.40,
    "end": 0.45,
    "omit": 0.88,
    "slip": 0.85,
}
"""How often an untaught answer gets each point right."""

SHARED = {
    "colon": Mistake(
        "colon",
        "END has a colon",
        ("write END end without a colon", "no colon after END end"),
        True,
        wrong=("write END end with a colon",),
    ),
    "end": Mistake(
        "end",
        "node END is not declared",
        ("accept by going to end in lower case", "the accepting node is end not END"),
        True,
        wrong=("the accepting node is END not end",),
    ),
    "skip": Mistake(
        "skip",
        "other colours are rejected",
        ("on EMPTY go to the twin puller", "give each state a twin puller for other colours"),
        True,
        wrong=("on EMPTY go to NONE without a twin puller",),
    ),
    "wait": Mistake(
        "wait",
        "it waits for an empty tape",
        (
            "accept at once when the last symbol is found",
            "go straight to end after the last symbol",
        ),
        True,
        wrong=("wait for an empty tape after the last symbol",),
    ),
    "back": Mistake(
        "back",
        "an overlap is lost after a mismatch",
        (
            "substring : fall back to the longest prefix",
            "substring : keep the overlap on a mismatch",
        ),
        True,
        wrong=("substring : go back to a0 on a mismatch",),
    ),
    "stay": Mistake(
        "stay",
        "a gap resets the progress",
        ("ordered : stay in the state on other symbols", "ordered : a gap must not reset"),
        True,
        wrong=("ordered : go back to a0 on other symbols",),
    ),
    "order": Mistake(
        "order",
        "the colours are found in one order only",
        ("count : paint needed colours back", "count : put colours still needed back on the tape"),
        True,
        wrong=("count : look for the colours in one order",),
    ),
}

_FAMILY_POINT = {"substring": "back", "ends": "back", "ordered": "stay", "count": "order"}
_WEIGHTS = {
    "substring": 0.27,
    "ordered": 0.23,
    "count": 0.18,
    "no substring": 0.11,
    "no ordered": 0.08,
    "ends": 0.06,
    "starts": 0.03,
    "exact": 0.04,
}
_STARRED = {
    "substring": 0.65,
    "ordered": 0.65,
    "count": 0.6,
    "no substring": 0.2,
    "no ordered": 0.2,
}
"""Share of a family's pre-training words that have a star."""
_OFFICIAL = {
    "substring": "contains_substring",
    "ordered": "contains_ordered",
    "count": "contains_count",
    "starts": "starts_with",
    "ends": "ends_with",
    "exact": "exact_sequence",
}


def point_of(family: str) -> str:
    """The misconception that belongs to a family; "" if it has none."""
    return _FAMILY_POINT.get(family.removeprefix("no "), "")


def overlap(word: str, matched: int, symbol: str) -> int:
    """Length of the longest prefix of `word` that ends `word[:matched] + symbol`."""
    seen = word[:matched] + symbol
    for length in range(min(len(word), len(seen)), 0, -1):
        if seen.endswith(word[:length]):
            return length
    return 0


def holds(kind: str, word: str, tape: str) -> bool:
    """Whether `tape` has the property; stars of a count must lead."""
    if kind == "substring":
        starts = range(len(tape) - len(word) + 1)
        return any(
            all(w in (STAR, t) for w, t in zip(word, tape[at:], strict=False)) for at in starts
        )
    if kind == "ordered":
        left = iter(tape)
        return all(any(w in (STAR, t) for t in left) for w in word)
    core = word.lstrip(STAR)
    rest = tape[len(word) - len(core) :]
    return all(rest.count(symbol) >= core.count(symbol) for symbol in core)


@dataclass(frozen=True)
class _Chain:
    """Writes one program: a chain of states with the given mistakes."""

    family: str
    word: str
    wrong: frozenset[str]

    @property
    def negated(self) -> bool:
        return self.family.startswith("no ")

    @property
    def kind(self) -> str:
        return self.family.removeprefix("no ")

    @property
    def accept(self) -> str:
        return "END" if "end" in self.wrong else "end"

    @property
    def full(self) -> str:
        """Where the last matched symbol leads."""
        if self.negated:
            return "NONE"
        if self.kind in ("exact", "ends") or "wait" in self.wrong:
            return f"a{len(self.word)}"
        return self.accept

    def target(self, state: int, symbol: str) -> str:
        """Where `symbol` leads from state `state`."""
        size = len(self.word)
        straight = state < size and self.word[state] in (symbol, STAR)
        onward = self.full if state + 1 == size else f"a{state + 1}"
        if self.kind in ("starts", "exact"):
            return onward if straight else "NONE"
        if self.kind in ("substring", "ends"):
            if straight and (self.word[state] == STAR or "back" in self.wrong):
                return onward
            lead = size - len(self.word.lstrip(STAR))
            to = 0 if "back" in self.wrong else overlap(self.word[lead:], state - lead, symbol)
            return self.full if lead + to == size else f"a{lead + to}"
        if straight:
            return onward
        if self.kind == "ordered":
            return "a0" if "stay" in self.wrong else f"a{state}"
        needed = symbol in self.word[state:] and "order" not in self.wrong
        return f"c{state}{symbol}" if needed else f"a{state}"

    def state(self, index: int, empty: str) -> list[str]:
        """The nodes of one state; `empty` is where an empty tape leads."""
        pairs = [("PULLER_RB", f"a{index}", "RB"), ("PULLER_YG", f"b{index}", "YG")]
        if "skip" in self.wrong:
            own = self.word[min(index, len(self.word) - 1)]
            own = own.replace(STAR, "R")
            pairs = [(puller, f"a{index}", pair) for puller, _, pair in pairs if own in pair]
        lines: list[str] = []
        for position, (puller, name, pair) in enumerate(pairs):
            onward = empty if position + 1 == len(pairs) else f"b{index}"
            routes = [f"    [{symbol}] {self.target(index, symbol)}" for symbol in pair]
            lines += [f"{puller} {name}:", *routes, f"    [EMPTY] {onward}"]
        if self.kind == "count" and "order" not in self.wrong:
            shown = [symbol for _, _, pair in pairs for symbol in pair]
            for symbol in shown:
                if self.target(index, symbol).startswith("c"):
                    painter = f"{_PAINTERS[symbol]} c{index}{symbol}:"
                    lines += [painter, f"    NEXT a{index}"]
        return lines

    def drain(self) -> list[str]:
        """A last state that accepts an empty tape and nothing else."""
        index = len(self.word)
        lines = [f"PULLER_RB a{index}:", "    [R] NONE", "    [B] NONE"]
        if "skip" in self.wrong:
            return [*lines, f"    [EMPTY] {self.accept}"]
        twin = [f"PULLER_YG b{index}:", "    [Y] NONE", "    [G] NONE"]
        return [*lines, f"    [EMPTY] b{index}", *twin, f"    [EMPTY] {self.accept}"]

    def program(self) -> str:
        lines = ["START start:", "    NEXT a0"]
        for index in range(len(self.word)):
            lines += self.state(index, self.accept if self.negated else "NONE")
        if self.kind == "ends":
            lines += self.state(len(self.word), self.accept)
        elif self.full == f"a{len(self.word)}":
            lines += self.drain()
        return "\n".join([*lines, "END end:" if "colon" in self.wrong else "END end"])


class ManufactoriaCurriculum(OrderedCurriculum):
    """See `resd_bench.nano.curriculum.Curriculum`."""

    order = ORDER

    @cached_property
    def reserved(self) -> frozenset[str]:
        """Content hashes of every problem of every tier and split."""
        return frozenset(
            content_hash(task.data["problem"].family, task.data["problem"].params)
            for length in (None, 2, 3, 4, 5)
            for split in SPLITS
            for task in ManufactoriaHasEnv(length=length, dialect="compact").tasks(split)
        )

    def exercise(self, rng: np.random.Generator) -> Exercise:
        families, weights = list(_WEIGHTS), np.array(list(_WEIGHTS.values()))
        while True:
            family = families[int(rng.choice(len(families), p=weights / weights.sum()))]
            found = _exercise(family, _word(family, rng))
            if found.fingerprint not in self.reserved:
                return found

    def of_task(self, task: Task) -> Exercise:
        problem: Problem = task.data["problem"]
        family = next(short for short, name in _OFFICIAL.items() if name == problem.family)
        if family == "count":
            needs = problem.params["requirements"]
            return _exercise(family, "".join(str(c) * int(n) for c, n in needs))
        return _exercise(family, str(problem.params["sequence"]))

    def priors(self, exercise: Exercise) -> Mapping[str, float]:
        keys = {"colon", "end", "skip", point_of(exercise.family), "slip"}
        if exercise.family in ("substring", "ordered", "count", "starts"):
            keys.add("wait")
        symbols = [symbol for symbol in exercise.content if symbol != STAR]
        if len(symbols) > 1:
            keys.add("omit")
        if exercise.family == "count" and len(set(symbols)) == 1:
            keys.discard("order")
        return {key: PRIORS[key] for key in ORDER if key in keys}

    def mistake(self, exercise: Exercise, key: str, rng: np.random.Generator) -> Mistake:
        if key in SHARED:
            return SHARED[key]
        places = [at for at, symbol in enumerate(exercise.content) if symbol != STAR]
        at = places[int(rng.integers(len(places)))]
        symbol = exercise.content[at]
        if key == "omit":
            symptom = f"symbol {at + 1} {symbol} is missing"
            lessons = (f"add a state for symbol {at + 1} {symbol}",)
        else:
            symptom = f"a{at} waits for {PARTNER[symbol]}"
            lessons = (f"a{at} must wait for {symbol}",)
        return Mistake(key, symptom, lessons, False, (at, symbol))

    def answer(self, exercise: Exercise, mistakes: Mapping[str, Mistake]) -> str:
        word = list(exercise.content)
        if "slip" in mistakes:
            at = mistakes["slip"].where[0]
            word[at] = PARTNER[word[at]]
        if "omit" in mistakes:
            del word[mistakes["omit"].where[0]]
        chain = _Chain(exercise.family, "".join(word), frozenset(mistakes))
        return f"```manufactoria\n{chain.program()}\n```"

    def feedback(self, exercise: Exercise, response: str) -> tuple[bool, str]:
        problem = _problem(exercise.family, "".join(exercise.content))
        verdict = verify(response, problem, dialect="compact")
        return verdict.success, verdict.render(3)


def _word(family: str, rng: np.random.Generator) -> str:
    """The symbols of a pre-training problem."""
    if rng.random() < _STARRED.get(family, 0.0):
        return _starred_word(family.removeprefix("no "), rng)
    if family == "count":
        colours = int(rng.choice([1, 2, 3, 4], p=[0.05, 0.2, 0.25, 0.5]))
        return _counts(colours, int(rng.integers(4 if colours == 4 else 7, 8)), rng)
    longest = {"substring": (5, 6), "ordered": (5, 6)}.get(family, (1, 5))
    sizes = list(range(longest[0], longest[1] + 1))
    size = int(rng.choice(sizes, p=np.array(sizes) / sum(sizes)))
    return _symbols(size, rng)


def _symbols(size: int, rng: np.random.Generator) -> str:
    return "".join(_COLOURS[int(c)] for c in rng.integers(4, size=size))


def _counts(colours: int, total: int, rng: np.random.Generator) -> str:
    """`total` symbols of `colours` colours, equal ones together, as in prompts about counts."""
    chosen = sorted(rng.choice(4, size=colours, replace=False).tolist())
    extra = rng.multinomial(total - colours, [1 / colours] * colours)
    pairs = zip(chosen, extra, strict=True)
    return "".join(_COLOURS[c] * (1 + int(n)) for c, n in pairs)


def _starred_word(kind: str, rng: np.random.Generator) -> str:
    """A word with one or two stars: anywhere, at the ends of a substring, before a count."""
    symbols, stars = int(rng.integers(1, 6)), int(rng.integers(1, 3))
    if kind == "count":
        return STAR * stars + _counts(int(rng.integers(1, min(symbols, 3) + 1)), symbols, rng)
    word = _symbols(symbols, rng)
    for _ in range(stars):
        inner = range(1, len(word)) if kind == "ordered" else ()
        places = [0, len(word), *inner]
        at = places[int(rng.integers(len(places)))]
        word = word[:at] + STAR + word[at:]
    return word


def _params(family: str, word: str) -> dict[str, object]:
    if family != "count":
        return {"sequence": word}
    return {"requirements": [[c, word.count(c)] for c in dict.fromkeys(word)]}


@lru_cache(maxsize=50_000)
def _exercise(family: str, word: str) -> Exercise:
    positive = family.removeprefix("no ")
    official, core = _OFFICIAL[positive], word.replace(STAR, "")
    prompt = compact_prompt(official, _params(positive, core))
    if core != word:
        prompt = " ".join([positive, *word])
    prefix = "no " if positive != family else ""
    fingerprint = prefix + content_hash(official, _params(positive, core))
    if core != word:
        fingerprint += f" {word}"
    return Exercise(prefix + prompt, family, tuple(word), fingerprint)


@lru_cache(maxsize=20_000)
def _problem(family: str, word: str) -> Problem:
    positive = family.removeprefix("no ")
    core = word.replace(STAR, "")
    problem = make_problem(_OFFICIAL[positive], _params(positive, core))
    tests = tuple(problem.tests)
    if core != word:
        padded = [c.input + _COLOURS[n % 4] * (n % 3) for n, c in enumerate(tests)]
        padded = [_COLOURS[n // 2 % 4] * (n % 2) + tape for n, tape in enumerate(padded)]
        tests = tuple(Case(tape, holds(positive, word, tape)) for tape in padded)
    if positive != family:
        tests = tuple(replace(c, expected_accepted=not c.expected_accepted) for c in tests)
    return replace(problem, family=family, tests=tests)


CURRICULUM = ManufactoriaCurriculum()
