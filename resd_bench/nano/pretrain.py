"""Pre-train the embedded model: seeded, resumable, on two cores.

    python -m resd_bench nano pretrain --out nano-out

Documents are drawn block by block from a named seed stream, so that a resumed run sees exactly
what an uninterrupted one would; a separate process writes the next block meanwhile. Only replies
have full weight; the rest of a document teaches a little of what attempts and lessons look like.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.optim import Optimizer
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config

from resd_bench.errors import UsageError
from resd_bench.files import reading
from resd_bench.files.writing import refuse_links, write_atomically
from resd_bench.nano import attention
from resd_bench.nano import tokenizer as bpe
from resd_bench.nano.documents import Dials, Document, Recipe
from resd_bench.packaged_models import NANO_SETTINGS, SETTINGS_FILE
from resd_bench.policy.loading import local_path
from resd_bench.seeds import stream


@dataclass(frozen=True)
class PretrainConfig:
    """The complete configuration of a pre-training run."""

    curriculum: str = (
        "manufactoria-has,python-functions-basic,bouncingsim-basic,"
        "manufactoria-has,finer,textworld-coin"
    )
    """One, or several separated by commas, which take turns; one named twice gets two turns."""
    start: str = ""
    """Model to start from, whose tokenizer and shape are kept; "" for random weights."""
    seed: int = 0
    steps: int = 6_000
    batch_tokens: int = 6_144
    """Padded tokens per step."""
    learning_rate: float = 6e-3
    """For Muon (with updates scaled to the size of AdamW's) and for AdamW (embeddings, norms)."""
    warmup: int = 100
    weight_decay: float = 0.05
    context_weight: float = 0.1
    """Loss weight of tokens outside the reply."""
    vocabulary: int = 1_024
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 2
    feed_forward: int = 384
    block: int = 2_048
    """Number of documents drawn and sorted by length at a time."""
    threads: int = 1
    autocast: bool = True
    checkpoint_every: int = 200
    dials: Dials = field(default_factory=Dials)

    @property
    def environments(self) -> tuple[str, ...]:
        """The curricula in turn."""
        return tuple(name.strip() for name in self.curriculum.split(","))

    def documents(self, block: int) -> Recipe:
        """Block number `block` of the document stream."""
        return Recipe(self.environments, self.dials, self.seed, block, self.block)


def build_tokenizer(config: PretrainConfig) -> Any:
    """Train the tokenizer on two separate blocks of documents."""
    docs = config.documents(-1).write() + config.documents(-2).write()
    said = [
        t for d in docs for turn in d.turns for t in ("user\n", turn[0], "assistant\n", turn[1])
    ]
    return bpe.train(said, config.vocabulary)


def build_model(config: PretrainConfig, tokenizer: PreTrainedTokenizerFast) -> torch.nn.Module:
    """A Qwen3 model with random weights, or the model to start from."""
    if config.start:
        started: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
            local_path(config.start), trust_remote_code=False, use_safetensors=True
        )
        return started
    torch.manual_seed(config.seed)
    architecture = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden,
        intermediate_size=config.feed_forward,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.key_value_heads,
        head_dim=config.hidden // config.heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    architecture.update({"resd_dialect": "compact"})
    model: torch.nn.Module = AutoModelForCausalLM.from_config(architecture)
    return model


def build_optimisers(model: torch.nn.Module, config: PretrainConfig) -> list[Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    lr, decay = config.learning_rate, config.weight_decay
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr, weight_decay=0.0, betas=(0.9, 0.95)),
    ]


@dataclass(frozen=True, slots=True)
class _Row:
    """A tokenised document."""

    ids: tuple[int, ...]
    replies: tuple[tuple[int, int], ...]
    """Where each reply that is learned starts and ends, including its end mark."""
    given: tuple[tuple[int, int], ...] = ()
    """The same of replies before it that are not."""


def tokenise(docs: Sequence[Document], tokenizer: PreTrainedTokenizerFast) -> list[_Row]:
    """Apply the chat template and encode."""
    parts = [bpe.chat_parts(doc.turns) for doc in docs]
    flat = [text for pairs in parts for pair in pairs for text in pair]
    encoded = iter(tokenizer(flat, add_special_tokens=False)["input_ids"])
    rows = []
    for doc, pairs in zip(docs, parts, strict=True):
        ids: list[int] = []
        replies = []
        for _ in pairs:
            ids += next(encoded)
            reply = next(encoded)
            replies.append((len(ids), len(ids) + len(reply)))
            ids += reply
        given = len(replies) - 1 if doc.final_only else 0
        rows.append(_Row(tuple(ids), tuple(replies[given:]), tuple(replies[:given])))
    return rows


def batches(rows: Sequence[_Row], config: PretrainConfig, block: int) -> list[list[_Row]]:
    """Batches of rows of similar length, at most `batch_tokens` padded tokens, in random order."""
    out: list[list[_Row]] = [[]]
    for row in sorted(rows, key=lambda r: len(r.ids)):
        if len(row.ids) * (len(out[-1]) + 1) > config.batch_tokens:
            out.append([])
        out[-1].append(row)
    order = stream(config.seed, "batches", block).permutation(len(out))
    return [out[int(i)] for i in order]


def batch_loss(model: Any, rows: Sequence[_Row], config: PretrainConfig) -> torch.Tensor:
    """Weighted next-token loss of a batch, in nats per reply-equivalent token."""
    weight = loss_weights(rows, config)
    ids = torch.zeros(weight.shape, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.autocast):
        logits = model(input_ids=ids[:, :-1]).logits
    loss = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    scale = weight[:, 1:].flatten()
    return (loss * scale).sum() / scale.sum()


