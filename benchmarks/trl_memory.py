"""Peak memory of two updates of SDPO and SFT with large vocabularies, ours beside TRL's.

    OMP_NUM_THREADS=1 python benchmarks/trl_memory.py --python trl-venv/bin/python

The updates are those of `trl_step.py`, of nano with more tokens in its vocabulary than it was
trained with: as many as SmolLM2 has, and as many as Qwen3. Their embeddings are random, so that
answers are noise of the longest permitted length. Ours and TRL's run in processes of their own,
with 32-bit weights on one thread; the rows of nano itself say about what libraries and model need.
Left out: other shapes, where activations count for more; and GRPO, since noise has no success, and
without variance in a group ours trains on nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.in_turn import print_row
from benchmarks.trl_step import ours, their_words
from resd_bench.interop.cross_check_setup import CrossCheck, check_python
from resd_bench.packaged_models import packaged_folder

VOCABULARIES = {"nano's": 0, "49,152": 49_152, "151,936": 151_936}
METHODS = ("sdpo", "sft")


def widened(folder: Path, base: str, vocabulary: int) -> str:
    """A folder with the model `base` and as many tokens."""
    source = packaged_folder(base)
    model = AutoModelForCausalLM.from_pretrained(source)
    if vocabulary:
        model.resize_token_embeddings(vocabulary, mean_resizing=False)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return str(folder)


def peak_mib(words: list[str]) -> int:
    """The peak memory of a process, in MiB."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(words)[:200]} failed; its messages are above")
    return round(used.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="Python of an environment with TRL")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--ours", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    given = parser.parse_args()
    check = CrossCheck(given.python, updates=2, seeds=(0,), tasks=4, eval_tasks=1)
    if given.ours:
        ours(replace(check, model=given.model), given.ours)
        return
    peer = f"TRL {check_python(given.python)}"
    for name, vocabulary in VOCABULARIES.items():
        with tempfile.TemporaryDirectory() as scratch:
            model = widened(Path(scratch, "model"), check.model, vocabulary)
            for method in given.methods:
                words = [sys.executable, __file__, "--python", given.python, "--model", model]
                here = peak_mib([*words, "--ours", method])
                folder = Path(scratch, method)
                folder.mkdir()
                there = peak_mib(their_words(replace(check, model=model), method, folder))
                about = f"memory: an update of {method}, vocabulary of {name}"
                print_row(about, "MiB", ([here], [there]), peer)


if __name__ == "__main__":
    main()
