"""Families whose rules interact: intervals, dates, expressions, caches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from resd_envs.python_functions.family import Family, Option, Picks, ints, letters, numbers

_Calls = Sequence[tuple[Any, ...]]


def _interval_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    def some(count: int) -> list[list[int]]:
        starts, sizes = ints(rng, count, -20, 40), ints(rng, count, -1, 8)
        return [[a, a + size] for a, size in zip(starts, sizes, strict=True)]

    calls: list[Any] = [[[1, 4], [8, 10], [3, 6]], some(3), some(4), some(6), some(8)]
    calls += [
        [],
        [[3, 5]],
        [[4, 4]],
        [[5, 3]],
        [[1, 9], [3, 4]],
        [[1, 3], [3, 5]],
        [[3, 5], [1, 3]],
    ]
    calls += [[[1, 3], [3 + gap, 9 + gap]] for gap in (1, 2, 3, 4, 5, 6)]
    calls += [
        [[2, 2], [2, 2]],
        [[1, 2], [5, 4]],
        [[-5, -1], [-1, 0]],
        [[1, 2], [1, 2]],
        [[0, 0], [0, 3]],
    ]
    calls += [
        [[6, 1], [2, 3]],
        [[10, 12], [1, 2], [5, 6]],
        [[1, 5], [3, 3], [5, 5]],
        [[1, 3], [3, 3]],
    ]
    calls += [[[1, 2], [12, 12], [22, 23]], [[1, 2], [40, 30], [22, 23]]]
    return [(x,) for x in [*calls, [[3 * i, 3 * i + 1 + i % 4] for i in range(150)]]]


INTERVALS = Family(
    name="intervals",
    level="hard",
    entries=("merge_spans", "join_ranges", "combine"),
    arguments="intervals: list[list[int]]",
    returns="list[list[int]] | int | None",
    purpose="Join intervals [start, end]. They are taken in the order of start and then end; each "
    "is joined to the joined interval before it if the rule below allows, which then reaches to "
    "the larger of both ends.",
    brief="join intervals",
    rules={
        "reach": (
            Option(
                "overlap",
                "An interval is joined if it starts before the end of the one before.",
                "join if start < end",
                "< 0",
            ),
            Option(
                "touch",
                "An interval is joined if it starts before or at the end of the one before.",
                "join if start <= end",
                "<= 0",
            ),
            *numbers(
                (1, 2, 4, 5),
                "An interval is joined if it starts at most {n} after the end of the one before.",
                "join if start - end <= {n}",
                "<= {n}",
            ),
        ),
        "reversed": (
            Option(
                "swap",
                "Where the start is larger than the end, the two are swapped.",
                "reversed swap",
                "a, b = b, a",
            ),
            Option(
                "drop",
                "An interval whose start is larger than its end is left out.",
                "reversed dropped",
                "continue",
            ),
            Option(
                "none",
                "If the start of any interval is larger than its end, the result is None.",
                "reversed None",
                "return None",
            ),
        ),
        "points": (
            Option("keep", "Start and end may be equal."),
            Option(
                "drop",
                "An interval whose start equals its end is left out before anything is joined.",
                "drop points",
                "if a == b:\n    continue",
            ),
        ),
        "output": (
            Option("list", "Return the joined intervals in order.", "return intervals", "joined"),
            Option(
                "count",
                "Return how many joined intervals there are.",
                "return how many",
                "len(joined)",
            ),
            Option(
                "gaps",
                "Return the gaps between joined neighbours as [end of one, start of the next].",
                "return gaps",
                "[[p[1], q[0]] for p, q in zip(joined, joined[1:])]",
            ),
        ),
    },
    template="""
def <entry>(intervals):
    clean = []
    for a, b in intervals:
        if a > b:
            <reversed>
        <points>
        clean.append([a, b])
    joined = []
    for a, b in sorted(clean):
        if joined and a - joined[-1][1] <reach>:
            joined[-1][1] = max(joined[-1][1], b)
        else:
            joined.append([a, b])
    return <output>
