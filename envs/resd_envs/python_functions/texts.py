"""Families about text: run lengths, brackets, words, anagrams, durations, CSV lines, wrapping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from resd_envs.python_functions.family import Family, Option, Picks, ints, letters, numbers

_Calls = Sequence[tuple[Any, ...]]


def _runs_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    texts = [letters(rng, size, "aAbB ") for size in (9, 12, 15)]
    texts += ["aaabccdddd", "", "a", "aa", "aaa", "abc", "aaaa", "aaaaa", "b" * 6, "c" * 7]
    texts += ["x" * 9, "y" * 10, "z" * 23, "aAaA", "AAbbBB", "Aaaaaaaa", "11222", "  \t\t", "ééÉ"]
    texts += ["🌍🌍🌍x", "\n\n\n\n", "aabaab", "q" * 1000]
    return [(text,) for text in texts]


RUN_LENGTH = Family(
    name="run_length",
    level="easy",
    entries=("encode_runs", "compress", "squeeze"),
    arguments="text: str",
    returns="str",
    purpose="Encode a text by its runs. A run is a stretch of equal neighbouring characters.",
    brief="run length code",
    rules={
        "form": (
            Option(
                "after",
                "An encoded run is its character and then its length, like `a3`.",
                "like a3",
                "c + str(n)",
            ),
            Option(
                "before",
                "An encoded run is its length and then its character, like `3a`.",
                "like 3a",
                "str(n) + c",
            ),
            Option(
                "round",
                "An encoded run is its character and then its length in parentheses, like `a(3)`.",
                "like a(3)",
                'c + "(" + str(n) + ")"',
            ),
        ),
        "least": (
            Option("1", "Every run is encoded, one of a single character too.", "every run", "1"),
            *numbers(
                (2, 3),
                "Runs of fewer than {n} characters are written out as they are, without a length.",
                "runs under {n} as they are",
            ),
        ),
        "cap": (
            Option("no", "A run may have any length."),
            *numbers(
                (4, 6, 9),
                "A stretch of more than {n} equal characters is taken as several runs, from the "
                "left {n} characters each and the rest.",
                "split runs after {n}",
                " and runs[-1][1] < {n}",
            ),
        ),
        "case": (
            Option("exact", "Upper and lower case differ.", "", "runs[-1][0] == c"),
            Option(
                "fold",
                "Letters that differ in case alone count as equal; a run is written with its first "
                "character.",
                "case ignored , first character counts",
                "runs[-1][0].lower() == c.lower()",
            ),
        ),
    },
    template="""
def <entry>(text):
    runs = []
    for c in text:
        if runs and <case><cap>:
            runs[-1][1] += 1
        else:
            runs.append([c, 1])
    return "".join(<form> if n >= <least> else c * n for c, n in runs)
