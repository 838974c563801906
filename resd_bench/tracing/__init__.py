"""Losses of single tokens, kept for `trace` and `report`."""
