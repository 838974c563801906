"""Episodes of many turns: read once against read anew at every turn, together against in slots.

    OMP_NUM_THREADS=1 python -m benchmarks.turns --episodes 32 --turns 9

Sampling: our engine with and without what it remembers of the last turn. Training: the gradient of
a distillation loss with the turns of an episode together, and with each turn by itself. Rollouts:
episodes of 1 to twice as many turns, in an environment that takes a while, all of them turn by turn
together, and in slots (`--rollout-slots`). One thread, random weights of the embedded model's
shape. The ways take turns; medians are printed, and the largest difference of the gradients. Left
out: teachers' longer prompts.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.generation import make_model, measure
from resd_bench.budget import Ledger
from resd_bench.env import Reply, TextEnv
from resd_bench.objective import TokenBatch, TokenObjective
from resd_bench.policy import trainer
from resd_bench.policy.engines.fast import FastEngine
from resd_bench.policy.engines.prefix_cache import PrefixCache
from resd_bench.policy.loading import parameters, tune_allocator
from resd_bench.policy.micro_batches import BatchLimits, TokenizedExample
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.types import Completion, Feedback, Messages, Sampling, Split, Task

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
    return torch.cat([g.flatten() for p in trainer.trained(model) if (g := p.grad) is not None])


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


class Corridor(TextEnv):
    """Says some tokens after each action, and takes its time; an episode ends after its turns."""

    name = "corridor"
    max_turns = 10_000

    def __init__(self, tasks: Sequence[Task], observed: int, seconds: float) -> None:
        super().__init__()
        self._tasks, self._observed, self._seconds = tasks, observed, seconds

    def tasks(self, split: Split) -> Sequence[Task]:
        return self._tasks if split == "train" else []

    def opening(self, task: Task) -> str:
        self._left, self._rng = task.data["turns"], random.Random(task.id)
        return task.prompt

    def reply(self, task: Task, action: str) -> Reply:
        time.sleep(self._seconds)
        self._left -= 1
        if not self._left:
            return Reply(feedback=Feedback(1.0, True, 1.0))
        return Reply(said(self._rng, self._observed))


def said(rng: random.Random, tokens: int) -> str:
    """A text of so many tokens: their numbers."""
    return " ".join(str(rng.randrange(4, 500)) for _ in range(tokens))


def rollouts(engine: FastEngine, options: argparse.Namespace) -> None:
    """Print what whole rollouts cost, with all episodes together and in slots."""
    rng = random.Random(2)
    tasks = [
        Task(
            f"train-{n}",
            "train",
            said(rng, options.prompt),
            {"turns": rng.randint(1, 2 * options.turns)},
        )
        for n in range(options.episodes)
    ]

    def act(prompts: Sequence[Messages], *, n: int, sampling: Sampling, **_: Any) -> Any:
        ids = [[int(i) for m in chat for i in m.content.split()] for chat in prompts]
        made = engine.generate(ids, n=n, sampling=sampling, numbers=sampling.numbers(len(ids)))
        return [
            [Completion(" ".join(map(str, one.token_ids)), one.token_ids) for one in group]
            for group in made
        ]

    def once(slots: int) -> tuple[float, float]:
        pool = EnvPool(lambda: Corridor(tasks, options.observed, options.env_ms / 1000))
        pool.slots = slots
        wall, cpu = time.perf_counter(), time.process_time()
        roll_out(
            act,
            pool,
            tasks,
            n=1,
            sampling=Sampling(max_new_tokens=8),
            purpose="rollout",
            ledger=Ledger(),
            seed=0,
        )
        pool.close()
        return time.process_time() - cpu, time.perf_counter() - wall

    ways = [0, *options.slots]
    taken: dict[int, list[tuple[float, float]]] = {slots: [] for slots in ways}
    for _ in range(options.repeats):
        for slots in ways:
            taken[slots].append(once(slots))
    turns = sum(task.data["turns"] for task in tasks)
    print(f"rollouts of {len(tasks)} episodes, {turns} turns of {options.env_ms:g} ms, medians")
    for slots, seconds in taken.items():
        cpu, wall = (statistics.median(own) for own in zip(*seconds, strict=True))
        name = f"{slots} slots" if slots else "all together"
        print(
            f"  {name:14s} {cpu:6.2f} CPU s   {wall:6.2f} s   "
            f"{len(tasks) / cpu:6.1f} episodes per CPU s   {len(tasks) / wall:6.1f} per s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--prompt", type=int, default=120, help="tokens before the first turn")
    parser.add_argument("--observed", type=int, default=30, help="tokens said at each turn")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slots", type=int, nargs="*", default=[16, 32], help="of rollouts")
    parser.add_argument("--env-ms", type=float, default=2.0, help="of a step of the environment")
    parser.add_argument("--only-rollouts", action="store_true")
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
    if options.only_rollouts:
        rollouts(engine, options)
        return
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
    rollouts(engine, options)


if __name__ == "__main__":
    main()