""",
    inputs=_runs_inputs,
)


def _bracket_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    kinds = picks["pairs"]
    opening, closing = kinds[::2], kinds[1::2]
    o, c, p, q = opening[0], closing[0], opening[1], closing[1]
    texts = [f"{o}x{c}{p}{q}", "", o, c, o + c, c + o, o + q, o + p + q + c, o + p + c + q]
    texts += [o * 2 + c * 2, o * 3 + c * 3, o * 4 + c * 4, o + c * 2, o * 2 + c, (o + c) * 3]
    texts += [
        "abc",
        f"a{o}b{c}",
        f'"{o}"',
        f'{o}"{c}"{c}',
        f'"{o}',
        f'{o}{c}"',
        '""',
        "(",
        ">",
        "{]",
    ]
    texts += [f"{o}{p}{q}{o}{c}{c}", f"{o}é🌍{c}", (o + c) * 400, f"{p}{o}{c}{p}{o}{c}{q}{q}"]
    texts += ["{", "a[b", "x}", "y]", "<", "a>b", "{x}", "[]", "<()>", "{}", "<>", "([])"]
    texts += [letters(rng, size, o + c + p + q) for size in (2, 4, 4, 6)]
    return [(text,) for text in texts]


def _closing(kinds: str) -> str:
    pairs = ", ".join(f'"{kinds[i + 1]}": "{kinds[i]}"' for i in range(0, len(kinds), 2))
    return "{" + pairs + "}"


BRACKETS = Family(
    name="brackets",
    level="easy",
    entries=("balanced", "check_brackets", "well_nested"),
    arguments="text: str",
    returns="bool | int",
    purpose="Check whether the brackets of a text are balanced: each closing one closes the latest "
    "open one, of the same kind, and none stays open.",
    brief="balanced brackets",
    rules={
        "pairs": tuple(
            Option(
                kinds, f"The brackets are {' '.join(kinds)} and no others.", kinds, _closing(kinds)
            )
            for kinds in ("()[]{}", "()[]", "()<>", "{}[]")
        ),
        "other": (
            Option("ignore", "Any other character is skipped.", "others skipped"),
            Option(
                "reject",
                "Any other character breaks the balance where it stands.",
                "others wrong",
                "else:\n    return <bad>",
            ),
        ),
        "depth": (
            Option("any", "Brackets may be nested as deep as you like."),
            *numbers(
                (2, 3),
                "An opening bracket that makes more than {n} brackets open at once breaks the "
                "balance where it stands.",
                "depth at most {n}",
                "if len(stack) > {n}:\n    return <bad>",
            ),
        ),
        "quotes": (
            Option("plain", 'A quotation mark (") is a character like any other.'),
            Option(
                "skip",
                'Everything from a quotation mark (") to the next one is skipped, the marks '
                "included; a mark that is never followed by another hides the rest.",
                'skip inside "',
                "if c == '\"':\n    quoted = not quoted\n    continue\nif quoted:\n    continue",
            ),
        ),
        "result": (
            Option(
                "bool",
                "Return True or False.",
                "True or False",
                "",
                {"bad": "False", "end": "not stack"},
            ),
            Option(
                "place",
                "Return -1 for a balanced text, else the index of the first character that breaks "
                "the balance, and the length of the text if none does but a bracket stays open.",
                "-1 or index of the error , length if open",
                "",
                {"bad": "i", "end": "len(text) if stack else -1"},
            ),
        ),
    },
    template="""
def <entry>(text):
    opener = <pairs>
    stack, quoted = [], False
    for i, c in enumerate(text):
        <quotes>
        if c in opener.values():
            stack.append(c)
            <depth>
        elif c in opener:
            if not stack or stack.pop() != opener[c]:
                return <bad>
        <other>
    return <end>
