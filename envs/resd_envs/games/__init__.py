"""What the environments made from third-party games have in common.

`packages.py` checks whether a game's package is installed, intact, and of the right version;
`java.py` runs the Java virtual machine that two of them need, one per process; `record.py` keeps
answers and their outcomes; `doctor.py` reports to `resd-bench doctor`. No game is imported here.
"""
