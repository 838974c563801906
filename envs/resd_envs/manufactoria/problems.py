"""Which tapes a factory must accept: problem families, their tests and the paper's problem set.

The 874 HAS problems, their order and their split are reconstructed exactly; the inputs of the
released tests were drawn without a seed, so ours follow the same recipe from a named stream. Tests
are made for the HAS families and the accept-only words; for the other families this module defines
the meaning (`expected`), but their problems come from records.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import combinations, pairwise, product
from typing import Any, NamedTuple, overload

import numpy as np

from resd_bench.errors import UsageError
from resd_bench.records.jsonl import (
    OBJECT,
    OBJECTS,
    TEXT,
    TEXT_OR_NULL,
    TRUE_OR_FALSE,
    check_fields,
)
from resd_bench.seeds import stream
from resd_envs.manufactoria.machine import COLOURS, encode

Params = Mapping[str, Any]

WORD_FAMILIES = (
    "contains_ordered",
    "contains_substring",
    "starts_with",
    "ends_with",
    "exact_sequence",
)
"""Families whose only parameter is `sequence`."""

MAX_TESTS = 35
MIN_OF_EACH_VERDICT = 3
_SHORT_TAPE, MEDIUM, LONG = 3, 6, 9
"""Lengths of padding around a word."""
MEDIUM_TAPE, LONG_TAPE, LARGE_TAPE = 12, 15, 18
"""Lengths of whole random tapes and of the widest padding."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test of a problem."""

    input: str
    expected_accepted: bool
    check_output: bool = False
    expected_output: str = ""
    """Final tape; a regular expression if it contains one of `.+*?|()`."""


RECORD = {
    **dict.fromkeys(("id", "family", "name", "criteria"), TEXT),
    "color_mode": TEXT_OR_NULL,
    "params": OBJECT,
    "tests": OBJECTS,
}
TEST = {
    **dict.fromkeys(("expected_accepted", "check_output"), TRUE_OR_FALSE),
    **{"input": TEXT, "expected_output": TEXT},
}
"""The types of the fields of a record, and of a test in it."""


@dataclass(frozen=True, eq=False)
class Problem:
    """One problem with its tests."""

    id: str
    family: str
    params: Params
    name: str
    criteria: str
    tests: Sequence[Case] = field(repr=False)
    """Generated tests are made when they are first accessed."""
    colours: str = COLOURS
    """Colours that inputs may have."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Problem:
        """Read a problem from its JSON form; UsageError names a key that is missing or mistyped."""
        check_fields(record, RECORD, "a problem record")
        for number, test in enumerate(record.get("tests", ())):
            check_fields(test, TEST, f"a problem record: test {number}")
        try:
            tests = tuple(
                Case(t["input"], t["expected_accepted"], t["check_output"], t["expected_output"])
                for t in record["tests"]
            )
            return cls(
                id=record["id"],
                family=record["family"],
                params=record["params"],
                name=record["name"],
                criteria=record["criteria"],
                tests=tests,
                colours="RB" if record.get("color_mode") == "two_color" else COLOURS,
            )
        except KeyError as error:
            raise UsageError(
                f"a problem record lacks {error}: give id, family, params, name, criteria and "
                "tests of input, expected_accepted, check_output, expected_output"
            ) from error

    @cached_property
    def encoded_inputs(self) -> tuple[tuple[int, ...], ...]:
        """Each test's input in the machine's encoding."""
        return tuple(encode(case.input) for case in self.tests)

    @cached_property
    def expected_verdicts(self) -> list[bool]:
        """Whether each test's input must be accepted."""
        return [case.expected_accepted for case in self.tests]

    @cached_property
    def checks_output(self) -> bool:
        """Whether any test checks the final tape."""
        return any(case.check_output for case in self.tests)


