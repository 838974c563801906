"""The robot factory: its language and its machine.

`parse` reads a program or says what is wrong with it; `Program.run` traces one tape and
`Program.outcomes` is fast for many. Pure Python without Gymnasium; `problems.py` says which tapes a
program *should* accept.

A well-formed node is parsed once and cached by its text; it refers to other nodes by name, so it
does not depend on the program around it. A well-formed program consists of such nodes; only other
programs are parsed line by line.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
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
    """Why a text is not a program.

    Attributes:
        kind: class of the error, e.g. `missing_colon`.
        line: number of the line from 1, None if the error has no line.
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


Move = tuple[str, int]
"""Name of the next node, symbols removed."""


class Node(NamedTuple):
    """One declared node."""

    type: str
    id: str
    routes: tuple[Route, ...]
    moves: tuple[Move, ...]
    """[front]: where it leads, for each colour and `EMPTY`."""
    targets: frozenset[str]
    """Names that its routes lead to."""


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
    """What is left on the tape, even if the run was rejected."""
    visited: tuple[str, ...]
    """Names of the visited nodes in order, including the terminal one (`end`, `NONE`, ...)."""
    reason: Reason | None
    """None if it was accepted."""


ACCEPTED, ROUTED_TO_NONE, UNKNOWN_NODE, STEP_LIMIT = range(4)
"""Outcomes of `Program.outcome`."""

EMPTY = 4
"""Index of an empty front, after those of the colours; unknown symbols behave like it."""

_INDEX = {colour: index for index, colour in enumerate(COLOURS)}


def encode(tape: str) -> tuple[int, ...]:
    """`tape` as colour indices, ended by the mark of the empty front."""
    return (*(_INDEX.get(symbol, EMPTY) for symbol in tape), EMPTY)


