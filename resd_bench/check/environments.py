"""The properties of environments, in the order they are examined."""

from __future__ import annotations

from collections.abc import Mapping

from resd_bench.check import env_properties
from resd_bench.check.env_properties import Property
from resd_bench.check.leaks import leaks

ENV_PROPERTIES: Mapping[str, Property] = {
    "docs": env_properties.docs,
    "interface": env_properties.interface,
    "splits": env_properties.splits,
    "panel": env_properties.panel,
    "seeded": env_properties.seeded,
    "any text": env_properties.any_text,
    "pure": env_properties.pure,
    "reward": env_properties.reward,
    "ladder": env_properties.ladder,
    "oracle": env_properties.oracle,
    "reasoning": env_properties.reasoning,
    "floor": env_properties.floor,
    "leaks": leaks,
    "runaway": env_properties.runaway,
    "budget": env_properties.budget,
}
