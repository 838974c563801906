"""Reports of runs as single HTML files that open from disk without a network."""