class GeneratedCases(Sequence[Case]):
    """The tests of a HAS or word problem, made when they are first accessed."""

    def __init__(self, family: str, params: Params) -> None:
        self._family, self._params = family, params

    @cached_property
    def _cases(self) -> tuple[Case, ...]:
        return _generate(self._family, self._params)

    @overload
    def __getitem__(self, index: int) -> Case: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Case]: ...

    def __getitem__(self, index: int | slice) -> Case | Sequence[Case]:
        return self._cases[index]

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self._cases)


# The meaning of each family.


def expected(family: str, params: Params, tape: str) -> tuple[bool, str | None]:
    """The verdict of a correct program on `tape`, and its final tape if that matters.

    `params` is in the schema of the released problems. UsageError if the family is unknown.
    """
    if family in _ACCEPTS:
        return _ACCEPTS[family](params, tape), None
    if family in _OUTPUTS:
        return True, _OUTPUTS[family](params, tape)
    known = ", ".join(sorted([*_ACCEPTS, *_OUTPUTS]))
    raise UsageError(f"unknown problem family {family!r}. Known: {known}")


def expected_verdicts(family: str, params: Params, tapes: Iterable[str]) -> bytes | None:
    """The verdicts of `expected` on many tapes, a byte each; None where final tapes matter."""
    accepts = _ACCEPTS.get(family)
    return None if accepts is None else bytes([accepts(params, tape) for tape in tapes])


def _has_counts(params: Params, tape: str) -> bool:
    return all(tape.count(colour) >= least for colour, least in params["requirements"])


def _has_subsequence(params: Params, tape: str) -> bool:
    symbols = iter(tape)
    return all(symbol in symbols for symbol in params["sequence"])


def _matches_parts(params: Params, tape: str) -> bool:
    pattern = "".join(f"(?:{word}){operator}" for word, operator in params["pattern_parts"])
    return re.fullmatch(pattern, tape) is not None


_BLOCK = re.compile(r"([RB])\{([^}]*)\}")
_BLOCK_LENGTH = re.compile(r"(\d*)n(?:\+(\d+))?")


def _matches_blocks(params: Params, tape: str) -> bool:
    """Blocks such as `R{n}B{2n}` with one n >= 1 for all."""
    blocks = _BLOCK.findall(params["pattern_template"])
    return any(
        tape == "".join(colour * _block_length(length, n) for colour, length in blocks)
        for n in range(1, len(tape) + 1)
    )


def _block_length(text: str, n: int) -> int:
    match = _BLOCK_LENGTH.fullmatch(text)
    if match is None:
        raise UsageError(f"block length {text!r} is not valid: give one such as n, n+2 or 2n")
    return int(match[1] or 1) * n + int(match[2] or 0)


def _number(tape: str) -> int:
    """Binary value, blue 1 and every other colour 0; the empty tape is 0."""
    return int("0" + "".join("1" if symbol == "B" else "0" for symbol in tape), 2)


def _tape(number: int) -> str:
    """The binary tape of a positive number; "" for any other."""
    return format(number, "b").translate({48: "R", 49: "B"}) if number > 0 else ""


_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
}

_OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "add": lambda value, k: value + k,
    "subtract": lambda value, k: value - k,
    "and": lambda value, k: value & k,
    "or": lambda value, k: value | k,
    "xor": lambda value, k: value ^ k,
    "not": lambda value, _: value ^ ((1 << max(8, value.bit_length())) - 1),
    "floor_div": lambda value, k: value >> k,
    "max": max,
    "min": min,
}
"""`not` flips at least eight binary digits; `floor_div` divides by 2 to the k."""


def _compares(params: Params, tape: str) -> bool:
    return _COMPARISONS[params["operator"]](_number(tape), params["threshold"])


def _calculated(params: Params, tape: str) -> str:
    return _tape(_OPERATIONS[params["operation"]](_number(tape), params["operand"] or 0))


def _prepended(params: Params, tape: str) -> str:
    return str(params["prepend_sequence"]) + _mutated(params, tape)