@dataclass(frozen=True)
class Program:
    """A parsed program: its nodes in declaration order."""

    nodes: tuple[Node, ...]

    @cached_property
    def _by_id(self) -> dict[str, tuple[str, dict[str, str]]]:
        # Reversed, so that the first of repeated conditions wins.
        return {n.id: (n.type, dict(reversed(n.routes))) for n in self.nodes}

    @cached_property
    def _moves(self) -> dict[str, tuple[Move, ...] | None]:
        """What each node does; None if a run ends there."""
        ends = {_END_WORD: None}
        return {**ends, **{n.id: n.moves for n in self.nodes}, END: None, NOWHERE: None}

    @cached_property
    def _paints(self) -> dict[str, int]:
        """Painter to the colour index it writes."""
        return {n.id: _INDEX[PAINTERS[n.type]] for n in self.nodes if n.type in PAINTERS}

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

        The same verdict as `run`, without a trace.
        """
        return self.outcomes([tape], max_steps)[0]

    def outcomes(self, tapes: Iterable[Sequence[int]], max_steps: int = MAX_STEPS) -> list[int]:
        """The `outcome` on each of many tapes: the inner loop of grading."""
        if self._paints:
            return [self._outcome_painting(list(tape), max_steps) for tape in tapes]
        moves = self._moves
        found: list[int] = []
        for tape in tapes:
            node, position = START, 0
            for _ in range(max_steps):
                row = moves[node]
                if row is None:
                    found.append(_outcome_at(node))
                    break
                node, pulled = row[tape[position]]
                position += pulled
            else:
                found.append(STEP_LIMIT)
        return found

    def _outcome_painting(self, tape: list[int], max_steps: int) -> int:
        """A run that is where it was before, with the same tape, never ends: it is not run on.

        What it is compared with is where it was after 8, 16, 32, ... nodes (Brent's algorithm).
        """
        moves, paints = self._moves, self._paints
        node, position = START, 0
        then, rest, left, renew = "", tape[:0], 0, _FIRST_LOOK
        for step in range(max_steps):
            row = moves[node]
            if row is None:
                return _outcome_at(node)
            if step == renew:
                then, rest, left, renew = node, tape[position:], len(tape) - position, 2 * renew
            elif node == then and len(tape) - position == left and tape[position:] == rest:
                return STEP_LIMIT
            if node in paints:
                tape[-1:] = (paints[node], EMPTY)
            node, pulled = row[tape[position]]
            position += pulled
        return STEP_LIMIT

    def accepted(
        self, colours: str, longest: int, max_steps: int = MAX_STEPS
    ) -> Iterator[bytes] | None:
        """Whether each tape of `colours` is accepted, for lengths 0 to `longest`, a byte a tape.

        Tapes of a length are in the order of `itertools.product`. None for programs that paint.
        Tapes with the same beginning are run once up to where they differ, and beginnings that
        lead to the same place are told apart no longer.
        """
        if self._paints:
            return None
        fronts = [_INDEX.get(colour, EMPTY) for colour in colours]
        return self._accepted(fronts, longest, max_steps)

    def _accepted(self, fronts: Sequence[int], longest: int, max_steps: int) -> Iterator[bytes]:
        ends: dict[_Place, bool] = {}
        after: dict[_Place, list[_Place]] = {}
        places: list[_Place] = [(START, 0)]
        for _ in range(longest + 1):
            for place in set(places).difference(ends):
                ends[place] = self._pull(place, EMPTY, max_steps) == _HAS_ACCEPTED
                after[place] = [self._pull(place, front, max_steps) for front in fronts]
            yield bytes([ends[place] for place in places])
            places = [later for place in places for later in after[place]]

    def _pull(self, place: _Place, front: int, max_steps: int) -> _Place:
        """Where a run is that has come to `place` once it has removed the front symbol or ended."""
        node, steps = place
        while steps < max_steps:
            row = self._moves[node]
            if row is None:
                return _HAS_ACCEPTED if node == END else _HAS_REJECTED
            node, pulled = row[front]
            steps += 1
            if pulled:
                return node, steps
        return _HAS_REJECTED

    def accepts(self, tape: str, max_steps: int = MAX_STEPS) -> bool:
        """Whether `run` would accept."""
        return self.outcome(encode(tape), max_steps) == ACCEPTED


_FIRST_LOOK = 8
"""Nodes after which a run of a program that paints is first remembered."""
_Place = tuple[str, int]
"""The node of a run, and how many it has visited before."""
_HAS_ACCEPTED: _Place = (END, 0)
_HAS_REJECTED: _Place = (NOWHERE, 0)
"""Where runs that have ended stay."""


def _outcome_at(node: str) -> int:
    """The outcome of a run that ends at this node."""
    if node == END:
        return ACCEPTED
    return ROUTED_TO_NONE if node == NOWHERE else UNKNOWN_NODE


def _node(node_type: str, node_id: str, routes: tuple[Route, ...]) -> Node:
    # Reversed, so that the first of repeated conditions wins.
    targets = dict(reversed(routes))
    if node_type in PULLERS:
        moves = [(targets.get("EMPTY", NOWHERE), 0)] * 5
        for colour in PULLERS[node_type]:
            moves[_INDEX[colour]] = (targets.get(colour, NOWHERE), 1)
    else:
        moves = [(targets.get("NEXT", NOWHERE), 0)] * 5
    return Node(node_type, node_id, routes, tuple(moves), frozenset(t for _, t in routes))


class _Line(NamedTuple):
    """One line parsed on its own; which part counts depends on its position."""

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
    """`pull` or `next` if it parses as a route of that kind."""
    route: Route = Route("", "")


_HEADER = re.compile(
    r"(START|END|PULLER_RB|PULLER_YG|PAINTER_RED|PAINTER_BLUE|PAINTER_YELLOW|PAINTER_GREEN)"
    r"\s+(\w+):?\s*(?:#.*)?"
)
_ROUTE = re.compile(r"(?:\[(R|B|Y|G|EMPTY)\]|(NEXT))\s+(\w+)\s*(?:#.*)?")

_NAMES = {"START": START, "END": END}
"""Node types that occur once, and the required name."""

_CACHED_CHARS = 64
"""Lines up to this length are cached; programs have most of theirs in common."""
_CACHED_NODE_CHARS = 400
"""The same for whole nodes."""


def _read_line(raw: str) -> _Line | None:
    """Parse one line; None if it is blank or a comment."""
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
    misnamed = node_id != _NAMES.get(node_type, node_id)
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


_BEFORE_HEADER = re.compile(r"\n(?=[^\s#])")
"""The beginning of a line that is neither indented, blank nor a comment."""
_REST = r"[ \t]*(?:#[^\n]*)?(?:\n[ \t]*(?:#[^\n]*)?(?=\n|\Z))*"
"""The end of a line, and blank lines and comments after it."""
_NODE = re.compile(
    rf"(\w+)[ \t]+(\w+)(:?){_REST}"
    rf"((?:\n(?: {{4}}|\t)[ \t]*(?:\[\w+\]|NEXT)[ \t]+\w+{_REST})*)"
)
_NODE_ROUTE = re.compile(r"^[ \t]+(?:\[(\w+)\]|NEXT)[ \t]+(\w+)", re.MULTILINE)


def parse(text: str) -> Program:
    """Read a program; ParseError names the first thing that is wrong.

    A leading and a trailing line of three backticks are dropped; lines are numbered without them.
    """
    return _put_together(text) or _parse_lines(text)


def _put_together(text: str) -> Program | None:
    """The program, if every node is well-formed and they fit together; None for all others."""
    chunks = _BEFORE_HEADER.split(text.strip())
    if max(map(len, chunks)) > _CACHED_NODE_CHARS:
        return None
    nodes: list[Node] = []
    for chunk in chunks:
        node = _read_node(chunk)
        if node is None:
            return None
        nodes.append(node)
    ids = {node.id for node in nodes}
    types = {node.type for node in nodes}
    targets = _ALWAYS_KNOWN.union(*[node.targets for node in nodes])
    if len(ids) < len(nodes) or not types.issuperset(("START", "END")):
        return None
    return Program(tuple(nodes)) if targets - ids == _ALWAYS_KNOWN - ids else None


@lru_cache(maxsize=1 << 14)
def _read_node(chunk: str) -> Node | None:
    """The node in `chunk`, with comments and blank lines; None if it is not well-formed."""
    match = _NODE.fullmatch(chunk)
    if match is None:
        return None
    node_type, node_id, colon, lines = match.groups()
    routes = tuple([Route(c or "NEXT", target) for c, target in _NODE_ROUTE.findall(lines)])
    conditions = [condition for condition, _ in routes]
    if node_type in PULLERS:
        fits = _CONDITIONS[node_type].issuperset(conditions)
    else:
        fits = conditions == _CONDITIONS_OF_OTHERS.get(node_type)
    named = node_id == _NAMES.get(node_type, node_id)
    if not fits or not named or bool(colon) == (node_type == "END"):
        return None
    return _node(node_type, node_id, routes)


def _parse_lines(text: str) -> Program:
    """Parse any program line by line; ParseError."""
    lines = _numbered_lines(text)
    if not lines:
        raise ParseError("empty_program")
    nodes: dict[str, tuple[Node, int]] = {}
    begin, count = 0, len(lines)
    while begin < count:
        number, header = lines[begin]
        if header.error or header.misnamed or header.id in nodes:
            raise _header_error(header, number, nodes)
        end = begin + 1
        while end < count and lines[end][1].indented:
            end += 1
        routes = _routes(header.type, lines[begin + 1 : end], number)
        nodes[header.id] = (_node(header.type, header.id, routes), number)
        begin = end
    _check_whole(nodes)
    return Program(tuple(node for node, _ in nodes.values()))


_WAYS: Mapping[str, str] = {
    "START": "next",
    "END": "no routes",
    **dict.fromkeys(PULLERS, "pull"),
    **dict.fromkeys(PAINTERS, "next"),
}
"""Node type to the kind of its routes."""


def _header_error(header: _Line, number: int, declared: Container[str]) -> ParseError:
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
_CONDITIONS_OF_OTHERS = {"START": ["NEXT"], "END": [], **{p: ["NEXT"] for p in PAINTERS}}


_ALWAYS_KNOWN = frozenset((NOWHERE, _END_WORD))
"""Targets for which no node has to be declared."""


def _check_whole(nodes: Mapping[str, tuple[Node, int]]) -> None:
    types = {node.type for node, _ in nodes.values()}
    if "START" not in types:
        raise ParseError("no_start")
    if "END" not in types:
        raise ParseError("no_end")
    known = nodes.keys() | _ALWAYS_KNOWN
    for node, line in nodes.values():
        for _, target in node.routes:
            if target not in known:
                raise ParseError("undefined_target", line, node=node.id, target=target)


def try_parse(text: str) -> Program | ParseError:
    """The program, or the error as a value."""
    try:
        return parse(text)
    except ParseError as error:
        return error


def describe(error: ParseError) -> str:
    """What is wrong, in a few words of the language, e.g. `undefined target a9`."""
    named = [error.detail[key][:24] for key in _TELLING if key in error.detail]
    words = " ".join([error.kind.replace("_", " "), *named])
    return "".join(c if c.isprintable() else "?" for c in words)


_TELLING = ("condition", "id", "target", "text")
"""Details worth mentioning; a node's type and name follow from the line."""
