"""Who follows a run: progress bar, trackers, interrupts."""
