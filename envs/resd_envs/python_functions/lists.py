"""Families about lists and numbers: rotating, ranking, windows, chunks, bounds, digits, Romans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from resd_envs.python_functions.family import Family, Option, Picks, ints, numbers

_Calls = Sequence[tuple[Any, ...]]


def _rotate_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    if picks["kind"] == "text":
        longer: list[Any] = ["abcdefghij", "no melon, no lemon", "äöü🌍ßxyzwv", "aaaaaaaaab"]
        shorter: list[Any] = ["", "z", "ab", "abc"]
    else:
        longer = [ints(rng, int(rng.integers(8, 12)), -9, 9) for _ in range(4)]
        shorter = [[], [7], [1, 2], [5, 5, 4]]
    calls = [(x, k) for x, k in zip(longer, (2, 1, 3, 4), strict=True)]
    calls += [(x, k) for x in longer[:2] for k in (0, len(x), len(x) + 2, 3 * len(x) + 1)]
    calls += [(x, k) for x in longer[2:] for k in (-1, -3, -len(x) - 1, 1_000_003)]
    return calls + [(x, k) for x in shorter for k in (1, -2)]


ROTATE = Family(
    name="rotate",
    level="easy",
    entries=("rotate", "turn_round", "shift_circular"),
    arguments="items: list[int] | str, k: int",
    returns="list[int] | str",
    purpose="Return a copy of a sequence, rotated by k places.",
    brief="rotate by k",
    rules={
        "kind": (
            Option("list", "`items` is a list of whole numbers.", "list"),
            Option("text", "`items` is a string.", "string"),
        ),
        "direction": (
            Option("left", "Rotating by 1 moves the first element to the end.", "left", "k"),
            Option("right", "Rotating by 1 moves the last element to the front.", "right", "-k"),
        ),
        "negative": (
            Option("turn", "A negative k rotates the other way.", "k < 0 other way"),
            Option("stay", "A negative k rotates nothing.", "k < 0 nothing", "k = max(k, 0)"),
            Option("size", "The sign of k does not matter.", "sign ignored", "k = abs(k)"),
        ),
        "beyond": (
            Option("wrap", "k may exceed the length: the rotation goes round.", "k goes round"),
            Option(
                "stay",
                "If the absolute value of k exceeds the number of elements that take part, nothing "
                "is rotated.",
                "too large k nothing",
                " or abs(k) > len(rest)",
            ),
        ),
        "keep": (
            Option("0", "Every element takes part.", "", "0"),
            Option("1", "The first element stays in front and takes no part.", "keep first", "1"),
            *numbers(
                (2, 3, 4),
                "The first {n} elements stay in front and take no part.",
                "keep first {n}",
            ),
        ),
    },
    template="""
def <entry>(items, k):
    head, rest = items[:<keep>], items[<keep>:]
    <negative>
    if not rest<beyond>:
        return items[:]
    k = <direction> % len(rest)
    return head + rest[k:] + rest[:k]
""",
    inputs=_rotate_inputs,
    cosmetic=frozenset({"kind"}),
)


def _kth_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    calls = [(ints(rng, size, -9, 9),) for size in (6, 7, 5, 9, 12)]
    calls += [([-9, 9, 4, -4, 1],), ([-9, 9, -9],), ([-3, -5, -8, -2, -7],), ([-1, -1, 2],)]
    calls += [([],), ([4],), ([4, 4],), ([4, 4, 4],), ([4, 4, 4, 4, 4],), ([1, 2],), ([3, 3, 2],)]
    calls += [([5, 5, 4, 4, 3, 3, 2, 2],), ([0, -1, -1, 0],), ([10**12, -(10**12), 7, 8, 9],)]
    return [*calls, (ints(rng, 400, -50, 50),)]


_ORDINALS = {2: "second", 3: "third", 4: "fourth"}

KTH = Family(
    name="kth",
    level="easy",
    entries=("pick_ranked", "runner_up", "nth_best"),
    arguments="values: list[int]",
    returns="int | None",
    purpose="Return one value of a list by its rank.",
    brief="value by rank",
    rules={
        "rank": tuple(
            Option(str(n), f"The wanted value is the {word} one in the order below.", word, str(n))
            for n, word in _ORDINALS.items()
        ),
        "order": (
            Option("largest", "The order runs from the largest down.", "largest first", "True"),
            Option("smallest", "The order runs from the smallest up.", "smallest first", "False"),
        ),
        "equal": (
            Option("once", "Equal values take one rank together.", "distinct", "set(values)"),
            Option("each", "Equal values take a rank each.", "repeats count", "values"),
        ),
        "missing": (
            Option("none", "If there are too few, return None.", "else None", "None"),
            Option("minus", "If there are too few, return -1.", "else -1", "-1"),
            Option(
                "last",
                "If there are too few, return the last one in the order, and None for an empty "
                "list.",
                "else last , empty None",
                "ranked[-1] if ranked else None",
            ),
        ),
        "key": (
            Option("value", "", "", "lambda v: v"),
            Option(
                "size",
                "Values are compared by absolute value; of two with the same absolute value the "
                "positive one is the larger.",
                "compare abs , then positive larger",
                "lambda v: (abs(v), v)",
            ),
        ),
    },
    template="""
