"""Many runs from one file: their definition, and the scheduler that runs them to the end.

    definition.py   a YAML file as a list of trials
    launch.py       start a trial in a process of this machine, or on a Ray cluster
    preloaded.py    fork trials from a process that has the imports done
    processes.py    any other process of this machine
    scheduler.py    keep a number of trials running, retry crashes, end cleanly
    progress_table.py    what a person sees meanwhile, and at the end

A trial is one run, with its own run folder, so nothing here needs a state of its own: a finished
folder is skipped and an unfinished one is resumed. Left out: searching over settings.
"""