def _mutated(params: Params, tape: str) -> str:
    kind, word = params["mutation_type"], params.get("mutation_pattern") or ""
    if kind == "swap_RB":
        return tape.translate({ord("R"): "B", ord("B"): "R"})
    replaced: Mapping[str, tuple[str, str]] = {
        "keep_unchanged": ("R", "R"),
        "remove_R": ("R", ""),
        "remove_B": ("B", ""),
        "change_R_to_pattern": ("R", word),
        "change_B_to_pattern": ("B", word),
        "replace_pattern_to_pattern": (
            params.get("source_pattern") or "R",
            params.get("target_pattern") or "",
        ),
    }
    if kind not in replaced:
        raise UsageError(f"unknown mutation {kind!r}. Known: swap_RB, {', '.join(replaced)}")
    return tape.replace(*replaced[kind])


_ACCEPTS: Mapping[str, Callable[[Params, str], bool]] = {
    "contains_count": _has_counts,
    "contains_ordered": _has_subsequence,
    "contains_substring": lambda params, tape: params["sequence"] in tape,
    "starts_with": lambda params, tape: tape.startswith(params["sequence"]),
    "ends_with": lambda params, tape: tape.endswith(params["sequence"]),
    "exact_sequence": lambda params, tape: bool(tape == params["sequence"]),
    "regex_pattern": _matches_parts,
    "regex_same_num": _matches_blocks,
    "numerical_comparison": _compares,
}

_OUTPUTS: Mapping[str, Callable[[Params, str], str]] = {
    "append_sequence": lambda params, tape: tape + str(params["sequence"]),
    "prepend_sequence": _prepended,
    "numerical_max_min": _calculated,
    "numerical_operations": _calculated,
}


# Making problems.

_ORDER = {colour: index for index, colour in enumerate(COLOURS)}


def canonical(family: str, params: Params) -> Params:
    """The relevant parameters in canonical form: requirements in colour order, no extra keys."""
    if family == "contains_count":
        pairs = [[str(colour), int(least)] for colour, least in params["requirements"]]
        return {"requirements": sorted(pairs, key=lambda pair: _ORDER[pair[0]])}
    if family in WORD_FAMILIES:
        return {"sequence": params["sequence"]}
    return params