def <entry>(values):
    ranked = sorted(<equal>, key=<key>, reverse=<order>)
    if len(ranked) >= <rank>:
        return ranked[<rank> - 1]
    return <missing>
""",
    inputs=_kth_inputs,
)


def _bounded_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    low, high = map(int, picks["range"].split())
    span = high - low
    inside: list[int | None] = [low, high, (low + high) // 2]
    near: list[int | None] = [low - 1, high + 1, low - 2, high + 2]
    far = [low - span, high + span, low - span - 1, high + span + 1, low - 100, high + 100]
    calls: list[tuple[Any, ...]] = [([*inside, *near],), (ints(rng, 6, low - 9, high + 9),)]
    calls += [(ints(rng, 6, low - 30, high + 30),), ([],), ([low],), ([high],), (near,), (far,)]
    calls += [([None],), ([None, high + 1, None, low - 1],), ([0, -1, 1],), ([10**9, -(10**9)],)]
    return [*calls, ([high + 1] * 3,), (ints(rng, 500, low - 60, high + 60),)]


_RANGES = ((0, 9), (1, 6), (-5, 5), (0, 23), (-3, 0), (10, 15), (2, 4), (-9, -4))

BOUNDED = Family(
    name="bounded",
    level="easy",
    entries=("keep_within", "bounded", "fit_range"),
    arguments="values: list[int | None]",
    returns="list[int | None]",
    purpose="Bring every number of a list into a range and return the new list.",
    brief="bring into range",
    rules={
        "range": tuple(
            Option(
                f"{low} {high}",
                f"The range runs from {low} to {high}, both included.",
                f"{low} to {high}",
                f"low, high = {low}, {high}",
            )
            for low, high in _RANGES
        ),
        "mode": (
            Option(
                "clamp",
                "A number outside becomes the nearest bound.",
                "clamp",
                "out.append(min(max(v, low), high))",
            ),
            Option(
                "wrap",
                "Counting goes in a circle: the number after the upper bound is the lower bound.",
                "wrap round",
                "out.append(low + (v - low) % (high - low + 1))",
            ),
            Option(
                "mirror",
                "A number outside is mirrored at the bound: one beyond it lands one before it, "
                "and so on, back and forth as often as needed.",
                "mirror at bounds",
                "p = (v - low) % (2 * (high - low))\n"
                "out.append(low + min(p, 2 * (high - low) - p))",
            ),
            Option(
                "drop",
                "A number outside is left out.",
                "drop outside",
                "if low <= v <= high:\n    out.append(v)",
            ),
        ),
        "none": (
            Option("drop", "None is left out.", "None dropped", "if v is None:\n    continue"),
            Option(
                "keep",
                "None stays where it is.",
                "None stays",
                "if v is None:\n    out.append(None)\n    continue",
            ),
            Option(
                "low",
                "None counts as the lower bound.",
                "None is low",
                "v = low if v is None else v",
            ),
        ),
    },
    template="""
def <entry>(values):
    <range>
    out = []
    for v in values:
        <none>
        <mode>
    return out
