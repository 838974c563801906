"""CPU seconds of an update's gradient: ours beside its matrix products alone.

    OMP_NUM_THREADS=1 python benchmarks/update_products.py [--model "10 M"]

The three models of `generation_sizes.py`, random token ids, prompts of 120 tokens, teacher's
prompts of 200, answers of 48. Ours is the gradient of a divergence between student and teacher. The
products are those that it cannot do without: of every weight matrix once for the teacher, and three
times for the student (its output, and the gradients of its input and of the weights), those of the
vocabulary for tokens of answers only; and those of attention, with all pairs of positions. Left
out: the optimiser.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.generation_sizes import load
from benchmarks.growth import ids
from benchmarks.in_turn import in_turn, of_call, print_row
from benchmarks.turns import LIMITS, OBJECTIVE
from resd_bench.policy import trainer
from resd_bench.policy.micro_batches import TokenizedExample

TURNS, TARGET = 3, 0.8
PROMPT, TAUGHT, NEW = 120, 200, 48
EXAMPLES = {"nano": 32, "10 M": 16, "SmolLM2's shape": 4}


def examples(number: int) -> list[TokenizedExample]:
    """Rows of equal length, so that nothing is padded."""
    return [
        TokenizedExample(ids(PROMPT, n), ids(NEW, n + 7), ids(TAUGHT, n), [], 0.0, 1.0)
        for n in range(number)
    ]


def ours(model: Any, number: int) -> Callable[[], None]:
    """The gradient that an update takes a step along."""
    teacher, rows = copy.deepcopy(model), examples(number)

    def run() -> None:
        model.zero_grad(set_to_none=True)
        trainer.backward(model, teacher, rows, OBJECTIVE, batch_size=number, limits=LIMITS)

    return run


def products(model: Any, number: int) -> Callable[[], None]:
    """The products of `number` examples."""
    head = model.get_output_embeddings().weight
    body = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)]
    body = [weight for weight in body if weight is not head]
    student, teacher, answer = PROMPT + NEW, TAUGHT + NEW, NEW
    config, size = model.config, model.model.layers[0].self_attn.head_dim

    def linear(weight: Tensor, tokens: int, *, learns: bool) -> Callable[[], None]:
        given, grad = (torch.randn(tokens, width) for width in reversed(weight.shape))

        def run() -> None:
            given @ weight.T
            if learns:
                grad @ weight
                grad.T @ given

        return run

    def attention(tokens: int, *, learns: bool) -> Callable[[], None]:
        queries = torch.randn(number * config.num_attention_heads, tokens, size)
        scores = torch.randn(number * config.num_attention_heads, tokens, tokens)

        def run() -> None:
            # Of queries with keys, and of weights with values; each has two gradients.
            for _ in range(3 if learns else 1):
                torch.bmm(queries, queries.transpose(1, 2))
                torch.bmm(scores, queries)

        return run

    work = [
        part
        for tokens, learns in ((student, True), (teacher, False))
        for part in (
            *(linear(weight, number * tokens, learns=learns) for weight in body),
            linear(head, number * answer, learns=learns),
            *([attention(tokens, learns=learns)] * config.num_hidden_layers),
        )
    ]

    def run() -> None:
        with torch.inference_mode():
            for part in work:
                part()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=EXAMPLES, help="only this one")
    asked = parser.parse_args().model
    torch.set_num_threads(1)
    for name in [asked] if asked else EXAMPLES:
        model, number = load(name)[0].float(), EXAMPLES[name]
        tried = {"ours": ours(model, number), "products": products(model, number)}
        tried["ours"]()
        costs = in_turn({way: of_call(work) for way, work in tried.items()}, TURNS)
        about = f"training: the gradient of {name}, {number} answers, products"
        row = (costs["ours"], costs["products"])
        print_row(about, "CPU s", row, "matrix products alone", target_ratio=TARGET)


if __name__ == "__main__":
    main()
