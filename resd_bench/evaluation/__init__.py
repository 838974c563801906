"""Held-out success, extra evaluations, and the grading of saved answers."""
