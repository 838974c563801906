"""A program, run in an environment that has TRL: `python -m resd_bench.interop.trl_worker`."""