""",
    inputs=_bracket_inputs,
)


def _words_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    pool = ["tea", "Tea", "oak", "ab", "x", "b2", "été", "sun"]
    texts = [" ".join(pool[i] for i in ints(rng, size, 0, 7)) for size in (7, 9, 12, 15)]
    texts += ["", "   ", "x", "one", "Two two TWO", "b a b a", "c b a", "c b a c b a d", "a-b a b"]
    texts += [
        "don't, don't stop",
        "x1 x1 x y y",
        "no\nyes\tno",
        "ÉTÉ été",
        "a a a b b c",
        "1 22 333",
    ]
    texts += ["zoo ant zoo ant bee", "Ant ant bee", "end. End, END!", "_a_ _a_ a", "ab b abc b abc"]
    texts += ["bee ant cat ant bee cat", "zoo ant mid zoo mid ant"]
    return [(text,) for text in [*texts, "dog cat " * 150 + "cat"]]


TOP_WORDS = Family(
    name="top_words",
    level="easy",
    entries=("top_words", "most_used", "frequent"),
    arguments="text: str",
    returns="list[str]",
    purpose="Return the most frequent words of a text, the most frequent first.",
    brief="most frequent words",
    rules={
        "top": numbers((1, 2, 3, 5), "Return at most {n} words.", "top {n}"),
        "ties": (
            Option(
                "alphabet",
                "Of equally frequent words the one that is smaller as a Python string comes first.",
                "ties smaller string first",
                "ranked = sorted(count, key=lambda w: (-count[w], w))",
            ),
            Option(
                "reverse",
                "Of equally frequent words the one that is larger as a Python string comes first.",
                "ties larger string first",
                "ranked = sorted(count, key=lambda w: (count[w], w), reverse=True)",
            ),
            Option(
                "first",
                "Of equally frequent words the one that appears first comes first.",
                "ties first seen first",
                "ranked = sorted(count, key=lambda w: (-count[w], first[w]))",
            ),
            Option(
                "last",
                "Of equally frequent words the one whose last appearance is latest comes first.",
                "ties last seen first",
                "ranked = sorted(count, key=lambda w: (-count[w], -last[w]))",
            ),
        ),
        "case": (
            Option("exact", "Words that differ in case are different."),
            Option(
                "fold",
                "The text is put in lower case first.",
                "lower case",
                "text = text.lower()",
            ),
        ),
        "words": (
            Option(
                "blank",
                "Words are separated by white space; punctuation belongs to them.",
                "split on white space",
                "text.split()",
            ),
            Option(
                "letters",
                "A word is a longest stretch of letters (of any alphabet); everything else "
                "separates words.",
                "only letters",
                r're.findall(r"[^\W\d_]+", text)',
            ),
            Option(
                "alnum",
                "A word is a longest stretch of letters (of any alphabet) and digits; everything "
                "else, the underscore too, separates words.",
                "letters and digits",
                r're.findall(r"[^\W_]+", text)',
            ),
        ),
        "least": (
            Option("1", "Words of any length count.", "", "1"),
            *numbers(
                (2, 3), "Words of fewer than {n} characters do not count.", "at least {n} long"
            ),
        ),
    },
    template="""
import re

def <entry>(text):
    <case>
    words = [w for w in <words> if len(w) >= <least>]
    count, first, last = {}, {}, {}
    for i, w in enumerate(words):
        count[w] = count.get(w, 0) + 1
        first.setdefault(w, i)
        last[w] = i
    <ties>
    return ranked[:<top>]
""",
    inputs=_words_inputs,
)


def _anagram_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    pool = ["tea", "eat", "Ate", "ab", "ba", "b a", "cab", "", "a b", "eat", "BA", "dog", "God"]
    calls = [[pool[i] for i in ints(rng, size, 0, 12)] for size in (7, 8, 10, 12)]
    calls += [
        [],
        ["one"],
        ["", ""],
        ["", " "],
        ["ab", "ba"],
        ["ba", "ab", "ab"],
        ["ab", "BA", "Ba"],
    ]
    calls += [["dog", "tea", "god", "eat", "ate"], ["tea", "dog", "eat", "god", "x"], ["z", "a"]]
    calls += [["a b", "ab ", "ba"], ["ab", "aab", "abb"], ["é", "É", "e"], ["x", "x", "x"]]
    calls += [["ba", "dc", "cd", "ab", "abc", "cab"], ["no", "on", "no", "on"]]
    calls += [["dog", "tea", "eat", "god", "ate", "ogd", "aet", "bca", "abc", "cab"]]
    return [(words,) for words in [*calls, [letters(rng, 2, "abc") for _ in range(80)]]]


ANAGRAMS = Family(
    name="anagrams",
    level="easy",
    entries=("group_anagrams", "same_letters", "anagram_groups"),
    arguments="words: list[str]",
    returns="list[list[str]]",
    purpose="Group the strings of a list that consist of the same characters, each as often.",
    brief="group anagrams",
    rules={
        "repeats": (
            Option("keep", "A string that occurs several times is kept as often."),
            Option(
                "once",
                "Of equal strings only the first is kept, before grouping.",
                "drop equal strings",
                "words = list(dict.fromkeys(words))",
            ),
        ),
        "case": (
            Option("exact", "Upper and lower case differ.", "", "w"),
            Option("fold", "Case does not matter.", "case ignored", "w.lower()"),
        ),
        "blanks": (
            Option("count", "A blank is a character like any other.", "", "<case>"),
            Option(
                "skip",
                "Blanks do not matter, but stay in the strings.",
                "blanks ignored",
                '<case>.replace(" ", "")',
            ),
        ),
        "least": (
            Option("1", "A string without a partner is a group by itself.", "", "1"),
            *numbers(
                (2, 3), "Groups of fewer than {n} strings are left out.", "groups of {n} or more"
            ),
        ),
        "inside": (
            Option("given", "In a group the strings stay in the order of the list.", "", "g"),
            Option(
                "sorted",
                "In a group the strings are sorted as Python strings.",
                "sort inside",
                "sorted(g)",
            ),
        ),
        "order": (
            Option("seen", "Groups come in the order of their first string in the list."),
            Option(
                "size",
                "Larger groups come first; groups of equal size in the order in which their first "
                "strings stand in the list.",
                "larger groups first",
                "found.sort(key=len, reverse=True)",
            ),
            Option(
                "word",
                "Groups are sorted by the string that comes first in them, after their own order "
                "is made.",
                "sort groups by first",
                "found.sort(key=lambda g: g[0])",
            ),
        ),
    },
    template="""
