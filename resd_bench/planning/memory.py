"""What a run will need of a machine, before it starts: tokens and memory, from its configuration.

    python -m resd_bench run --config FILE --dry-run --gpus 8 --gpu-memory 141GB

The memory needed is that of the largest of the phases. While sampling, a run holds weights,
optimiser, teacher and the sampler's cache; while training, also gradients, the activations of a
micro-batch and the logits of one chunk of the loss; while it saves from main memory, a copy of what
a checkpoint holds. What a layer keeps per token follows the operations of a `transformers` decoder,
see `_layer_bytes`. Tests compare the training step with measurements, within `WITHIN`. Left out:
what an allocator wastes, CUDA itself (`RESERVED`), and the main memory of a machine with a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from resd_bench.agent import Load
from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.planning.architecture import Architecture
from resd_bench.policy import limits
from resd_bench.policy.engines import registry
from resd_bench.policy.engines.registry import Weights

WITHIN = 1.25
"""A measured peak of a training step is at most this factor above or below the estimate."""
RESERVED = 0.92
"""Fraction of a device's memory to plan with: the rest is for the driver and the allocator."""
CHARACTERS_PER_TOKEN = 3
"""Per token of a prompt, without a tokenizer; English has 4 to 5, programs and numbers 2 to 3."""
_LOGIT_TENSORS = 4
"""Logit-sized tensors that a loss holds at once: student and teacher, and their gradients."""
_SAMPLING_LOGIT_BYTES = 24
"""Bytes per token id and row: logits, probabilities, their order and their float64 sums."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware that a run may use."""

    gpus: int = 1
    bytes_each: float | None = None
    """Memory of one device; None if unknown."""
    name: str = "GPU"
    shared: bool = False
    """Whether the weights are sharded over processes (FSDP); otherwise each holds a copy."""
    main_memory: bool = False
    """Whether its memory is the one that checkpoints are copied to before they are written."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths, in tokens, of what a run reads and writes."""

    prompt: int
    """The longest first prompt of a task."""
    completion: int
    """Length of a completion: the longest possible, or the expected one."""
    turns: int = 1
    """Maximum number of completions in an episode."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts of one update, and of one evaluation."""

    rollouts: int
    """Sampled by attempts."""
    own: int
    """Sampled by the method itself."""
    scored: int
    """Read by the teacher, prompt and completion."""
    trained: int
    """Read by the student, prompt and completion."""
    evaluation: int
    """Sampled by one evaluation."""
    read: int
    """Prompts of everything sampled in the update."""

    def flops(self, active: int, adapter: bool) -> float:
        """Of an update, as the ledger counts: 2 per weight and token forward, 6 (4) for training.

        Attention, which grows with the square of the length, is not included.
        """
        forward = self.rollouts + self.own + self.read + self.scored
        return active * (2.0 * forward + (4.0 if adapter else 6.0) * self.trained)


@dataclass(frozen=True, slots=True)
class Part:
    """One use of memory, in bytes on the fullest device."""

    name: str
    bytes: float
    remedy: str
    """The flag that would reduce it."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The parts of each phase."""

    sampling: Sequence[Part]
    training: Sequence[Part]
    saving: Sequence[Part] = ()
    """While a checkpoint is written from main memory; it is copied to there from a GPU."""

    @property
    def phases(self) -> Mapping[str, Sequence[Part]]:
        """The parts of each phase, by its name."""
        found = {"sampling": self.sampling, "training": self.training, "saving": self.saving}
        return {name: parts for name, parts in found.items() if parts}

    @property
    def largest(self) -> str:
        """The phase that takes most."""
        return max(self.phases, key=lambda name: total(self.phases[name]))

    @property
    def peak(self) -> Sequence[Part]:
        """The parts of that phase, the largest first."""
        return sorted(self.phases[self.largest], key=lambda part: -part.bytes)


def total(parts: Sequence[Part]) -> float:
    """Bytes of all parts."""
    return sum(part.bytes for part in parts)


