"""The paper's tables and figures beside ours, and experiments of our own, from records of runs.

    registry.py    what can be reproduced: which runs it needs, and what is made from them
    gather.py      the runs of an experiment, found among records by their settings
    cells.py       a number of several runs, under three rules of choosing a checkpoint
    page.py        what comes out: tables, rows, figures; Markdown and CSV
    tables.py curves.py dials.py    how each page is made
    paper.json     the paper's numbers

Nothing here runs anything: `resd_bench.commands.reproduce` does. Left out: heat maps of the loss of
single tokens, which `trace` shows.
"""
