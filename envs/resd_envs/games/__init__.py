"""What the environments made of other people's games share.

`packages.py` says whether a game's package is there, whole, and of the right version; `java.py`
runs the Java virtual machine that two of them need, one for a process; `record.py` keeps what was
said and what came of it; `doctor.py` reports to `resd-bench doctor`. No game is imported here.
"""
