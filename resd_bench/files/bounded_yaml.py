"""YAML of other people, within the bounds of `reading`.

A module of its own, because PyYAML takes as long to import as a line of help takes to print.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from resd_bench.files.reading import MAX_NESTING, MAX_YAML, Unreadable, size_text

MAX_YAML_NODES = 20_000
"""Keys and values of a YAML file; aliases count as what they stand for."""
MAX_NUMBER = 1000
"""Characters of a number in YAML."""
_PLAIN = re.compile(r'[\n "-=@-{}~]*')
"""What libyaml reads as PyYAML does: printable ASCII without `!`, `|`, `>` and `?`."""


def parse_yaml(text: str) -> Any:
    """The value of a YAML document; Unreadable if it is invalid or exceeds a bound.

    Aliases are supported, and count as what they stand for: what they expand to is bounded too.
    """
    if len(text) > MAX_YAML:
        raise Unreadable(f"it is longer than {size_text(MAX_YAML)}")
    if yaml.__with_libyaml__ and _PLAIN.fullmatch(text):
        try:
            return _parsed(text, _quick_loader())
        except Unreadable:
            pass  # The errors of the other one show the place.
    return _parsed(text, _BoundedLoader)


def _parsed(text: str, kind: Callable[[str], Any]) -> Any:
    try:
        loader = kind(text)
        node = loader.get_single_node()
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise Unreadable(" ".join(str(error).split())) from None
    except Unreadable:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        # Dates such as 2026-13-45, numbers of 5,000 digits, odd tag arguments.
        raise Unreadable(f"a value is malformed: {error}") from None
    except RecursionError:
        raise Unreadable(f"it is nested more than {MAX_NESTING} levels deep") from None


class _Bounded(Composer):
    """Counts nodes and levels while composing; aliases count as what they stand for."""

    check_event: Any

    def __init__(self, text: str) -> None:
        super().__init__(text)  # type: ignore[call-arg]
        self._seen = 0
        self._depth = 0
        self._sizes: dict[int, tuple[int, int]] = {}
        """Number of nodes and levels of each composed node, by its id."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node with everything below it."""
        before = self._seen
        self._enter(1, 1)
        self._depth += 1
        is_alias = self.check_event(yaml.AliasEvent)
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias:
            if id(node) not in self._sizes:
                raise Unreadable("an alias is inside the node that it refers to")
            self._enter(*self._sizes[id(node)])
        else:
            below = [self._sizes[id(child)][1] for child in _children(node)]
            self._sizes[id(node)] = (self._seen - before, 1 + max(below, default=0))
            _check_number(node)
            _check_keys(node)
        return node

    def _enter(self, nodes: int, levels: int) -> None:
        self._seen += nodes
        if self._seen > MAX_YAML_NODES:
            raise Unreadable(f"it holds more than {MAX_YAML_NODES:,} keys and values")
        if self._depth + levels > MAX_NESTING:
            raise Unreadable(f"it is nested more than {MAX_NESTING} levels deep")


class _BoundedLoader(_Bounded, yaml.SafeLoader):
    """In Python throughout."""


@cache
def _quick_loader() -> Callable[[str], Any]:
    """The same over libyaml's events, five times as fast; not every PyYAML was built with it."""
    from yaml.cyaml import CParser  # type: ignore[attr-defined]

    class Events(Composer, CParser, SafeConstructor, Resolver):
        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)

    class Quick(_Bounded, Events):
        pass

    return Quick


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: Any) -> None:
    """Unreadable where a mapping has a key twice: YAML forbids it, and the second would win."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if (key.tag, key.value) in seen:
            line = key.start_mark.line + 1
            raise Unreadable(
                f"the key {key.value!r} is given twice, the second time in line {line}"
            )
        seen.add((key.tag, key.value))


def _check_number(node: Any) -> None:
    kind = node.tag.rpartition(":")[2]
    is_number = isinstance(node, yaml.ScalarNode) and kind in ("int", "float")
    # Sexagesimal numbers take time quadratic in their length.
    if is_number and len(node.value) > MAX_NUMBER:
        raise Unreadable(f"a number has more than {MAX_NUMBER} characters")