def <entry>(words):
    <repeats>
    groups = {}
    for w in words:
        groups.setdefault("".join(sorted(<blanks>)), []).append(w)
    found = [<inside> for g in groups.values() if len(g) >= <least>]
    <order>
    return found
""",
    inputs=_anagram_inputs,
)


def _duration_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    a, b, c = ints(rng, 3, 1, 59)
    texts = [
        f"{a}h{b}m",
        f"{a}h{b}m{c}s",
        f"{c}s{b}m",
        f"{a}h {b}m",
        f"{a}h  {b}m {c}s",
        "1d",
        "2w1d",
    ]
    texts += [
        "",
        " ",
        "0",
        "7",
        "90",
        "0s",
        "s",
        "5x",
        "5h5",
        "m5",
        "1h1h",
        "2m1m30s",
        "1s1s",
        "1h 1h",
    ]
    texts += [
        " 1h",
        "1h ",
        "1 h",
        "-1h",
        "1.5h",
        "1H",
        "007m",
        "90m",
        "100h",
        "1h,2m",
        "h m",
        "3d4h",
    ]
    texts += ["٣m", "5", "1d1h1m1s", "1m1h1m", "1s 1m 1h", "1h\t2m", "999999999s"]
    return [(text,) for text in texts]


_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_WORDS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def _units(known: str) -> Option:
    table = "{" + ", ".join(f'"{u}": {_SECONDS[u]}' for u in known) + "}"
    text = "The units are " + ", ".join(f"{u} ({_WORDS[u]})" for u in known) + ", in lower case."
    return Option(known, text, " ".join(known), table, {"known": known})


DURATION = Family(
    name="duration",
    level="hard",
    entries=("parse_duration", "to_seconds", "read_span"),
    arguments="text: str",
    returns="int | None",
    purpose="Read a duration such as `2h5m`: one or more parts, each of them a whole number "
    "(digits 0 to 9, leading zeros allowed) and right after it a unit. Return its "
    "length in seconds.",
    brief="duration like 2h5m in seconds",
    rules={
        "units": (_units("hms"), _units("dhms"), _units("wdhms")),
        "blanks": (
            Option("none", "Blanks are not allowed anywhere.", "no blanks", ""),
            Option(
                "between",
                "Between two parts there may be any number of blanks (the character U+0020), and "
                "nowhere else.",
                "blanks between parts",
                " *",
            ),
        ),
        "order": (
            Option("any", "Parts may come in any order of units.", "any order"),
            Option(
                "down",
                "A part with a larger unit after one with a smaller unit makes the text invalid.",
                "larger units first",
                "if seen and units[unit] > units[seen[-1]]:\n    return <bad>",
            ),
        ),
        "repeat": (
            Option("sum", "A unit may occur several times; the parts add up.", "repeats add"),
            Option(
                "wrong",
                "A unit that occurs twice makes the text invalid.",
                "repeats invalid",
                "if unit in seen:\n    return <bad>",
            ),
        ),
        "bare": (
            Option("wrong", "A number without a unit makes the text invalid.", "unit needed"),
            *(
                Option(
                    word,
                    "A text that is a single number without a unit and nothing else means so many "
                    f"{word}.",
                    f"bare number {word}",
                    f'if re.fullmatch("[0-9]+", text):\n    return int(text) * {factor}',
                )
                for word, factor in (("seconds", 1), ("minutes", 60))
            ),
        ),
        "bad": (
            Option("none", "Any other text is invalid and gives None.", "else None", "None"),
            Option("minus", "Any other text is invalid and gives -1.", "else -1", "-1"),
        ),
    },
    template="""