""",
    inputs=_bounded_inputs,
)


def _chunk_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    items = ints(rng, 11, 1, 99)
    calls: list[tuple[Any, ...]] = [(items[:7], 3), (items[:9], 4), (items, 2), (items, 5)]
    calls += [(items[:6], 3), (items[:8], 4), (items[:4], 2), (items[:3], 1), (items, 1)]
    calls += [([], 3), ([], 0), ([5], 1), ([5], 2), (items[:3], 3), (items[:3], 4)]
    calls += [(items[:5], 0), (items[:5], -2), ([7, 7, 7], 2), ([0, -1, 0], 2)]
    return [*calls, (items[:4], 50), (ints(rng, 300, -9, 9), 7)]


_FILL = "parts = [p + [{n}] * (size - len(p)) for p in parts]"

CHUNK = Family(
    name="chunk",
    level="easy",
    entries=("chunks", "split_up", "in_groups"),
    arguments="items: list[int], size: int",
    returns="list[list[int]]",
    purpose="Cut a list into consecutive parts of `size` elements.",
    brief="cut into parts of size",
    rules={
        "side": (
            Option("end", "If it does not come out even, the last part is short.", "", "0"),
            Option(
                "start",
                "If it does not come out even, the first part is the short one.",
                "short part first",
                "len(items) % size",
            ),
        ),
        "nonpositive": (
            Option("none", "A size of 0 or less gives [].", "size < 1 : []", "[]"),
            Option(
                "whole",
                "A size of 0 or less gives a list whose only element is a copy of the whole list, "
                "also when that is empty.",
                "size < 1 : one part",
                "[items[:]]",
            ),
        ),
        "remainder": (
            Option("keep", "A short part stays short.", "keep short"),
            Option(
                "drop",
                "A short part is dropped.",
                "drop short",
                "parts = [p for p in parts if len(p) == size]",
            ),
            *numbers((0, -1), "A short part is filled up at its end with {n}.", "fill {n}", _FILL),
        ),
        "cap": (
            Option("no", "", ""),
            *numbers(
                (2, 3),
                "At most the first {n} parts are returned.",
                "at most {n} parts",
                "parts = parts[:{n}]",
            ),
        ),
        "snake": (
            Option("no", "", "", "parts"),
            Option(
                "yes",
                "In the end the elements of every second returned part (the second, the fourth, "
                "...) are put in reverse order.",
                "reverse every second part",
                "[p[::-1] if i % 2 else p for i, p in enumerate(parts)]",
            ),
        ),
    },
    template="""
def <entry>(items, size):
    if size <= 0:
        return <nonpositive>
    cut = <side>
    parts = [items[:cut]] if cut else []
    parts += [items[i:i + size] for i in range(cut, len(items), size)]
    <remainder>
    <cap>
    return <snake>
""",
    inputs=_chunk_inputs,
)


def _window_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    calls: list[tuple[Any, ...]] = [(ints(rng, size, -9, 9),) for size in (6, 8, 7, 10)]
    calls += [([],), ([3],), ([3, 8],), ([3, 8, -2],), ([3, 8, -2, 4],), ([3, 8, -2, 4, 1],)]
    calls += [([5] * 6,), ([-4, -3, -9, -1, -7],), ([10**9, 1, 10**9, 2, 10**9],)]
    return [*calls, ([1, 0, 0, 0, 0, 0],), (ints(rng, 300, -99, 99),)]


_FULL = "windows = [values[i:i + n] for i in range(len(values) - n + 1)]"

WINDOW = Family(
    name="window",
    level="easy",
    entries=("moving", "rolling", "slide"),
    arguments="values: list[int]",
    returns="list[float]",
    purpose="Slide a window over a list and return one number for each position of the window.",
    brief="slide a window",
    rules={
        "size": numbers((2, 3, 4, 5), "The window spans {n} neighbours.", "size {n}", "{n}"),
        "kind": (
            Option("mean", "The number is the mean of the window.", "mean", "sum(w) / len(w)"),
            Option("max", "The number is the largest value of the window.", "max", "max(w)"),
            Option(
                "range",
                "The number is the largest minus the smallest value of the window.",
                "max - min",
                "max(w) - min(w)",
            ),
            Option(
                "median",
                "The number is the middle value of the window in sorted order; of two middle "
                "values the smaller.",
                "lower median",
                "sorted(w)[(len(w) - 1) // 2]",
            ),
        ),
        "edges": (
            Option(
                "full",
                "Only full windows count: a list that is too short gives [].",
                "full windows",
                _FULL,
            ),
            Option(
                "whole",
                "Only full windows count; but a list that is too short and not empty is one "
                "window by itself.",
                "full windows , short list one window",
                f"{_FULL}\nif values and not windows:\n    windows = [values]",
            ),
            Option(
                "growing",
                "There is a window for each element, which ends there and is shorter where the "
                "list has not enough elements before it.",
                "ends at each element , shorter at start",
                "windows = [values[max(0, i - n + 1):i + 1] for i in range(len(values))]",
            ),
            Option(
                "padded",
                "There is a window for each element, which ends there; before the list there are "
                "as many zeros as needed.",
                "ends at each element , zeros before",
                "padded = [0] * (n - 1) + values\n"
                "windows = [padded[i:i + n] for i in range(len(values))]",
            ),
        ),
    },
    template="""
