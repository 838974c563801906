"""One file a command, its arguments and its body together; `resd_bench.cli` mounts them.

Whatever is slow to import is imported inside a body, so that `--help` is quick.
"""
