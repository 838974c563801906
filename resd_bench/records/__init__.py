"""The run folder: writing, resuming, reading, packing."""
