"""`envs check` and `methods check`: does a plugin keep what it promises?

`check` and `check_method` examine an installed plugin in a process of its own, so that one that
hangs or dies gets a verdict too, and yield a `Verdict` per property with the evidence. The same
properties are asserted in-process by `resd_bench.testing.check_env` and `check_agent`.
"""

from resd_bench.check.verdict import Broken, Skipped, Verdict, failures, report
from resd_bench.check.watch import check, check_method, property_names

__all__ = [
    "Broken",
    "Skipped",
    "Verdict",
    "check",
    "check_method",
    "failures",
    "property_names",
    "report",
]
