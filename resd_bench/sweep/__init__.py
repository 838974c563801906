"""Many runs from one file: what they are, and whatever runs them to the end.

    definition.py   a YAML file as a list of trials
    launch.py       start a trial in a process of this machine, or on a Ray cluster
    scheduler.py    keep so many going, retry crashes, end cleanly
    live.py         what a person sees meanwhile, and at the end

A trial is one run, with its own run folder, so nothing here needs a state of its own: a finished
folder is passed over and an unfinished one is gone on with. Left out: searching over settings.
"""
