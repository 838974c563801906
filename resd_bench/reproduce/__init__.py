"""The paper's tables and figures next to ours, and our own experiments, from records of runs.

    experiments.py      what can be reproduced: which runs it needs, and the page made from them
    match_records.py    the runs of an experiment, found among records by their settings
    table_cells.py      a number of several runs, under three rules for choosing a checkpoint
    page.py             the result: tables, rows, figures; Markdown and CSV
    paper_tables.py learning_curves.py by_model.py factorial_page.py placebo.py many_turns.py
    own_experiments.py  how each page is made
    paper.json          the paper's numbers

Nothing here runs anything: `resd_bench.commands.reproduce` does. Left out: heat maps of the loss of
single tokens, which `trace` shows.
"""
