"""An equal tuning budget for every method, chosen by validation tasks alone."""
