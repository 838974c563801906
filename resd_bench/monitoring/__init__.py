"""Following a run: progress bar, trackers, interrupts."""
