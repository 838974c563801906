"""Repair of mutated library functions, whose documentation's examples are the hidden tests."""

from resd_envs.doctest_repair.env import DoctestRepairEnv

__all__ = ["DoctestRepairEnv"]