def <entry>(values):
    n = <size>
    <edges>
    return [<kind> for w in windows]
""",
    inputs=_window_inputs,
    tolerance=1e-6,
)


def _roman_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    fixed = (14, 1, 3, 4, 5, 8, 9, 19, 40, 44, 90, 94, 399, 400, 444, 499, 900, 999, 1000)
    tail = (0, -1, -4, -9, -400, 3999, 4000, 5000, -4000, 1994)
    return [(n,) for n in (*fixed, *tail, *ints(rng, 4, 1, 399))]


_ADDITIVE = ("M", 1000), ("D", 500), ("C", 100), ("L", 50), ("X", 10), ("V", 5), ("I", 1)
_PAIRS = ("CM", 900), ("CD", 400), ("XC", 90), ("XL", 40), ("IX", 9), ("IV", 4)


def _table(pairs: tuple[tuple[str, int], ...]) -> str:
    ordered = sorted((*_ADDITIVE, *pairs), key=lambda pair: -pair[1])
    return "table = [" + ", ".join(f'("{word}", {value})' for word, value in ordered) + "]"


ROMAN = Family(
    name="roman",
    level="easy",
    entries=("to_roman", "numeral", "roman"),
    arguments="number: int",
    returns="str",
    purpose="Write a whole number in Roman numerals (M 1000, D 500, C 100, L 50, X 10, V 5, I 1), "
    "larger ones first.",
    brief="Roman numeral",
    rules={
        "style": (
            Option(
                "pairs",
                "4, 9, 40, 90, 400 and 900 are written IV, IX, XL, XC, CD and CM.",
                "IV IX XL XC CD CM",
                _table(_PAIRS),
            ),
            Option(
                "plain",
                "No letter is ever subtracted: 4 is IIII and 9 is VIIII.",
                "4 is IIII",
                _table(()),
            ),
        ),
        "zero": (
            Option("empty", "0 gives the empty string.", "0 empty", '""'),
            Option("digit", "0 gives the digit 0 as text.", "0 as '0'", '"0"'),
        ),
        "negative": (
            Option(
                "minus",
                "A negative number gets a minus sign before the numeral of its absolute value.",
                "minus sign",
                'sign = "-" if number < 0 else ""\nnumber = abs(number)',
            ),
            Option(
                "empty",
                "A negative number gives the empty string.",
                "negative empty",
                'sign = ""\nif number < 0:\n    return ""',
            ),
            Option(
                "size",
                "A negative number is written like its absolute value.",
                "negative as abs",
                'sign = ""\nnumber = abs(number)',
            ),
        ),
        "limit": numbers(
            (399, 999, 3999),
            "If the absolute value exceeds {n} and the rules so far give no other result, the "
            "result is a question mark.",
            "over {n} '?'",
        ),
        "case": (
            Option("upper", "", "", "sign + out"),
            Option("lower", "Letters are in lower case.", "lower case", "(sign + out).lower()"),
        ),
    },
    template="""
