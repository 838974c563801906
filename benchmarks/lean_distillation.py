"""Peak memory and time of the distillation loss over a large vocabulary: in pieces against whole.

    OMP_NUM_THREADS=1 python benchmarks/lean_distillation.py

One response of 2,048 tokens over 151,936 token ids (Qwen3's), top-100 with a tail, hidden states of
64 numbers so that the vocabulary is what costs. Each way runs in a process of its own, whose peak
resident memory is read when it ends, less what it was before the loss. Gradients with respect to
student states and output weights are compared. Left out: the body of the model, which both share.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from resd_baselines.losses import distillation_objective
from resd_bench.objective import TokenBatch, TokenObjective
from resd_bench.policy.chunked_loss import Head, chunked_loss
from resd_bench.policy.config import PolicyConfig

WAYS = ("whole", "pieces")
VOCABULARY = 151_936
PIECE = PolicyConfig().micro_batch_logits // VOCABULARY
"""Tokens, as in training."""


def objective() -> TokenObjective:
    """RESD's loss on Manufactoria."""
    return distillation_objective(
        divergence="reverse_kl",
        mixture=0.5,
        top_k=100,
        tail=True,
        clip_low=0.2,
        clip_high=None,
        importance_cap=2.0,
        aggregation="mean",
        temperature=1.0,
    )


def batch(student: Tensor, teacher: Tensor, ids: Tensor, tokens: int) -> TokenBatch:
    """`tokens` sequences of equal length as the objective sees them."""
    shape, device = ids.shape, student.device
    return TokenBatch(
        student_logits=student,
        teacher_logits=teacher,
        token_ids=ids,
        mask=torch.ones(shape, device=device),
        behaviour_logprobs=torch.full(shape, -12.0, device=device),
        advantages=torch.zeros(tokens, device=device),
        weights=torch.ones(tokens, device=device),
    )


def loss_whole(head: Head, states: Tensor, taught: Tensor, ids: Tensor) -> Tensor:
    """With all logits of both sides at once."""
    with torch.no_grad():
        teacher = head(taught)[None]
    losses: Tensor = objective()(batch(head(states)[None], teacher, ids[None], 1))
    return losses.sum()


def loss_pieces(head: Head, states: Tensor, taught: Tensor, ids: Tensor, size: int) -> Tensor:
    """With `size` tokens at a time."""
    per_token, count = objective().per_token, len(ids)

    def loss(student: Tensor, piece: slice) -> Tensor:
        with torch.no_grad():
            teacher = head(taught[piece])[:, None]
        terms: Tensor = per_token(batch(student[:, None], teacher, ids[piece, None], len(student)))
        return terms.sum() / count

    return chunked_loss(head, states, loss, size)


def peak_mib(device: str) -> float:
    """Peak memory of this process so far: resident on a CPU, allocated on a GPU."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str, args: argparse.Namespace) -> dict[str, float]:
    """Run one way in this process, and save its gradients beside what it cost."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(args.device)

    linear = torch.nn.Linear(args.hidden, args.vocabulary, bias=False)
    linear.weight.data = drawn(args.vocabulary, args.hidden) * 3 / args.hidden**0.5
    head, states = Head(linear), drawn(args.tokens, args.hidden).requires_grad_()
    taught = states.detach() + 0.2 * drawn(args.tokens, args.hidden)
    ids = torch.randint(args.vocabulary, (args.tokens,), generator=generator).to(args.device)
    before, start, cpu = peak_mib(args.device), time.perf_counter(), time.process_time()
    if way == "whole":
        loss = loss_whole(head, states, taught, ids)
    else:
        loss = loss_pieces(head, states, taught, ids, args.piece)
    loss.backward()  # type: ignore[no-untyped-call]
    value = float(loss.detach())
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = peak_mib(args.device) - before
    torch.save({"states": states.grad, "weight": linear.weight.grad}, args.gradients)
    return {"loss": value, "seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak}


def run(way: str, args: argparse.Namespace, gradients: Path) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--gradients", str(gradients)]
    for name in ("tokens", "vocabulary", "hidden", "piece", "device"):
        command += [f"--{name}", str(getattr(args, name))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compare(args: argparse.Namespace) -> None:
    """Run both ways and print what they cost and how far their gradients are apart."""
    with tempfile.TemporaryDirectory() as folder:
        files = {way: Path(folder) / f"{way}.pt" for way in WAYS}
        costs = {way: run(way, args, files[way]) for way in WAYS}
        whole, pieces = (torch.load(files[way]) for way in WAYS)
    print(f"T {args.tokens}, V {args.vocabulary}, d {args.hidden}, {args.piece} tokens to a piece")
    for way, cost in costs.items():
        print(
            f"{way:8} loss {cost['loss']:.7f}  peak {cost['peak_mib']:8.0f} MiB  "
            f"{cost['seconds']:6.2f} s  CPU {cost['cpu_seconds']:6.2f} s"
        )
    for name, expected in whole.items():
        gap = float((pieces[name] - expected).abs().max())
        print(f"gradient of {name}: largest {float(expected.abs().max()):.2e}, gap {gap:.2e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--piece", type=int, default=PIECE)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--gradients", type=Path)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(measure(args.way, args)))
    else:
        compare(args)


if __name__ == "__main__":
    main()
