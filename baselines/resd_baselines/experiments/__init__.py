"""Options of our own experiments, outside Algorithm 1."""
