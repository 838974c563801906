"""Groups of commands: environments, methods, new plugins. `resd_bench.cli` puts them together."""
