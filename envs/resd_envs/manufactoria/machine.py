"""The robot factory: its language and its machine.

`parse` reads a program or says what is wrong with it; `Program.run` traces one tape and
`Program.accepts` answers fast. Pure Python without Gymnasium; which tapes a program *should*
accept is told in `problems.py`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

COLOURS = "RBYG"
MAX_STEPS = 1000
"""Visited nodes, the terminal one included, after which a run is rejected."""

START, END = "start", "end"
NOWHERE = "NONE"
"""Route target that rejects."""
_END_WORD = "END"
"""Accepted as a route target by the parser, unknown to the machine unless declared."""

PULLERS: Mapping[str, str] = {"PULLER_RB": "RB", "PULLER_YG": "YG"}
"""Node type to the two colours it pulls."""
PAINTERS: Mapping[str, str] = {
    "PAINTER_RED": "R",
    "PAINTER_BLUE": "B",
    "PAINTER_YELLOW": "Y",
    "PAINTER_GREEN": "G",
}
"""Node type to the colour it writes."""

ReasonKind = Literal["routed_to_none", "unknown_node", "step_limit"]


class ParseError(ValueError):
    """Why a text is no program.

    Attributes:
        kind: class of the error, e.g. `missing_colon`.
        line: number of the line from 1, None where the error has no line.
        detail: what else is known: `text`, `id`, `node`, `target`, `condition`, `node_type`.
    """

    def __init__(self, kind: str, line: int | None = None, **detail: str) -> None:
        self.kind = kind
        self.line = line
        self.detail = detail
        super().__init__(self._message())

    def _message(self) -> str:
        where = "" if self.line is None else f"line {self.line}: "
        given = ", ".join(f"{name} {value[:80]!r}" for name, value in self.detail.items())
        return f"{where}{_EXPLANATIONS[self.kind]}{f' ({given})' if given else ''}"


_EXPLANATIONS: Mapping[str, str] = {
    "empty_program": "the program is empty",
    "bad_declaration": "this is no node declaration such as `PULLER_RB name:`",
    "end_has_colon": "the END node takes no colon",
    "missing_colon": "the declaration needs a colon right after the node's name",
    "duplicate_id": "this name is already declared",
    "start_bad_id": "the START node must be called `start`",
    "end_bad_id": "the END node must be called `end`",
    "bad_puller_route": "a puller's route reads `[COLOUR] target` or `[EMPTY] target`",
    "bad_next_route": "this node's route reads `NEXT target`",
    "end_has_routes": "the END node has no routes",
    "start_route_count": "START needs exactly one NEXT",
    "painter_route_count": "a painter needs exactly one NEXT",
    "bad_condition": "this puller cannot pull that colour",
    "no_start": "there is no START node",
    "no_end": "there is no END node",
    "undefined_target": "a route leads to a node that is not declared",
}


class Route(NamedTuple):
    """One way out of a node."""

    condition: str
    """`NEXT`, `EMPTY` or a colour letter."""
    target: str


class Node(NamedTuple):
    """One declared node."""

    type: str
    id: str
    routes: tuple[Route, ...]
    line: int
    """Number of its header line, from 1."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a run was rejected."""

    kind: ReasonKind
    node: str | None = None
    """The name that no node has, for `unknown_node`."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a program did on one tape."""

    accepted: bool
    tape: str
    """What is left on the tape, also where the run was rejected."""
    visited: tuple[str, ...]
    """Names of the visited nodes in order, the terminal one (`end`, `NONE`, ...) included."""
    reason: Reason | None
    """None where it was accepted."""


ACCEPTED, ROUTED_TO_NONE, UNKNOWN_NODE, STEP_LIMIT = range(4)
"""Outcomes of `Program.outcome`."""

EMPTY = 4
"""Index of an empty front, after those of the colours; foreign symbols behave like it."""

_INDEX = {colour: index for index, colour in enumerate(COLOURS)}


def encode(tape: str) -> tuple[int, ...]:
    """`tape` as colour indices, closed by the mark of the empty front."""
    return (*(_INDEX.get(symbol, EMPTY) for symbol in tape), EMPTY)


class _Table(NamedTuple):
    """A program in numbers: nodes in declaration order, then the outcomes as negatives."""

    start: int
    moves: list[list[tuple[int, int]]]
    """[node][front]: next node (`~outcome` where the program stops there), symbols removed."""
    paints: dict[int, int]
    """Painter to the colour index it writes."""