""",
    inputs=_interval_inputs,
)


def _date_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    def written(year: int, month: int, day: int) -> str:
        parts = {"ymd": "{0:04}-{1:02}-{2:02}", "dmy": "{2:02}/{1:02}/{0:04}"}
        return parts.get(picks["format"], "{1:02}/{2:02}/{0:04}").format(year, month, day)

    def some() -> str:
        return written(*(ints(rng, 1, *ends)[0] for ends in ((1990, 2040), (1, 12), (1, 28))))

    new_year, leap = written(2024, 1, 1), written(2024, 2, 29)
    calls = [
        (written(2024, 3, 1), written(2024, 3, 15)),
        (leap, written(2024, 3, 1)),
        (some(), some()),
    ]
    calls += [(some(), some()), (new_year, new_year), (written(2024, 1, 6), written(2024, 1, 6))]
    calls += [(written(2023, 2, 28), written(2023, 3, 1)), (written(2023, 12, 31), new_year)]
    calls += [
        (new_year, written(2023, 12, 31)),
        (written(2024, 1, 8), new_year),
        (leap, written(2023, 2, 29)),
    ]
    calls += [
        (written(2023, 13, 1), leap),
        (leap, ""),
        ("tomorrow", leap),
        (written(1900, 2, 29), leap),
    ]
    calls += [
        (written(2000, 2, 29), written(2000, 3, 1)),
        (written(2024, 4, 31), leap),
        (leap, leap + " "),
    ]
    calls += [
        (written(2024, 1, 6), written(2024, 1, 7)),
        (written(2024, 1, 5), written(2024, 1, 8)),
    ]
    return [*calls, (written(2021, 11, 30), written(2025, 6, 30)), (written(2024, 0, 1), leap)]


DATES = Family(
    name="dates",
    level="hard",
    entries=("days_between", "count_days", "day_span"),
    arguments="first: str, second: str",
    returns="int | None",
    purpose="Count days between two dates of the Gregorian calendar.",
    brief="days between dates",
    rules={
        "format": (
            Option("ymd", "Dates are written like 2024-03-09.", "year-month-day", '"%Y-%m-%d"'),
            Option(
                "dmy",
                "Dates are written like 31/12/2024, the day first.",
                "day/month/year",
                '"%d/%m/%Y"',
            ),
            Option(
                "mdy",
                "Dates are written like 12/31/2024, the month first.",
                "month/day/year",
                '"%m/%d/%Y"',
            ),
        ),
        "count": (
            Option("all", "All days count.", "all days", "len(days)"),
            Option(
                "work",
                "Only Monday to Friday count.",
                "Monday to Friday",
                "sum(d.weekday() < 5 for d in days)",
            ),
            Option(
                "weekend",
                "Only Saturdays and Sundays count.",
                "Saturday and Sunday",
                "sum(d.weekday() >= 5 for d in days)",
            ),
        ),
        "ends": (
            Option(
                "after",
                "The days after the earlier date up to the later one, the later one included, are "
                "counted.",
                "earlier date not counted",
                "1",
            ),
            Option(
                "both",
                "Both dates and the days between them are counted; a date together with itself is "
                "one day.",
                "both dates counted",
                "0",
            ),
        ),
        "order": (
            Option("any", "The order of the two dates does not matter.", "order ignored", "1"),
            Option(
                "signed",
                "If the second date is the earlier one, the count gets a minus sign.",
                "second earlier gives minus",
                "-1",
            ),
        ),
        "bad": (
            Option("none", "If a text is no such date, return None.", "else None", "None"),
            Option("zero", "If a text is no such date, return 0.", "else 0", "0"),
        ),
    },
    template="""
from datetime import datetime, timedelta

def <entry>(first, second):
    try:
        a, b = (datetime.strptime(text, <format>) for text in (first, second))
    except ValueError:
        return <bad>
    sign = 1
    if b < a:
        a, b, sign = b, a, <order>
    days = [a + timedelta(days=i) for i in range(<ends>, (b - a).days + 1)]
    return sign * <count>