def loss_weights(rows: Sequence[_Row], config: PretrainConfig) -> torch.Tensor:
    """Weight [b, L] of each token in the loss."""
    weight = torch.zeros(len(rows), max(len(row.ids) for row in rows))
    for i, row in enumerate(rows):
        weight[i, : len(row.ids)] = config.context_weight
        for start, end in row.replies:
            weight[i, start:end] = 1.0
        for start, end in row.given:
            weight[i, start:end] = 0.0
    return weight


def learning_rate(config: PretrainConfig, step: int) -> float:
    """Linear warm-up, a plateau, and linear decay to a fiftieth over the last third."""
    warm = min(1.0, (step + 1) / config.warmup)
    left = (config.steps - step) / (config.steps / 3)
    return config.learning_rate * warm * max(0.02, min(1.0, left))


@dataclass
class PretrainProgress:
    """The position of a pre-training run."""

    step: int = 0
    block: int = 0
    at: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    """Running mean."""
    data_hash: str = ""


def stream_batches(
    config: PretrainConfig, tokenizer: PreTrainedTokenizerFast, progress: PretrainProgress
) -> Iterator[list[_Row]]:
    """All batches from `progress` on; `progress` is kept up to date."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as writer:
        coming = writer.submit(config.documents(progress.block).write)
        while True:
            rows = tokenise(coming.result(), tokenizer)
            coming = writer.submit(config.documents(progress.block + 1).write)
            digest = hashlib.sha256(progress.data_hash.encode())
            for row in rows:
                digest.update(repr(row.ids).encode())
            queue = batches(rows, config, progress.block)
            while progress.at < len(queue):
                progress.at += 1
                yield queue[progress.at - 1]
            progress.block, progress.at = progress.block + 1, 0
            progress.data_hash = digest.hexdigest()


def pretrain(
    config: PretrainConfig, out: Path, report: Callable[[PretrainProgress], None] = lambda _: None
) -> Path:
    """Train, or resume training, in `out`; returns the folder of the finished model."""
    out.mkdir(parents=True, exist_ok=True)
    refuse_links(out)
    _refuse_others(config, out)
    torch.set_num_threads(config.threads)
    tokenizer = _tokenizer(config, out)
    model: Any = build_model(config, tokenizer)
    model.set_attn_implementation(attention.ATTENTION)
    optimisers = build_optimisers(model, config)
    progress = _restore(out / "checkpoint.pt", model, optimisers)
    source = stream_batches(config, tokenizer, progress)
    while progress.step < config.steps:
        began = time.perf_counter()
        rows = next(source)
        loss = batch_loss(model, rows, config)
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, progress.step)
            optimiser.step()
        progress.step += 1
        progress.tokens += sum(len(row.ids) for row in rows)
        progress.seconds += time.perf_counter() - began
        progress.loss += (loss.item() - progress.loss) * max(0.02, 1.0 / progress.step)
        if progress.step % config.checkpoint_every == 0 or progress.step == config.steps:
            _save(out / "checkpoint.pt", model, optimisers, progress)
        report(progress)
    return _export(out, model, tokenizer, config, progress)


def _export(
    out: Path, model: Any, tokenizer: Any, config: PretrainConfig, progress: PretrainProgress
) -> Path:
    """Write the model in the format of `from_pretrained`, with a record of how it was made.

    Runs with it have the settings of nano, whose size it has.
    """
    folder = out / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    made = {"config": asdict(config), "progress": asdict(progress), "weights_sha256": weights}
    write_atomically(folder / SETTINGS_FILE, NANO_SETTINGS.read_bytes(), out)
    write_atomically(folder / "pretraining.json", json.dumps(made, indent=2).encode() + b"\n", out)
    return folder


def _refuse_others(config: PretrainConfig, out: Path) -> None:
    """UsageError where `out` holds a pre-training with other settings, which it would go on with.

    Another number of steps, of threads, or between checkpoints makes no other model of the start.
    """
    path = out / "config.json"
    if not path.is_file():
        return
    try:
        saved = reading.parse_json(reading.read_bytes(path))
        saved["dials"] = asdict(Dials(**saved["dials"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} is damaged ({error}): give another --out") from None
    free = ("steps", "threads", "checkpoint_every")
    now = json.loads(json.dumps(asdict(config)))
    if other := [k for k in saved if k not in free and saved[k] != now.get(k)]:
        raise UsageError(
            f"{out} holds a pre-training with other settings ({', '.join(other)}): give them "
            "again, or another --out"
        )


def _tokenizer(config: PretrainConfig, out: Path) -> Any:
    folder = out / "tokenizer"
    if not folder.is_dir():
        made = (
            PreTrainedTokenizerFast.from_pretrained(local_path(config.start))
            if config.start
            else build_tokenizer(config)
        )
        made.save_pretrained(folder)
        write_atomically(out / "config.json", json.dumps(asdict(config), indent=2).encode() + b"\n")
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _save(
    path: Path, model: Any, optimisers: Sequence[Optimizer], progress: PretrainProgress
) -> None:
    state = {
        "model": model.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "progress": asdict(progress),
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def _restore(path: Path, model: Any, optimisers: Sequence[Optimizer]) -> PretrainProgress:
    if not path.exists():
        return PretrainProgress()
    try:
        state = reading.load_tensors(reading.read_bytes(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is damaged ({error}): remove it, or give another --out") from None
    model.load_state_dict(state["model"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return PretrainProgress(**state["progress"])
