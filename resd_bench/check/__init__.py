"""`envs check`, `methods check` and `engines check`: does a plugin keep its promises?

`check`, `check_method` and `check_engine` examine an installed plugin in a process of its own, so
that a plugin that hangs or dies gets a verdict too, and yield a `Verdict` per property with the
evidence. `check_env`, `check_agent` and `check_engine` of `resd_bench.testing` assert the same
properties in-process.
"""

from resd_bench.check.result import PropertyFailed, PropertyVerdict, Skipped, as_lines, failures
from resd_bench.check.supervisor import check, check_engine, check_method, property_names

__all__ = [
    "PropertyFailed",
    "PropertyVerdict",
    "Skipped",
    "as_lines",
    "check",
    "check_engine",
    "check_method",
    "failures",
    "property_names",
]