""",
    inputs=_date_inputs,
)


_EXPRESSIONS = (
    "7",
    "0",
    "1-2-3",
    "8/4/2",
    "(1-8)/2",
    "(3-10)/4",
    "7/2*2",
    "2*3+4",
    "10-2*3",
    "4-6/4",
    "2^3^2",
    "2*2^3",
    "2^2*3",
    "1+2^2",
    "(0-2)^3",
    "2^(0-1)",
    "0^0",
    "5/0",
    "1+4/(2-2)",
    "0/5",
    "",
    " ",
    "1 + 2",
    "( 4 )",
    "1 2",
    "12 - 10",
    "+",
    "1+",
    "*2",
    "(1",
    "1)",
    "()",
    "((5))",
    "-3",
    "2--1",
    "a",
    "1.5",
    "2(3)",
    "1+2)",
    "007",
    "100*100*100",
    "2*(3+(4-1))",
    "9-(2-(3-4))",
)
"""Signs, order and associativity; powers and zero; blanks and broken forms; odd ones."""


def _expression_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    def some(operators: str, count: int) -> str:
        terms = [f"{n}" for n in ints(rng, count + 1, 1, 9)]
        return terms[0] + "".join(letters(rng, 1, operators) + term for term in terms[1:])

    texts = [
        "2+3*4",
        some("+-", 3),
        some("+-*", 3),
        some("*/", 3),
        some("+-*/", 4),
        some("+-*/", 6),
    ]
    return [(text,) for text in [*texts, *_EXPRESSIONS, "+".join(["1"] * 60)]]


EXPRESSION = Family(
    name="expression",
    level="hard",
    entries=("evaluate", "calculate", "compute"),
    arguments="text: str",
    returns="int | None",
    purpose="Evaluate an expression of whole numbers (digits 0 to 9), the operators below and "
    "parentheses. There are no signs before a number. Whatever is not such an expression gives "
    "None.",
    brief="evaluate expression , malformed None",
    rules={
        "level": (
            Option(
                "usual",
                "* and / bind tighter than + and -.",
                "usual precedence",
                '{"+": 1, "-": 1, "*": 2, "/": 2}',
            ),
            Option(
                "flat",
                "+ - * / all bind equally tight.",
                "+ - * / equal",
                '{"+": 1, "-": 1, "*": 1, "/": 1}',
            ),
            Option(
                "sums",
                "+ and - bind tighter than * and /.",
                "+ - before * /",
                '{"+": 2, "-": 2, "*": 1, "/": 1}',
            ),
        ),
        "division": (
            Option("floor", "/ rounds its result down.", "/ floors", "return a // b"),
            Option(
                "zero",
                "/ rounds its result towards zero.",
                "/ towards zero",
                "q = abs(a) // abs(b)\nreturn q if (a < 0) == (b < 0) else -q",
            ),
        ),
        "power": (
            Option("none", "There is no operator ^.", "no ^", "", {"lean": "1"}),
            Option(
                "right",
                "^ is the power, binds tightest and groups from the right. All other operators "
                "group from the left. A negative exponent counts as a division by zero.",
                "^ groups right",
                'level["^"] = 3',
                {"lean": '(operator != "^")'},
            ),
            Option(
                "left",
                "^ is the power and binds tightest. All operators group from the left. A negative "
                "exponent counts as a division by zero.",
                "^ groups left",
                'level["^"] = 3',
                {"lean": "1"},
            ),
        ),
        "blanks": (
            Option(
                "skip",
                "Blanks are removed before anything else.",
                "blanks removed",
                'text = text.replace(" ", "")',
            ),
            Option("wrong", "Blanks are not allowed.", "no blanks"),
        ),
        "crash": (
            Option(
                "none", "An expression that divides by zero gives None.", "x / 0 : None", "None"
            ),
            Option("zero", "An expression that divides by zero gives 0.", "x / 0 : 0", "0"),
        ),
    },
    template="""
import re

def <entry>(text):
    <blanks>
    tokens = re.findall("[0-9]+|.", text, re.DOTALL)
    level = <level>
    <power>
    at = 0

    def divide(a, b):
        if b == 0:
            raise ZeroDivisionError
        <division>

    def apply(operator, a, b):
        if operator == "+":
            return a + b
        if operator == "-":
            return a - b
        if operator == "*":
            return a * b
        if operator == "/":
            return divide(a, b)
        return a ** b if b >= 0 else divide(a, 0)

    def atom():
        nonlocal at
        token = tokens[at]
        at += 1
        if token == "(":
            value = climb(1)
            if tokens[at] != ")":
                raise ValueError
            at += 1
            return value
        if not "0" <= token[0] <= "9":
            raise ValueError
        return int(token)

    def climb(least):
        nonlocal at
        left = atom()
        while at < len(tokens) and level.get(tokens[at], 0) >= least:
            operator = tokens[at]
            at += 1
            left = apply(operator, left, climb(level[operator] + <lean>))
        return left

    try:
        value = climb(1)
    except ZeroDivisionError:
        return <crash>
    except (ValueError, IndexError):
        return None
    return value if at == len(tokens) else None