@dataclass(frozen=True)
class Program:
    """A program that parses: its nodes in declaration order."""

    nodes: tuple[Node, ...]

    @cached_property
    def _by_id(self) -> dict[str, tuple[str, dict[str, str]]]:
        # Reversed, so that the first of repeated conditions wins.
        return {n.id: (n.type, dict(reversed(n.routes))) for n in self.nodes}

    @cached_property
    def _table(self) -> _Table:
        return _compile(self.nodes)

    def run(self, tape: str, max_steps: int = MAX_STEPS) -> Run:
        """Run on `tape` and keep the trace; at most `max_steps` nodes are visited."""
        left = deque(tape)
        visited: list[str] = []
        current = START
        reason: Reason | None = Reason("step_limit")
        for _ in range(max_steps):
            visited.append(current)
            if current == NOWHERE:
                reason = Reason("routed_to_none")
                break
            if current == END:
                reason = None
                break
            if current not in self._by_id:
                reason = Reason("unknown_node", current)
                break
            current = self._step(current, left)
        return Run(reason is None, "".join(left), tuple(visited), reason)

    def _step(self, current: str, left: deque[str]) -> str:
        node_type, routes = self._by_id[current]
        if node_type in PULLERS:
            if left and left[0] in PULLERS[node_type]:
                return routes.get(left.popleft(), NOWHERE)
            return routes.get("EMPTY", NOWHERE)
        if node_type in PAINTERS:
            left.append(PAINTERS[node_type])
        return routes["NEXT"]

    def outcome(self, tape: Sequence[int], max_steps: int = MAX_STEPS) -> int:
        """`ACCEPTED`, `ROUTED_TO_NONE`, `UNKNOWN_NODE` or `STEP_LIMIT` on an encoded tape.

        The same verdict as `run`, without a trace: the inner loop of marking.
        """
        node, moves, paints = self._table
        if paints:
            return self._outcome_painting(list(tape), max_steps)
        position = 0
        for _ in range(max_steps):
            if node < 0:
                return ~node
            node, pulled = moves[node][tape[position]]
            position += pulled
        return STEP_LIMIT

    def _outcome_painting(self, tape: list[int], max_steps: int) -> int:
        node, moves, paints = self._table
        position = 0
        for _ in range(max_steps):
            if node < 0:
                return ~node
            if node in paints:
                tape[-1:] = (paints[node], EMPTY)
            node, pulled = moves[node][tape[position]]
            position += pulled
        return STEP_LIMIT

    def accepts(self, tape: str, max_steps: int = MAX_STEPS) -> bool:
        """Whether `run` would accept."""
        return self.outcome(encode(tape), max_steps) == ACCEPTED


def _compile(nodes: tuple[Node, ...]) -> _Table:
    numbers = {node.id: number for number, node in enumerate(nodes)}
    numbers |= {END: ~ACCEPTED, NOWHERE: ~ROUTED_TO_NONE}
    unknown = ~UNKNOWN_NODE
    moves: list[list[tuple[int, int]]] = []
    for node_type, _, routes, _ in nodes:
        targets = dict(reversed(routes))
        if node_type in PULLERS:
            row = [(numbers.get(targets.get("EMPTY", NOWHERE), unknown), 0)] * 5
            for colour in PULLERS[node_type]:
                row[_INDEX[colour]] = (numbers.get(targets.get(colour, NOWHERE), unknown), 1)
        else:
            row = [(numbers.get(targets.get("NEXT", NOWHERE), unknown), 0)] * 5
        moves.append(row)
    painters = [(number, node.type) for number, node in enumerate(nodes) if node.type in PAINTERS]
    paints = {number: _INDEX[PAINTERS[node_type]] for number, node_type in painters}
    return _Table(numbers[START], moves, paints)


class _Line(NamedTuple):
    """One line as read on its own; which part counts depends on where it stands."""

    text: str
    """Stripped."""
    indented: bool
    """Begins with four blanks or a tab, which makes it a route."""
    type: str = ""
    """Node type of a header."""
    id: str = ""
    error: str = ""
    """What is wrong with a header on its own, up to the colon rule."""
    misnamed: bool = False
    """START not called `start` or END not called `end`."""
    way: str = ""
    """`pull` or `next` where it reads as a route of that sort."""
    route: Route = Route("", "")


_HEADER = re.compile(
    r"(START|END|PULLER_RB|PULLER_YG|PAINTER_RED|PAINTER_BLUE|PAINTER_YELLOW|PAINTER_GREEN)"
    r"\s+(\w+):?\s*(?:#.*)?"
)
_ROUTE = re.compile(r"(?:\[(R|B|Y|G|EMPTY)\]|(NEXT))\s+(\w+)\s*(?:#.*)?")

_CACHED_CHARS = 64
"""Lines up to this length are read once; programs share most of theirs."""


