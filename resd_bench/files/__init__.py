"""Untrusted files: read within bounds, never written through a link, hashed, shown as text."""