""",
    inputs=_expression_inputs,
)


def _cache_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    room = int(picks["capacity"])

    def some(count: int, keys: int) -> list[list[Any]]:
        which, what = ints(rng, count, 0, keys - 1), ints(rng, count, 0, 2)
        return [
            ["get", "abcdefgh"[k]] if w else ["put", "abcdefgh"[k], n]
            for n, (k, w) in enumerate(zip(which, what, strict=True))
        ]

    puts = [["put", key, n] for n, key in enumerate("abcdefgh"[:room])]
    gets = [["get", key] for key in "abcdefgh"[: room + 1]]
    more = [["put", "z", 9]]
    calls: list[Any] = [[["put", "a", 1], ["get", "a"], ["get", "b"]], [*puts, *more, *gets]]
    calls += [
        [*puts, ["get", "a"], *more, *gets],
        [*puts, ["put", "a", 7], *more, *gets],
        [],
        [["get", "a"]],
    ]
    calls += [
        [*puts, *gets],
        [*puts, *more, ["put", "y", 8], *gets, ["get", "z"]],
        [*puts, ["get", "q"], *more, *gets],
    ]
    calls += [
        [["put", "a", 0], ["get", "a"]],
        [["put", "a", 1], ["put", "a", 2], ["get", "a"]],
        [*puts, *more, ["get", "z"]],
    ]
    calls += [
        [*puts, ["put", "a", 7], ["get", "b"], *more, *gets],
        some(20, room + 1),
        some(30, room + 2),
    ]
    return [(x,) for x in [*calls, some(40, room + 1), some(40, room + 2), some(300, room + 2)]]


CACHE = Family(
    name="cache",
    level="hard",
    entries=("run_cache", "simulate_cache", "replay"),
    arguments="operations: list[list]",
    returns="list | int",
    purpose='Simulate a cache. `["put", key, value]` stores a value, `["get", key]` looks it up '
    "and finds it or misses. Before a new key is put into a full cache, one key is removed. A key "
    "is used when it is put as a new key and when a get finds it.",
    brief="simulate cache of put and get",
    rules={
        "capacity": numbers((2, 3, 4, 5), "The cache has room for {n} keys.", "room {n}"),
        "policy": (
            Option(
                "lru",
                "The key that was not used for the longest time is removed.",
                "remove least recently used",
                "store[key] = store.pop(key)",
                {"victim": "next(iter(store))"},
            ),
            Option(
                "mru",
                "The key that was used last is removed.",
                "remove most recently used",
                "store[key] = store.pop(key)",
                {"victim": "list(store)[-1]"},
            ),
            Option(
                "fifo",
                "A get does not count as a use here: the key with the oldest use is removed.",
                "remove oldest , get is no use",
                "pass",
                {"victim": "next(iter(store))"},
            ),
        ),
        "update": (
            Option(
                "use",
                "A put of a key that is in the cache replaces its value and counts as a use.",
                "update is a use",
                "store.pop(key)",
            ),
            Option(
                "quiet",
                "A put of a key that is in the cache replaces its value and does not count as a "
                "use.",
                "update is no use",
                "pass",
            ),
        ),
        "result": (
            Option(
                "none",
                "Return the results of all gets in order, None for a miss.",
                "return gets , miss None",
                "results",
                {"miss": "None"},
            ),
            Option(
                "minus",
                "Return the results of all gets in order, -1 for a miss.",
                "return gets , miss -1",
                "results",
                {"miss": "-1"},
            ),
            Option(
                "count",
                "Return how many gets missed.",
                "return number of misses",
                "results.count(None)",
                {"miss": "None"},
            ),
        ),
    },
    template="""
def <entry>(operations):
    store, results = {}, []
    for name, key, *value in operations:
        if name == "get":
            results.append(store.get(key, <miss>))
            if key in store:
                <policy>
            continue
        if key in store:
            <update>
        elif len(store) == <capacity>:
            store.pop(<victim>)
        store[key] = value[0]
    return <result>
""",
    inputs=_cache_inputs,
)

RULE_FAMILIES = (INTERVALS, DATES, EXPRESSION, CACHE)