def _read_line(raw: str) -> _Line | None:
    """Read one line; None where it is blank or a comment."""
    text = raw.strip()
    if not text or text[0] == "#":
        return None
    if raw.startswith(("    ", "\t")):
        match = _ROUTE.fullmatch(text)
        if match is None:
            return _Line(text, True)
        way = "next" if match[2] else "pull"
        return _Line(text, True, way=way, route=Route(match[1] or match[2], match[3]))
    match = _HEADER.fullmatch(text)
    if match is None:
        return _Line(text, False, error="bad_declaration")
    node_type, node_id = match[1], match[2]
    colon = ":" in text.split("#", 1)[0]
    error = ""
    if colon == (node_type == "END"):
        error = "end_has_colon" if colon else "missing_colon"
    misnamed = node_id != {"START": START, "END": END}.get(node_type, node_id)
    return _Line(text, False, node_type, node_id, error, misnamed)


_read_short_line = lru_cache(maxsize=1 << 14)(_read_line)


def _numbered_lines(text: str) -> list[tuple[int, _Line]]:
    lines = text.strip().split("\n")
    if lines[0].strip() == "```":
        lines = lines[1:]
    if lines and lines[-1].strip() == "```":
        lines = lines[:-1]
    numbered: list[tuple[int, _Line]] = []
    for number, raw in enumerate(lines, 1):
        line = _read_short_line(raw) if len(raw) <= _CACHED_CHARS else _read_line(raw)
        if line is not None:
            # With no header before it, an indented line is read as one.
            numbered.append((number, line if numbered else _read_line(line.text) or line))
    return numbered


def parse(text: str) -> Program:
    """Read a program; ParseError names the first thing that is wrong.

    A leading and a trailing line of three backticks are dropped; lines are numbered without them.
    """
    lines = _numbered_lines(text)
    if not lines:
        raise ParseError("empty_program")
    nodes: list[Node] = []
    declared: set[str] = set()
    begin, count = 0, len(lines)
    while begin < count:
        number, header = lines[begin]
        if header.error or header.misnamed or header.id in declared:
            raise _header_error(header, number, declared)
        declared.add(header.id)
        end = begin + 1
        while end < count and lines[end][1].indented:
            end += 1
        routes = _routes(header.type, lines[begin + 1 : end], number)
        nodes.append(Node(header.type, header.id, routes, number))
        begin = end
    _check_whole(nodes, declared)
    return Program(tuple(nodes))


_WAYS: Mapping[str, str] = {
    "START": "next",
    "END": "no routes",
    **dict.fromkeys(PULLERS, "pull"),
    **dict.fromkeys(PAINTERS, "next"),
}
"""Node type to the sort of its routes."""


def _header_error(header: _Line, number: int, declared: set[str]) -> ParseError:
    if header.error == "bad_declaration":
        return ParseError(header.error, number, text=header.text)
    if header.error == "missing_colon":
        return ParseError(header.error, number, node_type=header.type)
    if header.error:
        return ParseError(header.error, number)
    if header.id in declared:
        return ParseError("duplicate_id", number, id=header.id)
    return ParseError("start_bad_id" if header.type == "START" else "end_bad_id", number)


def _route_error(node_type: str, line: _Line, number: int) -> ParseError:
    if node_type == "END":
        return ParseError("end_has_routes", number)
    kind = "bad_puller_route" if node_type in PULLERS else "bad_next_route"
    return ParseError(kind, number, text=line.text)


def _routes(node_type: str, lines: Sequence[tuple[int, _Line]], number: int) -> tuple[Route, ...]:
    """The routes on `lines` of the node declared at line `number`."""
    way = _WAYS[node_type]
    for at, line in lines:
        if line.way != way:
            raise _route_error(node_type, line, at)
    routes = tuple([line.route for _, line in lines])
    if way == "pull":
        able = _CONDITIONS[node_type]
        for condition, _ in routes:
            if condition not in able:
                raise ParseError("bad_condition", number, condition=condition, node_type=node_type)
    elif way == "next" and len(routes) != 1:
        kind = "start_route_count" if node_type == "START" else "painter_route_count"
        raise ParseError(kind, number)
    return routes


_CONDITIONS = {node_type: {"EMPTY", *colours} for node_type, colours in PULLERS.items()}


def _check_whole(nodes: Sequence[Node], declared: set[str]) -> None:
    types = {node.type for node in nodes}
    if "START" not in types:
        raise ParseError("no_start")
    if "END" not in types:
        raise ParseError("no_end")
    known = declared | {NOWHERE, _END_WORD}
    for node in nodes:
        for _, target in node.routes:
            if target not in known:
                raise ParseError("undefined_target", node.line, node=node.id, target=target)


def try_parse(text: str) -> Program | ParseError:
    """The program, or the error as a value."""
    try:
        return parse(text)
    except ParseError as error:
        return error


def describe(error: ParseError) -> str:
    """What is wrong in a few words of the language, e.g. `undefined target a9`."""
    named = [error.detail[key][:24] for key in _TELLING if key in error.detail]
    words = " ".join([error.kind.replace("_", " "), *named])
    return "".join(c if c.isprintable() else "?" for c in words)


_TELLING = ("condition", "id", "target", "text")
"""Details worth a word; a node's type and name follow from the line."""
