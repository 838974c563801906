"""Benchmarks for language-model agents that learn when success is rare and feedback is rich."""

from resd_bench.plugins import make_env, register_envs

__version__ = "0.1.0"
__all__ = ["__version__", "make_env"]

register_envs()
