"""Episodes of many turns, in CPU seconds: read once against read anew at every turn.

    OMP_NUM_THREADS=1 python benchmarks/turns.py --episodes 32 --turns 9

Sampling: our engine with and without what it remembers of the last turn. Training: the gradient of
a distillation loss with the turns of an episode together, and with each turn by itself. One thread,
random weights of the embedded model's shape. The ways take turns; medians are printed, and the
largest difference of the gradients. Left out: environments, and teachers' longer prompts.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.generation import make_model, measure
from resd_bench.objective import TokenBatch, TokenObjective
from resd_bench.policy import trainer
from resd_bench.policy.engines.fast import FastEngine
from resd_bench.policy.engines.prefix_cache import PrefixCache
from resd_bench.policy.loading import parameters, tune_allocator
from resd_bench.policy.micro_batches import BatchLimits, TokenizedExample
from resd_bench.types import Sampling

LIMITS = BatchLimits(4096, 1 << 25)
Prompts = list[list[int]]


def divergence(batch: TokenBatch) -> Tensor:
    """[b, T] KL(student || teacher)."""
    assert batch.teacher_logits is not None
    p, q = batch.student_logits.log_softmax(-1), batch.teacher_logits.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


OBJECTIVE = TokenObjective(divergence)


def play(
    engine: FastEngine, prompts: Prompts, turns: int, observed: int, *, forget: bool
) -> list[list[TokenizedExample]]:
    """Rows by turn of episodes that begin with `prompts`."""
    rng, sampling = random.Random(0), Sampling(max_new_tokens=8)
    made = []
    for _ in range(turns):
        if forget:
            engine._memory = PrefixCache()
        said = engine.generate(prompts, n=1, sampling=sampling)
        answers = [one.token_ids for (one,) in said]
        made.append(
            [
                TokenizedExample(p, a, [7, *p], [], 0.0, 1.0)
                for p, a in zip(prompts, answers, strict=True)
            ]
        )
        prompts = [
            [*p, *a, *(rng.randrange(4, 500) for _ in range(observed))]
            for p, a in zip(prompts, answers, strict=True)
        ]
    return made


def gradient(model: Any, teacher: Any, steps: Sequence[Sequence[TokenizedExample]]) -> Tensor:
    """Of the losses of all rows; rows of different steps share nothing."""
    model.zero_grad()
    for rows in steps:
        trainer.backward(model, teacher, rows, OBJECTIVE, batch_size=32, limits=LIMITS)
    return torch.cat([p.grad.flatten() for p in trainer.trained(model)])


def timed(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Any]:
    """What each way gave, after its median time is printed beside the first one's."""
    given: dict[str, Any] = {}

    def giving(name: str) -> Callable[[], None]:
        return lambda: given.update({name: ways[name]()})

    medians = measure({name: giving(name) for name in ways}, repeats)
    slowest = max(medians.values())
    for name, seconds in medians.items():
        print(f"  {name:28s} {seconds:8.2f} s   {slowest / seconds:5.1f} x")
    return given


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--prompt", type=int, default=120, help="tokens before the first turn")
    parser.add_argument("--observed", type=int, default=30, help="tokens said at each turn")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    model, teacher = (make_model(128, 4, 2) for _ in range(2))
    rng = random.Random(1)
    prompts = [
        [rng.randrange(4, 500) for _ in range(options.prompt)] for _ in range(options.episodes)
    ]
    print(
        f"{parameters(model):,} parameters, {options.episodes} episodes of {options.turns} turns, "
        f"prompts of {options.prompt} tokens and {options.observed} more a turn"
    )
    engine = FastEngine(model, [1])
    turns, observed = options.turns, options.observed
    print("sampling, CPU seconds, median")
    given = timed(
        {
            "from the last turn on": lambda: play(engine, prompts, turns, observed, forget=False),
            "anew at every turn": lambda: play(engine, prompts, turns, observed, forget=True),
        },
        options.repeats,
    )
    same, fresh = given.values()
    agreed = sum(
        a.response == b.response
        for x, y in zip(same, fresh, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    print(f"  {agreed} of {options.episodes * turns} answers equal token by token")
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    print("gradient of a distillation loss, CPU seconds, median")
    given = timed(
        {
            "turns together": lambda: gradient(
                model, teacher, [[r for turn in fresh for r in turn]]
            ),
            "each turn by itself": lambda: gradient(model, teacher, fresh),
        },
        options.repeats,
    )
    together, apart = given.values()
    gap = float((together - apart).abs().max() / apart.abs().max())
    print(f"  largest difference {gap:.1e} of the largest")


if __name__ == "__main__":
    main()
