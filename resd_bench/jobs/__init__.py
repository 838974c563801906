"""What the command line starts: a run, an evaluation, a difficulty estimate, a replay."""
