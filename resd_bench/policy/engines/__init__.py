"""Sampling engines: one file per engine, behind one protocol."""
