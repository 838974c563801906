"""The properties of environments, in the order they are examined."""

from __future__ import annotations

from collections.abc import Mapping

from resd_bench.check import properties
from resd_bench.check.leaks import leaks
from resd_bench.check.properties import Property

ENV_PROPERTIES: Mapping[str, Property] = {
    "docs": properties.docs,
    "interface": properties.interface,
    "splits": properties.splits,
    "panel": properties.panel,
    "seeded": properties.seeded,
    "any text": properties.any_text,
    "pure": properties.pure,
    "reward": properties.reward,
    "ladder": properties.ladder,
    "oracle": properties.oracle,
    "reasoning": properties.reasoning,
    "floor": properties.floor,
    "leaks": leaks,
    "runaway": properties.runaway,
    "budget": properties.budget,
}