def teacher_prompt(lengths: Lengths, load: Load, context: int) -> int:
    """Tokens of the teacher's prompt; sections are dropped until a completion fits after it."""
    full = lengths.prompt + load.shown * lengths.completion + load.shown_tokens
    return max(min(full, context - lengths.completion), lengths.prompt)


def count_tokens(
    config: RunConfig, lengths: Lengths, load: Load, held_out: int, context: int
) -> Tokens:
    """Tokens of an update and of an evaluation on `held_out` tasks, at the given lengths."""
    attempts = config.batch_size * (config.group_size or 1)
    completions = attempts * lengths.turns
    row = lengths.prompt + lengths.completion
    own = attempts * load.samples
    scored = completions * (load.teacher + load.scores)
    return Tokens(
        rollouts=completions * lengths.completion,
        own=own * lengths.completion,
        scored=scored * (teacher_prompt(lengths, load, context) + lengths.completion),
        trained=completions * row,
        evaluation=held_out * config.eval_samples * lengths.turns * lengths.completion,
        # What a method asks about an attempt shows it next to the task.
        read=completions * lengths.prompt + own * (row + load.shown_tokens),
    )


def memory(
    config: RunConfig, model: Architecture, lengths: Lengths, load: Load, machine: Machine
) -> Memory:
    """The memory of a run at the given lengths, on the fullest device; `model` is `limited`.

    Weights, and what belongs to them, are divided among the GPUs that the configuration uses.
    """
    divided = ways(config, machine), config.device_map is not None
    plan = _Plan(config, model, lengths, load, *divided, machine.main_memory)
    weights, kept = plan.weights(), plan.kept_while_sampling()
    sampling = [weights, *kept, plan.gathered(), plan.sampler(), plan.cache(), plan.choosing()]
    training = [weights, *plan.kept_while_training(), plan.gradients(), *plan.passing()]
    training += [plan.layer(), *plan.resident()]
    saving = plan.saving() if machine.main_memory else []
    phases = (sampling, training, saving)
    return Memory(*([part for part in parts if part.bytes >= 1] for parts in phases))


def limited(model: Architecture, config: RunConfig) -> Architecture:
    """The model with its context cut to the run's limit."""
    return replace(model, context=min(model.context, config.context_limit or model.context))


def ways(config: RunConfig, machine: Machine) -> int:
    """Number of GPUs that the weights are divided among."""
    return machine.gpus if config.device_map is not None or machine.shared else 1