def content_hash(family: str, params: Params) -> str:
    """A hash of the problem, independent of its name and of key order: 16 hexadecimal digits."""
    text = json.dumps([family, canonical(family, params)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def slug(family: str, params: Params) -> str:
    """A short readable name, e.g. `substring-RBYB` or `count-R1G5`."""
    short = _SHORT[family]
    if family == "contains_count":
        pairs = canonical(family, params)["requirements"]
        return f"{short}-{''.join(f'{colour}{least}' for colour, least in pairs)}"
    return f"{short}-{params['sequence']}"


def compact_prompt(family: str, params: Params) -> str:
    """One line for the embedded model, e.g. `substring R B Y G` or `count R R B`."""
    if family == "contains_count":
        symbols = "".join(colour * least for colour, least in params["requirements"])
    else:
        symbols = params["sequence"]
    return " ".join([_SHORT[family], *symbols])


_SHORT: Mapping[str, str] = {
    "contains_count": "count",
    "contains_ordered": "ordered",
    "contains_substring": "substring",
    "starts_with": "starts",
    "ends_with": "ends",
    "exact_sequence": "exact",
}

_WORDINGS: Mapping[str, tuple[str, str]] = {
    "contains_ordered": (
        "Contains {word}",
        "contains the subsequence {word} (does not have to be consecutive)",
    ),
    "contains_substring": (
        "Contains '{word}'",
        "contains the substring '{word}' (must be consecutive)",
    ),
    "starts_with": ("Starts with {word}", "starts with {word}"),
    "ends_with": ("Ends with {word}", "ends with {word}"),
    "exact_sequence": ("Exactly {word}", "is exactly {word}"),
}
"""From the family to the problem's name and to the condition on the tape."""


def _wording(family: str, params: Params) -> tuple[str, str]:
    if family == "contains_count":
        pairs = params["requirements"]
        amounts = [f"{least} {c}{'s' if least > 1 else ''}" for c, least in pairs]
        each = " and ".join(f"at least {amount.lower()}" for amount in amounts)
        return f"Need {' and '.join(amounts)}", f"has {each}"
    name, condition = _WORDINGS[family]
    word = params["sequence"]
    return name.format(word=word), condition.format(word=word)


def make_problem(family: str, params: Params) -> Problem:
    """A four-colour problem of a HAS family, `starts_with`, `ends_with` or `exact_sequence`.

    `params` is `{"requirements": [[colour, least], ...]}` for `contains_count` and
    `{"sequence": word}` for the others, of any length. The same problem has the same tests
    everywhere. UsageError if tests of the family cannot be made.
    """
    _check(family, params)
    params = canonical(family, params)
    name, condition = _wording(family, params)
    return Problem(
        id=slug(family, params),
        family=family,
        params=params,
        name=name,
        criteria=f"Accept if the tape {condition}; reject otherwise.",
        tests=GeneratedCases(family, params),
    )


def _check(family: str, params: Params) -> None:
    if family not in _SHORT:
        raise UsageError(
            f"no tests can be made for family {family!r}: give one of {', '.join(_SHORT)}, "
            "or a whole record with its tests"
        )
    key = "requirements" if family == "contains_count" else "sequence"
    given = params.get(key)
    if not given:
        raise UsageError(f"{family} needs {key!r}, given {dict(params)!r}")
    symbols = [pair[0] for pair in given] if key == "requirements" else list(given)
    odd = sorted(set(symbols) - set(COLOURS))
    if odd:
        raise UsageError(f"{family}: {odd} are not colours: give R, B, Y or G")
    if key == "requirements" and (len(set(symbols)) < len(symbols) or min(given)[1] < 1):
        raise UsageError(f"{family}: give each colour once with a count of at least 1: {given}")


# The paper's problem set.


class Spec(NamedTuple):
    """The specification of a problem, before it is made."""

    family: str
    params: Params

    @property
    def hash(self) -> str:
        """See `content_hash`."""
        return content_hash(self.family, self.params)


HAS_SEED = 42
HAS_TRAIN = 742


@cache
def has_split() -> tuple[tuple[Spec, ...], tuple[Spec, ...]]:
    """The 742 training and 132 test problems of Manufactoria-HAS, in the paper's order."""
    rng = random.Random(HAS_SEED)
    specs: list[Spec] = []
    for file in (
        _count_specs(6),
        words("contains_ordered", 1, 4),
        words("contains_substring", 1, 4),
    ):
        specs += rng.sample(file, len(file))
    rng.shuffle(specs)
    return tuple(specs[:HAS_TRAIN]), tuple(specs[HAS_TRAIN:])


def words(family: str, shortest: int, longest: int) -> list[Spec]:
    """One problem per word of the given lengths, shortest first, R < B < Y < G."""
    return [
        Spec(family, {"sequence": "".join(word)})
        for length in range(shortest, longest + 1)
        for word in product(COLOURS, repeat=length)
    ]


def _count_specs(most: int) -> list[Spec]:
    """Requirements on one to three colours, `most` in all, nested in colour order."""
    return [
        Spec(
            "contains_count", {"requirements": [list(p) for p in zip(colours, counts, strict=True)]}
        )
        for size in (1, 2, 3)
        for colours in combinations(COLOURS, size)
        for counts in product(range(1, most + 1), repeat=size)
        if sum(counts) <= most
    ]


def length_of(spec: Spec) -> int:
    """Length of the word, or the total count."""
    if spec.family == "contains_count":
        return sum(least for _, least in spec.params["requirements"])
    return len(spec.params["sequence"])


# Making tests.


def _generate(family: str, params: Params) -> tuple[Case, ...]:
    """The tests of one problem, by the released recipe, from its own stream."""
    identity = json.dumps(canonical(family, params), sort_keys=True)
    draw = _Draw(stream(0, "manufactoria", family, identity))
    makers = {"contains_count": _count_tapes, "contains_ordered": _ordered_tapes}
    makers["contains_substring"] = _substring_tapes
    own = makers.get(family, _word_tapes)(draw, params)
    accepts = _ACCEPTS[family]
    verdicts = {tape: accepts(params, tape) for tape in ["", "R", "RB", *_corner_tapes(draw), *own]}
    for wanted in (True, False):
        _top_up(verdicts, wanted, draw, lambda tape: accepts(params, tape))
    return tuple(Case(tape, verdict) for tape, verdict in list(verdicts.items())[:MAX_TESTS])


def _top_up(
    verdicts: dict[str, bool], wanted: bool, draw: _Draw, accepts: Callable[[str], bool]
) -> None:
    for attempt in range(50):
        if sum(verdict == wanted for verdict in verdicts.values()) >= MIN_OF_EACH_VERDICT:
            return
        tape = draw.between(1, min(2 + attempt // 10, 12))
        if tape not in verdicts and accepts(tape) == wanted:
            verdicts[tape] = wanted


class _Draw:
    """Random pieces of tape."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def tape(self, length: int, colours: str = COLOURS) -> str:
        """`length` uniform symbols."""
        if not colours or length <= 0:
            return ""
        return "".join([colours[i] for i in self.rng.integers(len(colours), size=length).tolist()])

    def between(self, shortest: int, longest: int) -> str:
        """A tape of uniform length."""
        return self.tape(self.size(shortest, longest))

    def size(self, smallest: int, largest: int) -> int:
        return int(self.rng.integers(smallest, largest + 1))

    def spread(self, word: str, widest: int = 1) -> str:
        """`word` with 1 to `widest` random symbols between neighbours."""
        gaps = [self.between(1, widest) for _ in word[1:]]
        return word[:1] + "".join(gap + symbol for gap, symbol in zip(gaps, word[1:], strict=True))

    def shuffled(self, tape: str) -> str:
        """The same symbols in random order."""
        return "".join([tape[i] for i in self.rng.permutation(len(tape)).tolist()])


_CORNERS = ["", *COLOURS, *("".join(pair) for pair in product(COLOURS, repeat=2))]


def _corner_tapes(draw: _Draw) -> list[str]:
    chosen = [_CORNERS[i] for i in draw.rng.integers(len(_CORNERS), size=5).tolist()]
    return [*chosen, "RB", "BR", "RBR", "BRB", "RRB", "BBR", ""]


def _without(colours: Sequence[str]) -> str:
    return "".join(c for c in COLOURS if c not in colours)


def _substring_tapes(draw: _Draw, params: Params) -> list[str]:
    """Hits with padding and overlap; near misses by gap, prefix, order and foreign colours."""
    w = params["sequence"]
    tapes = [w, w + draw.tape(_SHORT_TAPE), draw.tape(MEDIUM) + w]
    tapes.append(draw.between(1, 3) + w + draw.between(1, 3))
    tapes.append(w + draw.between(1, 3) + w)
    tapes.append(draw.between(3, 5) + w + draw.between(3, 5))
    if len(set(w)) < len(w):
        tapes.append(w + w[1:])
    if len(w) >= 2:
        tapes.append(draw.spread(w))
    for end in range(1, len(w)):
        x = draw.between(3, 6)
        tapes.append(x + w[:end] + x)
    if len(w) >= 2:
        y = draw.between(2, 4)
        tapes.append(y + w[::-1] + y)
    if len(w) >= 3:
        x = draw.tape(_SHORT_TAPE)
        tapes.append(x + _other_order(w) + x)
        tapes.append(_inserted(w, len(w) // 2, draw))
    tapes.append(draw.tape(MEDIUM_TAPE, _without(w)))
    if len(w) >= 2:
        x = draw.tape(_SHORT_TAPE)
        tapes.append(x + _inserted(w, draw.size(1, len(w) - 1), draw) + x)
        tapes.append(draw.tape(2) + draw.spread(w) + draw.tape(2))
    return tapes


def _inserted(word: str, at: int, draw: _Draw) -> str:
    return word[:at] + draw.tape(1) + word[at:]


def _other_order(word: str) -> str:
    """The word reversed, else with its first two different neighbours swapped."""
    if word[::-1] != word:
        return word[::-1]
    for at, (a, b) in enumerate(pairwise(word)):
        if a != b:
            return word[:at] + b + a + word[at + 2 :]
    return word


def _ordered_tapes(draw: _Draw, params: Params) -> list[str]:
    """Hits with gaps; near misses that lack a symbol or have it in the wrong place."""
    w = params["sequence"]
    middle = len(w) // 2
    holed = w[:middle] + w[middle + 1 :]
    tapes = [w, *(_inserted(w, at, draw) for at in range(1, len(w)))]
    tapes += [draw.spread(w), w + draw.tape(_SHORT_TAPE), draw.tape(MEDIUM) + w]
    tapes.append(draw.between(2, 4) + draw.spread(w, 3) + draw.between(2, 4))
    tapes.append(w[:middle] + draw.tape(1) + w[middle:] + draw.tape(2))
    tapes += [w[1:], w[:-1], holed]
    x = draw.between(2, 5)
    tapes.append(x + w[::-1] + x)
    if len(w) >= 3:
        x, y = draw.tape(_SHORT_TAPE), draw.tape(LONG)
        tapes += [x + w[-1] + w[:-1] + x, y + w[:-2] + w[-1] + y]
    tapes.append(draw.tape(MEDIUM_TAPE, _without(w)))
    if len(w) >= 3:
        x = draw.tape(LARGE_TAPE)
        tapes.append(x + holed + x)
    return tapes


def _count_tapes(draw: _Draw, params: Params) -> list[str]:
    """Enough of everything with some to spare; one short, one colour missing, none at all."""
    need = Counter({colour: int(least) for colour, least in params["requirements"]})
    first, last = next(iter(need)), list(need)[-1]
    others = _without(list(need))
    exact = "".join(need.elements())
    short = need - Counter(first) if need[first] > 1 else need
    each_short = (need - Counter(list(need))).elements()
    spare = "".join(colour * draw.size(1, 2) for colour in need)
    padded = exact + "".join(colour * draw.size(0, 2) for colour in need)
    mixed = "".join(
        draw.tape(1, "".join(need) if draw.rng.random() < 0.6 else COLOURS)
        for _ in range(LARGE_TAPE - len(exact))
    )
    tapes = [exact, exact + spare, exact + draw.tape(_SHORT_TAPE, others)]
    tapes += [padded + draw.tape(MEDIUM_TAPE - len(padded)), exact + mixed]
    tapes.append("".join((need - Counter({last: need[last]})).elements()) + draw.tape(5, others))
    tapes.append("".join(short.elements()) + draw.tape(_SHORT_TAPE, others))
    tapes.append(draw.tape(MEDIUM_TAPE, others))
    low = "".join(each_short)
    tapes.append(low + draw.tape(max(5, MEDIUM_TAPE - len(low)), others))
    low = "".join(short.elements())
    tapes.append(low + draw.tape(LARGE_TAPE - len(low)))
    return [draw.shuffled(tape) for tape in tapes]


def _word_tapes(draw: _Draw, params: Params) -> list[str]:
    """The word, alone and with neighbours, cut short, doubled and with one symbol changed."""
    w = params["sequence"]
    tapes = [
        w,
        w + draw.tape(1),
        draw.tape(1) + w,
        w + draw.tape(_SHORT_TAPE),
        draw.tape(_SHORT_TAPE) + w,
    ]
    tapes += [w + draw.tape(LONG), draw.tape(LONG) + w, draw.between(1, 3) + w + draw.between(1, 3)]
    tapes += [w[1:], w[:-1], w + w, w[::-1], w + draw.tape(2) + w, w + w[1:]]
    for at in range(len(w)):
        changed = w[:at] + draw.tape(1, _without(w[at])) + w[at + 1 :]
        tapes += [changed, changed + w[-1] if at % 2 else w[0] + changed]
    tapes += [draw.spread(w), draw.tape(MEDIUM_TAPE, _without(w)), draw.tape(LONG_TAPE)]
    return tapes
