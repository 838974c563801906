"""The report of `resd-bench doctor` on game packages: version, Java, and what is missing."""

from __future__ import annotations

from resd_bench.plugins import Check
from resd_envs.games.java import find_java
from resd_envs.games.packages import PACKAGES, Package, find_problem


def checks() -> list[Check]:
    """One check per game package."""
    return [_check(package) for package in PACKAGES]


def _check(package: Package) -> Check:
    problem = find_problem(package)
    if problem is not None:
        return Check(package.name, False, f"{problem.found} (optional)", problem.remedy)
    java = find_java() if package.needs_java else None
    detail = package.version + (f", Java {java.version} ({java.path})" if java else "")
    return Check(package.name, True, detail)
