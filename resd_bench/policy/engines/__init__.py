"""What samples: one file an engine, behind one protocol."""