import re

def <entry>(text):
    units = <units>
    <bare>
    if not re.fullmatch("[0-9]+[<known>](<blanks>[0-9]+[<known>])*", text):
        return <bad>
    total, seen = 0, []
    for number, unit in re.findall("([0-9]+)([a-z])", text):
        <repeat>
        <order>
        seen.append(unit)
        total += int(number) * units[unit]
    return total
""",
    inputs=_duration_inputs,
)


def _csv_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    d, q = picks["delimiter"], picks["quote"]
    texts = [
        f"ab{d}cd{d}e",
        "",
        d,
        d + d,
        "one",
        f"{q}a{d}b{q}{d}c",
        f" a {d} b",
        f"{q} a {q}{d} b ",
    ]
    texts += [q, q * 2, q * 3, q * 4, f"a{q}b", f"{q}a{q * 2}b{q}{d}c", f"{q}a\\{q}b{q}{d}c"]
    texts += [
        f"{q}a\\",
        f"\\{q}a{q}",
        f"a\\b{d}c",
        f"{q}a\\\\{q}{d}b",
        f"x{q}y{d}z{q}w{d}v",
        f"{d}a",
    ]
    texts += [f"a{d}", f"{q}open{d}end", f"{q}{q}{d}{q}{q}", "a,b;c|d\te", f"é🌍{d}{q}ß{d}{q}", " "]
    texts += [letters(rng, size, f"ab{d}{d}{q}{q}\\ ") for size in (6, 8, 10, 12)]
    return [(text,) for text in [*texts, d.join(["x", f"{q}y{d}{q}"] * 100)]]


_NAMES = {",": "comma", ";": "semicolon", "|": "vertical bar", "\t": "tab"}
_MARKS = {'"': 'the double quotation mark (")', "'": "the apostrophe (')"}

CSV = Family(
    name="csv",
    level="hard",
    entries=("split_line", "parse_row", "fields_of"),
    arguments="line: str",
    returns="list[str] | None",
    purpose="Split a line into fields. A quote that stands outside a quoted part opens one, "
    "anywhere in a field; in a quoted part the next quote closes it and separators have no "
    "meaning. Such quotes are not part of the field. The empty line has one field, the empty "
    "string.",
    brief="split line , quoted parts",
    rules={
        "delimiter": tuple(
            Option(d, f"Fields are separated by the {name}.", f"separator {name}", repr(d))
            for d, name in _NAMES.items()
        ),
        "quote": tuple(
            Option(q, f"The quote is {name}.", f"quote {q}", repr(q)) for q, name in _MARKS.items()
        ),
        "escape": (
            Option(
                "double",
                "In a quoted part two quotes in a row do not close it: they stand for one quote. A "
                "backslash has no special meaning.",
                "doubled quote is a quote",
                "line[i:i + 2] == quote * 2",
            ),
            Option(
                "backslash",
                "In a quoted part a backslash stands for the character after it, whatever that is. "
                "As the last character of the line, and outside of quoted parts, it is a character "
                "like any other.",
                "backslash escapes inside",
                'c == "\\\\" and i + 1 < len(line)',
            ),
        ),
        "trim": (
            Option("no", "Blanks are part of the fields.", "", "fields"),
            Option(
                "yes",
                "In the end white space is removed from both ends of each field, even if it was "
                "quoted.",
                "strip fields",
                "[field.strip() for field in fields]",
            ),
        ),
        "open": (
            Option(
                "none",
                "A quoted part that is never closed gives None for the whole line.",
                "unclosed None",
                "if quoted:\n    return None",
            ),
            Option(
                "end", "A quoted part that is never closed ends with the line.", "unclosed ends"
            ),
        ),
    },
    template="""
