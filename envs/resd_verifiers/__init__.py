"""`resd_bench.interop._verifiers` under a name that verifiers accepts: it has no dots."""

from resd_bench.interop._verifiers import ResdEnv, ResdTaskset

__all__ = ["ResdEnv", "ResdTaskset"]