@dataclass(frozen=True, slots=True)
class _Plan:
    """The terms of `memory`."""

    config: RunConfig
    model: Architecture
    lengths: Lengths
    load: Load
    ways: int
    """Number of devices that the weights are divided among."""
    by_layer: bool
    """Whether a device holds whole layers (`--device-map`) rather than a shard of each (FSDP)."""
    on_cpu: bool
    """Whether the device is the processor, for which the fast engine packs weights."""

    @property
    def adapter(self) -> int:
        """Parameters of the adapter; 0 if all weights are trained."""
        return self.model.adapted * self.config.lora_rank

    @property
    def width(self) -> int:
        """Bytes of a weight of the model."""
        frozen = self.config.precision == "mixed" and self.adapter > 0
        return 2 if frozen or self.config.precision == "bfloat16" else 4

    @property
    def trained(self) -> int:
        """Bytes of all trained parameters."""
        return self.adapter * 4 if self.adapter else self.model.parameters * self.width

    @property
    def rows(self) -> int:
        """Number of sequences decoded together."""
        each = self.lengths.prompt + self.lengths.completion
        held = limits.HF_BATCH_TOKENS
        if self.fast:
            held = limits.fast_batch_tokens(self._cache_per_token())
        asked = self.config.batch_size * (self.config.group_size or 1)
        return max(1, min(held // each, asked))

    @property
    def fast(self) -> bool:
        """Whether the fast engine samples."""
        able = self.model.kind in limits.FAST_ARCHITECTURES and not self.by_layer
        return able and self.config.engine in ("auto", "fast")

    def _cache_per_token(self) -> int:
        return limits.cache_bytes_per_token(self.model.layers, self.model.keys, self.loop_width)

    @property
    def loop_width(self) -> int:
        """Bytes of a number in the sampling loop: the fast engine computes mixed runs in 2."""
        return 2 if self.fast and self.config.precision == "mixed" else self.width

    @property
    def depth(self) -> int:
        """Number of devices that the layers, and thus their computation, are divided among."""
        return self.ways if self.by_layer else 1

    def _shared(self, name: str, size: float, remedy: str) -> Part:
        return Part(name, size / self.ways, remedy)

    def _trained(self, name: str, size: float, remedy: str) -> Part:
        """Of what is trained; FSDP shards the model, and not an adapter."""
        whole = self.adapter and not self.by_layer
        return Part(name, size / (1 if whole else self.ways), remedy)

    def weights(self) -> Part:
        remedy = "--device-map auto on more GPUs, or a smaller --model"
        if self.width == 4 and not (self.adapter or self.config.precision == "bfloat16"):
            remedy = self._train_less()
        model = self._shared("weights", self.model.parameters * self.width, remedy)
        adapter = self._trained("adapter", self.adapter * 4, remedy)
        return replace(model, bytes=model.bytes + adapter.bytes)

    def optimiser(self) -> Part:
        return self._trained("optimiser (Adam's moments)", 2 * self.trained, self._train_less())

    def gradients(self) -> Part:
        return self._trained("gradients", self.trained, self._train_less())

    def _train_less(self) -> str:
        if self.adapter:
            return "a smaller --lora-rank"
        mixed = self.config.precision == "mixed"
        return "--lora-rank 16" if mixed else "--precision mixed --lora-rank 16"

    def teacher(self) -> float:
        """Bytes of the teacher's weights on the device that scores."""
        if not self.load.teacher:
            return 0
        if self.adapter:
            return self.adapter * 4
        return self.model.parameters * (2 if self.config.teacher_precision == "bfloat16" else 4)

    def remainder(self) -> float:
        """Bytes of the rounding errors kept for a moving bfloat16 teacher."""
        moves = self.config.method_options.get("teacher", "ema") == "ema"
        rounded = self.config.teacher_precision == "bfloat16" and not self.adapter
        kept = self.load.teacher and rounded and moves and not self.config.teacher_offload
        return self.model.parameters * 4 * kept

    def kept_while_sampling(self) -> list[Part]:
        away = self.config.teacher_offload and not self.adapter
        size = 0 if away else self.teacher() + self.remainder()
        return [self.optimiser(), self._trained("teacher", size, "--teacher-offload true")]

    def kept_while_training(self) -> list[Part]:
        size = self.teacher() + self.remainder()
        remedy = "--teacher-offload true" if self.remainder() else self._train_less()
        return [self.optimiser(), self._trained("teacher", size, remedy), self._cast()]

    def saving(self) -> list[Part]:
        """A checkpoint copies everything that changes: weights, moments and teacher."""
        copied = 3 * self.trained + self.teacher() + self.remainder()
        copy = Part("copy of what a checkpoint holds", copied, self._train_less())
        return [self.weights(), *self.kept_while_sampling(), copy, *self.resident()]

    def _cast(self) -> Part:
        """Autocast keeps a bfloat16 copy of each trained weight until the pass is over.

        Under FSDP only the graph of the pass does, which with checkpointing is one layer's.
        """
        mixed = self.config.precision == "mixed"
        if self.fsdp and self.config.gradient_checkpointing:
            size = mixed * self._layer_weights * 2.0 * (not self.adapter)
            return Part("bfloat16 copies of weights", size, self._train_less())
        size = mixed * self.trained / 2 / self.depth
        return Part("bfloat16 copies of weights", size, self._train_less())

    def gathered(self) -> Part:
        """FSDP: what is unsharded while a process samples, which is all weights.

        An engine that copies them takes over one tensor at a time and is checked by one pass.
        """
        weights = self._layer_weights if self.engine_weights == "copy" else self.model.parameters
        size = weights * self.width * self.fsdp
        return Part("weights gathered to sample", size, "--engine vllm, or a smaller --model")

    def layer(self) -> Part:
        """FSDP: one layer and the embeddings, unsharded, of student and teacher."""
        teacher = 4 * (self.load.teacher and not self.adapter)
        size = self._layer_weights * (self.width + teacher) * self.fsdp
        return Part("gathered layers", size, "--device-map auto")

    @property
    def fsdp(self) -> bool:
        """Whether each weight is divided among the devices."""
        return self.ways > 1 and not self.by_layer

    @property
    def _layer_weights(self) -> float:
        """Weights that FSDP gathers for a pass at a time: a layer's and the embeddings'."""
        m = self.model
        return (m.parameters - m.embeddings) / m.layers + m.embeddings

    @property
    def engine_weights(self) -> Weights:
        """Whose weights the engine samples with."""
        spec = registry.find_engine(self.config.engine)
        return spec.weights if spec else "trainer"

    @property
    def _copy_width(self) -> int:
        """Bytes of a weight and of a cached number in an engine that has its own copy."""
        return 4 if self.config.precision == "float32" else 2

    def resident(self) -> list[Part]:
        """What an engine keeps while the run trains."""
        return [self.sampler(), self.cache()] if self.engine_weights == "copy" else []

    def sampler(self) -> Part:
        """The engine's own weights: a whole copy, or the fused ones of the fast engine.

        The fast engine copies neither the embedding nor, if it does not pack them, the output
        projections of a block.
        """
        m, fused = self.model, 0
        if self.engine_weights == "copy":
            size = m.parameters * self._copy_width
            remedy = "--engine openai, a server on other GPUs"
            return Part(f"weights of {self.config.engine}", size, remedy)
        if self.fast:
            width = m.queries + 2 * m.keys + 2 * m.feed_forward
            if self.on_cpu and limits.fast_packs(m.hidden, self.config.max_new_tokens):
                width += m.queries + m.feed_forward
            fused = m.layers * m.hidden * width + m.output
        if self.loop_width < self.width:
            # Of another precision are all weights, and the norm is multiplied into a tied output.
            fused = m.parameters + m.output * m.tied
        return Part("sampler's copy of weights", fused * self.loop_width, "--engine hf")

    def cache(self) -> Part:
        """Keys and values of the sequences decoded together, at their longest.

        An engine with its own copy of the weights takes what `--engine-memory` says, any other at
        least one sequence of the whole context.
        """
        m = self.model
        if self.engine_weights == "elsewhere":
            return Part("sampler's cache", 0, "")
        if self.engine_weights == "copy":
            one = limits.cache_bytes_per_token(m.layers, m.keys, self._copy_width) * m.context
            asked = self.config.engine_memory
            size = float(one) if asked is None else asked * 2**30
            remedy = "a smaller --engine-memory or --context-limit"
            return Part(f"cache of {self.config.engine}", size, remedy)
        tokens = self.rows * (self.lengths.prompt + self.lengths.completion)
        size = tokens * self._cache_per_token() / self.depth
        return Part("sampler's cache", size, "a smaller --max-new-tokens")

    def choosing(self) -> Part:
        """Logits of the rows, and one forward pass over their prompts."""
        if self.engine_weights != "trainer":
            return Part("sampler's activations", 0, "")
        prompts = -(-self.rows // (self.config.group_size or 1)) * self.lengths.prompt
        prefill = prompts
        if self.fast:
            prefill = max(min(prompts, limits.FAST_PREFILL_TOKENS), self.lengths.prompt)
        choice = self.rows * self.model.vocabulary * _SAMPLING_LOGIT_BYTES
        size = choice + prefill * _forward_bytes(self.model, self.loop_width)
        return Part("sampler's activations", size, "a smaller --batch-size")

    def micro_batch(self) -> tuple[int, int, int]:
        """Rows of a micro-batch, and their tokens for the student and for the teacher."""
        student = self.lengths.prompt + self.lengths.completion
        teacher = 0
        if self.load.teacher:
            prompt = teacher_prompt(self.lengths, self.load, self.model.context)
            teacher = prompt + self.lengths.completion
        logits = self.lengths.completion * self.model.vocabulary
        rows = limits.micro_batch_rows(student + teacher, logits)
        rows = min(rows, self.config.batch_size * (self.config.group_size or 1))
        return rows, rows * student, rows * teacher

    def passing(self) -> list[Part]:
        """What is held from the forward to the backward pass of one micro-batch.

        Some of it is held throughout; of the rest, only the largest counts.
        """
        rows, student, teacher = self.micro_batch()
        size = 2 if self.config.precision != "float32" else 4
        layer, layers = student * _layer_bytes(self.model, size), self.model.layers
        shorter = "a smaller --max-new-tokens"
        moments = [
            Part("the teacher's pass", teacher * _forward_bytes(self.model, size), shorter),
            Part("logits of the loss", self._logits(rows), shorter),
        ]
        kept, remedy = layers * layer, "--gradient-checkpointing true"
        if self.config.gradient_checkpointing:
            # The inputs of all layers, and everything in the one that is being recomputed.
            kept, remedy = (
                layers * student * self.model.hidden * (4 if self.width == 4 else 2),
                shorter,
            )
            moments.append(Part("one layer computed again", layer, shorter))
        largest = max(moments, key=lambda part: part.bytes)
        return [Part("activations", kept / self.depth, remedy), largest]

    def _logits(self, rows: int) -> float:
        """Float32 logits of a chunk, and the output layer's gradient before it is added."""
        whole = rows * self.lengths.completion * self.model.vocabulary
        gradient = 0 if self.adapter else self.model.output * 4
        return min(whole, limits.MICRO_BATCH_LOGITS) * 4 * _LOGIT_TENSORS + gradient


def _layer_bytes(model: Architecture, size: int) -> float:
    """What one layer keeps per token for its backward pass; `size` is 2 under bfloat16.

    Sizes: d hidden, q and k queries and keys, f feed-forward. Two norms keep their input, their
    normed input and what linear maps read; attention keeps queries and keys raw, normed and
    rotated, values, keys and values repeated for all heads, and its output twice; the feed-forward
    block keeps gate, up, the activated gate and their product. In bfloat16, norms keep float32
    inputs, and every linear map a rounded copy of its own.
    """
    d, q, k, f = model.hidden, model.queries, model.keys, model.feed_forward
    if size == 4:
        return 4 * (6 * d + 7 * q + 4 * k + 4 * f)
    return 26 * d + 18 * q + 12 * k + 8 * f


def _forward_bytes(model: Architecture, size: int) -> float:
    """Bytes that a forward pass without gradients holds per token, at the peak of a layer."""
    feed_forward = 3 * model.feed_forward * size
    attention = (3 * model.queries + 2 * model.keys) * size
    return 3 * model.hidden * 4 + max(feed_forward, attention)


def parse_memory(text: str) -> float:
    """Parse `80GB` or `80GiB` into bytes; UsageError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([GM])(i?)B?\s*", text)
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"--gpu-memory {text!r} is not a size: give one such as 80GB or 141GB")
    units = {"M": 1e6, "G": 1e9, "Mi": 2.0**20, "Gi": 2.0**30}
    return float(match[1]) * units[match[2] + match[3]]


def gigabytes(size: float) -> str:
    """`12.3 GB`, or `0.004 GB` for small sizes."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e9:.2g} GB"


def fits(needed: Memory, machine: Machine) -> bool:
    """Whether each device can hold its part; True where nothing is known about its memory."""
    known = machine.bytes_each
    return known is None or total(needed.peak) <= known * RESERVED


def check_fits(
    needed: Memory, machine: Machine, suggest: Callable[[], Sequence[str]] = tuple
) -> None:
    """UsageError if a device cannot hold its part; names the largest part and how to reduce it.

    `suggest` gives flags with which the run would fit.
    """
    if machine.bytes_each is None or fits(needed, machine):
        return
    parts = needed.peak
    size, room = total(parts), machine.bytes_each * RESERVED
    flags = suggest()
    told = f". It fits with {', or with '.join(flags)}" if flags else f": try {parts[0].remedy}"
    raise UsageError(
        f"this run does not fit: {needed.largest} takes {gigabytes(size)} on a {machine.name}, of "
        f"whose {gigabytes(machine.bytes_each)} only {gigabytes(room)} can be planned with. The "
        f"largest part is {parts[0].name}, {gigabytes(parts[0].bytes)}{told}"
    )