def <entry>(line):
    separator, quote = <delimiter>, <quote>
    fields, now, quoted, i = [], "", False, 0
    while i < len(line):
        c = line[i]
        if quoted and <escape>:
            now += line[i + 1]
            i += 1
        elif c == quote:
            quoted = not quoted
        elif c == separator and not quoted:
            fields.append(now)
            now = ""
        else:
            now += c
        i += 1
    <open>
    fields.append(now)
    return <trim>
""",
    inputs=_csv_inputs,
)


def _wrap_inputs(rng: np.random.Generator, picks: Picks) -> _Calls:
    width = int(picks["width"])
    words = [letters(rng, size, "abcde") for size in (3, 1, 4, 2, 5, 3, 1, 2, 6)]
    exact, longer, half = "x" * width, "y" * (width + 1), "z" * (width // 2)
    texts = [
        " ".join(words),
        "",
        "   ",
        "\n",
        "a",
        exact,
        longer,
        "w" * (2 * width),
        "v" * (2 * width + 3),
    ]
    texts += [
        f"a {longer} b",
        f"{longer} {longer}",
        f"{half} {half}",
        f"{half} {half[1:]}",
        f"{exact} a",
    ]
    texts += ["a  b", " a b ", "a\nb", "a\n\nb c", f"{half}\n{half} {half}", "a\tb", "é ü 🌍 ß"]
    texts += [" ".join(words[::-1]), "a " * 40, f"a {exact} {longer}c d"]
    return [(text,) for text in texts]


WRAP = Family(
    name="wrap",
    level="hard",
    entries=("wrap_text", "fill_lines", "break_lines"),
    arguments="text: str",
    returns="list[str]",
    purpose="Break a text into lines. Words are what white space separates; in a line they are "
    "joined by single blanks, and each line takes as many words as fit. There are no empty lines.",
    brief="wrap text",
    rules={
        "width": numbers((6, 8, 10, 12), "A line has room for {n} characters.", "width {n}"),
        "long": (
            Option("alone", "A word that is longer than a line stands alone on one.", "long alone"),
            Option(
                "drop",
                "A word that is longer than a line is left out.",
                "drop long words",
                "if len(word) > width:\n    continue",
            ),
            Option(
                "cut",
                "A word that is longer than a line begins on a new line and is cut after each full "
                "line; its last piece, which fits in a line, is treated like any word.",
                "cut long words",
                "while len(word) > width:\n    if now:\n        lines.append(now)\n        now = "
                '""\n    lines.append(word[:width])\n    word = word[width:]',
            ),
        ),
        "breaks": (
            Option("blank", "A line feed is white space like any other.", "", "[text]"),
            Option(
                "keep",
                "After a line feed of the text a new line begins.",
                "keep line feeds",
                'text.split("\\n")',
            ),
        ),
        "align": (
            Option("none", "Lines do not end in blanks.", "", "line"),
            Option(
                "right",
                "Shorter lines get blanks on the left, up to the full width.",
                "right aligned",
                "line.rjust(width)",
            ),
            Option(
                "filled",
                "Shorter lines get blanks on the right, up to the full width.",
                "padded right",
                "line.ljust(width)",
            ),
        ),
    },
    template="""
def <entry>(text):
    width, lines = <width>, []
    for part in <breaks>:
        now = ""
        for word in part.split():
            <long>
            if now and len(now) + 1 + len(word) <= width:
                now += " " + word
            else:
                if now:
                    lines.append(now)
                now = word
        if now:
            lines.append(now)
    return [<align> for line in lines]
""",
    inputs=_wrap_inputs,
)

TEXT_FAMILIES = (RUN_LENGTH, BRACKETS, TOP_WORDS, ANAGRAMS, DURATION, CSV, WRAP)