def <entry>(number):
    <negative>
    if number == 0:
        return <zero>
    if number > <limit>:
        return "?"
    <style>
    out = ""
    for letters, value in table:
        out += letters * (number // value)
        number %= value
    return <case>
""",
    inputs=_roman_inputs,
)


def _digits_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    base = int(picks["base"])
    exact = (base, base - 1, base**2, base**3 - 1, base**2 + 1, 2 * base + 1)
    fixed = (0, 1, -1, 7, 10, 99, 100, 101, 909, -42, -305, 123456789, 10**15 + 7)
    return [(n,) for n in (*ints(rng, 5, 50, 9999), *fixed, *exact, *(-n for n in exact))]


_ROOT = """total = sum(digits)
while total >= <base>:
    rest, total = total, 0
    while rest:
        total += rest % <base>
        rest //= <base>"""

DIGITS = Family(
    name="digits",
    level="easy",
    entries=("digit_sum", "checksum", "digit_score"),
    arguments="number: int",
    returns="int",
    purpose="Compute a number from the digits of a whole number.",
    brief="from the digits",
    rules={
        "base": numbers((3, 5, 7, 8, 10, 16), "The digits are those of base {n}.", "base {n}"),
        "mode": (
            Option("sum", "The result is the sum of the digits.", "sum", "total = sum(digits)"),
            Option(
                "left",
                "Beginning with the most significant digit, digits are added and subtracted in "
                "turn, the first one added.",
                "alternate + - from the left",
                "total = sum(d if i % 2 == 0 else -d for i, d in enumerate(reversed(digits)))",
            ),
            Option(
                "right",
                "Beginning with the least significant digit, digits are added and subtracted in "
                "turn, the first one added.",
                "alternate + - from the right",
                "total = sum(d if i % 2 == 0 else -d for i, d in enumerate(digits))",
            ),
            Option(
                "root",
                "The sum of the digits is taken again and again until a single digit is left.",
                "repeated sum to one digit",
                _ROOT,
            ),
            Option(
                "product",
                "The result is the product of the digits that are not 0, and 0 if there is none.",
                "product of nonzero digits , none 0",
                "total = int(bool(digits))\nfor d in digits:\n    total *= d or 1",
            ),
        ),
        "negative": (
            Option("size", "The sign of the number does not matter.", "sign ignored", "sign = 1"),
            Option(
                "sign",
                "For a negative number the result of its absolute value is taken with the "
                "opposite sign.",
                "negative gives negative",
                "sign = -1 if number < 0 else 1",
            ),
            Option(
                "zero",
                "A negative number gives 0.",
                "negative 0",
                "sign = 0 if number < 0 else 1",
            ),
        ),
    },
    template="""
def <entry>(number):
    <negative>
    number = abs(number)
    digits = []
    while number:
        digits.append(number % <base>)
        number //= <base>
    <mode>
    return sign * total
""",
    inputs=_digits_inputs,
)


def _rank_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    def some(size: int) -> list[int | None]:
        return [None if n == 6 else n - 2 for n in ints(rng, size, 0, 6)]

    calls: list[tuple[Any, ...]] = [([30, 10, 20, 10, None, 30],), (some(6),), (some(8),)]
    calls += [(some(10),), ([],), ([5],), ([None],), ([None, None],), ([0],), ([0, None],)]
    calls += [([7, 7, 7],), ([1, 2, 3, 4],), ([4, 3, 2, 1],), ([-1, None, 0, 1],), ([-5, -5, -1],)]
    return [*calls, ([2, 2, 1, 1, 1, 3, 3],), ([-2, 0, None, 0],), (some(120),)]


RANK = Family(
    name="rank",
    level="easy",
    entries=("ranking", "places", "rank_scores"),
    arguments="scores: list[int | None]",
    returns="list[int | None]",
    purpose="Return the rank of each score, in the order of the list.",
    brief="rank of each score",
    rules={
        "order": (
            Option("high", "The highest score comes first.", "highest first", ">"),
            Option("low", "The lowest score comes first.", "lowest first", "<"),
        ),
        "method": (
            Option(
                "dense",
                "Equal scores share a rank and the next score gets the next rank, without gaps.",
                "ties share , no gaps",
                "len({t for t in real if t <order> s})",
            ),
            Option(
                "competition",
                "Equal scores share the best of their places and the places after it stay empty "
                "(like 1, 2, 2, 4).",
                "ties share best place , gaps",
                "len([t for t in real if t <order> s])",
            ),
            Option(
                "modified",
                "Equal scores share the worst of their places (like 1, 3, 3, 4).",
                "ties share worst place",
                "len([t for t in real if t <order> s]) + real.count(s) - 1",
            ),
            Option(
                "ordinal",
                "Of equal scores the earlier one in the list gets the better rank; no rank is "
                "shared.",
                "ties by position",
                "len([t for t in real if t <order> s]) + values[:i].count(s)",
            ),
        ),
        "start": numbers((0, 1, 100), "The best rank is {n}.", "best is {n}"),
        "none": (
            Option(
                "none",
                "None gets no rank: its place holds None.",
                "None stays",
                "None",
                {"values": "scores"},
            ),
            Option(
                "minus",
                "None gets no rank: its place holds -1.",
                "None is -1",
                "-1",
                {"values": "scores"},
            ),
            Option(
                "zero",
                "None counts as a score of 0.",
                "None is score 0",
                "None",
                {"values": "[0 if s is None else s for s in scores]"},
            ),
        ),
    },
    template="""
def <entry>(scores):
    values = <values>
    real = [s for s in values if s is not None]
    out = []
    for i, s in enumerate(values):
        if s is None:
            out.append(<none>)
        else:
            out.append(<start> + <method>)
    return out
""",
    inputs=_rank_inputs,
)


def _flatten_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    a, b, c, d, e = ints(rng, 5, 0, 9)
    nested: list[Any] = [a, [b, [c, [d, [e]]]]]
    calls: list[Any] = [[a, [b, c], [[d], e]], nested, [[[[a]]], [[b]], [c]], [[a, b], [c, [d, e]]]]
    calls += [[], [[]], [[[]]], [[], [[]], a], [[[[[[]]]]]], [a], [[a]], [None], [[None, a], None]]
    calls += [[(a, b), [c, (d, e)]], ((a,), [b]), [(), a, ((),)], [[(a, [b, (c,)])]]]
    calls += [[a, a, [a, [a]]], [[a, b], [b, a]], [[1, 2], 3, [2, 1], 3, [1]], ["ab", ["cd", [""]]]]
    return [(x,) for x in [*calls, [[[i % 7, [i]] for i in range(60)]]]]


FLATTEN = Family(
    name="flatten",
    level="easy",
    entries=("flatten", "unnest", "open_up"),
    arguments="items: list",
    returns="list",
    purpose="Return a flat list of the elements of a nested list, in order. Strings are elements, "
    "never lists.",
    brief="flatten nested list",
    rules={
        "depth": (
            *numbers(
                (1, 2, 3),
                "At most {n} levels are opened; what is nested deeper stays as it is.",
                "{n} levels",
                "< {n}",
            ),
            Option("all", "Every level is opened.", "all levels", ">= 0"),
        ),
        "kinds": (
            Option("list", "Tuples are elements and stay as they are.", "tuples stay", "list"),
            Option("tuple", "Tuples are opened like lists.", "tuples too", "(list, tuple)"),
        ),
        "hollow": (
            Option("nothing", "An inner list that is opened and empty leaves nothing."),
            Option(
                "zero",
                "An inner list (or other part) that is opened and empty becomes the number 0.",
                "empty inner is 0",
                "if not x:\n    out.append(0)",
            ),
        ),
        "none": (
            Option("keep", "None is an element like any other.", "", "else"),
            Option("drop", "An element None is left out.", "drop None", "elif x is not None"),
        ),
        "repeats": (
            Option("all", "", ""),
            Option(
                "first",
                "Of equal elements of the result only the first stays.",
                "keep first of equal",
                "out = [x for i, x in enumerate(out) if x not in out[:i]]",
            ),
            Option(
                "last",
                "Of equal elements of the result only the last stays.",
                "keep last of equal",
                "out = [x for i, x in enumerate(out) if x not in out[i + 1:]]",
            ),
        ),
    },
    template="""
def <entry>(items):
    out = []

    def walk(part, level):
        for x in part:
            if isinstance(x, <kinds>) and level <depth>:
                <hollow>
                walk(x, level + 1)
            <none>:
                out.append(x)

    walk(items, 0)
    <repeats>
    return out
""",
    inputs=_flatten_inputs,
)

LIST_FAMILIES = (ROTATE, KTH, BOUNDED, CHUNK, WINDOW, ROMAN, DIGITS, RANK, FLATTEN)
