"""CPU seconds from the start of `run` with nano to its first rollout, beside loading nano alone.

    OMP_NUM_THREADS=1 python benchmarks/first_rollout.py

The peer imports torch and transformers and loads the same model and tokenizer with them, which is
the least that a first rollout needs. Left out: a second process for evaluations, which an idle core
would start.
"""

from __future__ import annotations

import sys
import tempfile

from benchmarks.in_turn import in_turn, of_process, print_row

TARGET = 3.0
TURNS = 5
RUN = """
import os, sys
from resd_bench.cli import main
from resd_bench.policy import lm_policy
def first(*given, **options):
    os._exit(0)
lm_policy.LMPolicy.sample = first
main(["run", "--method", "resd", "--eval-on", "here", "--out", sys.argv[1]])
os._exit(1)
"""
LOAD = """
from transformers import AutoModelForCausalLM, AutoTokenizer
from resd_bench.packaged_models import weights_folder
AutoTokenizer.from_pretrained(weights_folder("nano"))
AutoModelForCausalLM.from_pretrained(weights_folder("nano"))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        number = iter(range(TURNS))

        def ours() -> float:
            folder = f"{scratch}/{next(number)}"
            return of_process([sys.executable, "-c", RUN, folder])()

        peer = of_process([sys.executable, "-c", LOAD])
        costs = in_turn({"ours": ours, "peer": peer}, TURNS)
    row = (costs["ours"], costs["peer"])
    name = "start: first rollout of nano"
    print_row(name, "CPU s", row, "transformers loads nano", target=TARGET)


if __name__ == "__main__":
    main()
