"""Our environments in other trainers, and our methods against theirs.

Each module needs the package that it is named after, in this environment or one of its own; nothing
else in the harness does.
"""
