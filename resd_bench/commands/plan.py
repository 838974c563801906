"""`run --dry-run`: what a run would do, in tokens and memory; refuses what cannot fit.

Everything is printed as YAML with comments, so that the output is a configuration to run. Hours are
told only at rates that were measured: they depend on the machine more than on anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from resd_bench import packaged_models, plugins
from resd_bench.agent import Load
from resd_bench.config import RunConfig, method_config
from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.files.terminal import out
from resd_bench.machine.memory import usable_memory
from resd_bench.planning.duration import beyond_budget, number_of_evaluations, number_of_updates
from resd_bench.planning.hours import Rates, read_rates, told_hours
from resd_bench.planning.memory import (
    CHARACTERS_PER_TOKEN,
    Lengths,
    Machine,
    Memory,
    Tokens,
    check_fits,
    count_tokens,
    gigabytes,
    limited,
    memory,
    parse_memory,
    teacher_prompt,
    total,
    ways,
)
from resd_bench.policy import limits
from resd_bench.policy.engines import registry
from resd_bench.policy.parallel.supported import check_devices, check_processes
from resd_bench.types import Task

if TYPE_CHECKING:
    from resd_bench.planning.architecture import Architecture

EXPECTED_SHARE = 0.5
"""Of the longest completion, unless `--mean-tokens` says how long one is."""
_UNBOUNDED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class PlanFor:
    """What a run is planned for; by default this machine."""

    gpus: int | None = None
    gpu_memory: str | None = None
    """Of each GPU, such as `80GB`."""
    fsdp: bool = False
    """Whether each GPU has a share of the weights, and not a copy."""
    mean_tokens: int | None = None
    """Mean length of a completion."""
    rates: str | None = None
    """Measured ones, see `read_rates`."""


def show_plan(config: RunConfig, given: PlanFor) -> None:
    """What a run would do: settings, updates, tokens, memory. UsageError where it cannot fit.

    Where nothing is known about the memory of a machine, nothing is refused.
    """
    from resd_bench.jobs.setup import set_up

    measured = None if given.rates is None else read_rates(given.rates)
    made = set_up(config)
    made.close()
    console = out()
    console.print(config.to_yaml(), end="")
    mean = given.mean_tokens or max(1, round(config.max_new_tokens * EXPECTED_SHARE))
    if mean > config.max_new_tokens:
        raise UsageError(
            f"--mean-tokens {mean} is more than --max-new-tokens {config.max_new_tokens}"
        )
    plan = Plan(config, made.env, made.train, len(made.held_out), mean)
    machine = replace(find_machine(config, given.gpus, given.gpu_memory), shared=given.fsdp)
    refuse_as_run_does(config, replace(machine, gpus=given.gpus or 1))
    for line in chain(plan.lines(machine, measured), refused_here(config)):
        console.tell(f"# {line}", indent="#   ")
    told = f"# would write to {config.folder()}; nothing was written"
    console.tell(told, indent="#   ")


class Plan:
    """A run that has not begun."""

    def __init__(
        self, config: RunConfig, env: TextEnv, train: Sequence[Task], held_out: int, mean: int
    ) -> None:
        spec = plugins.method(config.method)
        options = method_config(spec.config, config.method_options, spec.name)
        self.config, self.held_out = config, held_out
        self.load: Load = spec.load(options)
        prompt = longest_prompt(train, config.model) + self.load.memory_tokens
        turns = max(1, env.max_turns)
        self.longest = Lengths(prompt, config.max_new_tokens, turns)
        self.expected = Lengths(prompt, mean, turns)

    def lines(self, machine: Machine, rates: Rates | None = None) -> Iterator[str]:
        """Updates, tokens, memory, hours.

        UsageError where `machine` has not enough memory, or the context no room for a prompt.
        """
        model, reason = self._model()
        if model is not None:
            limits.room_for_prompts(model.context, self.config.max_new_tokens)
        context = model.context if model else self.config.context_limit or _UNBOUNDED
        most = count_tokens(self.config, self.longest, self.load, self.held_out, context)
        mean = count_tokens(self.config, self.expected, self.load, self.held_out, context)
        yield from self._amounts(most)
        yield from self._tokens(most, mean, context)
        if model is None:
            yield f"memory{' and hours' if rates else ''}: not estimated: {reason}"
            return
        adapter = self.config.lora_rank > 0
        work = [tokens.flops(model.active, adapter) for tokens in (most, mean)]
        yield f"FLOPs per update, without attention: at most {work[0]:.2g}, expected {work[1]:.2g}"
        needed = memory(self.config, model, self.longest, self.load, machine)
        yield from _memory_lines(needed, model.parameters, machine, ways(self.config, machine))
        check_fits(needed, machine, partial(self._what_fits, model, machine))
        if rates is not None:
            yield told_hours(self.config, model, mean, self.held_out, machine, rates)

    def _model(self) -> tuple[Architecture | None, str]:
        """The model, or why it is not known; UsageError if it is here and cannot be loaded."""
        from resd_bench.planning import architecture

        try:
            registry.check_loaded(self.config.engine)
        except UsageError as error:
            return None, str(error)
        try:
            known = architecture.read(self.config.model, self.config.model_revision)
        except UsageError as error:
            # A plan runs no code of a model, also where the run may.
            if Path(self.config.model).exists() and not self.config.trust_remote_code:
                raise
            return None, str(error)
        return limited(known, self.config), ""

    def _what_fits(self, model: Architecture, machine: Machine) -> list[str]:
        from resd_bench.planning.suggestions import what_fits

        return what_fits(self.config, model, self.longest, self.load, machine, refuse_as_run_does)

    def _amounts(self, most: Tokens) -> Iterator[str]:
        """Updates and evaluations of the whole run."""
        config, budget = self.config, self.config.parsed_budget()
        per_update = config.batch_size * (config.group_size or 1)
        updates = number_of_updates(config, most)
        if updates is None:
            yield f"updates: as many as {config.budget} allows"
            return
        least = "at least " if budget.unit == "tok" else ""
        yield f"updates: {least}{updates:.0f} of {per_update} rollouts each"
        if told := beyond_budget(config):
            yield told
        yield f"rollout tokens: at most {updates * most.rollouts:,.0f}"
        evaluations = number_of_evaluations(round(updates), config.eval_every)
        samples = self.held_out * config.eval_samples
        yield f"evaluations: about {evaluations} of {samples} samples"
        tokens = evaluations * most.evaluation
        yield f"evaluation tokens, not charged: at most {tokens:,.0f}"
        if config.eval_also or config.eval_validation or config.eval_contexts:
            yield "  other panels (--eval-also, --eval-validation, --eval-contexts) come on top"

    def _tokens(self, most: Tokens, mean: Tokens, context: int) -> Iterator[str]:
        """Tokens of an update and of an evaluation, at most and expected."""
        answer = self.expected.completion
        prompt = self.longest.prompt
        yield f"expected: completions of {answer:,} tokens; longest prompt: {prompt:,} tokens"
        seen = teacher_prompt(self.longest, self.load, context) if self.load.teacher else 0
        for name, least, high in (
            ("sampled by rollouts", mean.rollouts, most.rollouts),
            ("sampled by the method itself", mean.own, most.own),
            (f"scored by the teacher (prompts up to {seen:,})", mean.scored, most.scored),
            ("trained on", mean.trained, most.trained),
        ):
            if high:
                yield f"per update, {name}: at most {high:,}, expected {least:,} tokens"
        yield (
            f"per evaluation, sampled: at most {most.evaluation:,}, "
            f"expected {mean.evaluation:,} tokens"
        )


def _memory_lines(needed: Memory, parameters: int, machine: Machine, used: int) -> Iterator[str]:
    known = "" if machine.bytes_each is None else f" of {gigabytes(machine.bytes_each)}"
    spread = f", divided by {used}" if used > 1 else ""
    yield f"memory: {parameters:,} parameters{spread}; at most, on each {machine.name}{known}"
    if used < machine.gpus:
        yield (
            f"  each of {machine.gpus} processes holds all weights; --device-map auto spreads one "
            "process over the GPUs, and --fsdp plans for shares"
        )
    for phase, parts in needed.phases.items():
        each = sorted(parts, key=lambda part: -part.bytes)
        listed = ", ".join(f"{part.name} {gigabytes(part.bytes)}" for part in each)
        yield f"  {phase}: {gigabytes(total(parts))} = {listed}"


def refuse_as_run_does(config: RunConfig, machine: Machine) -> None:
    """UsageError for what `run` refuses with a process on each GPU: the same functions decide."""
    layers = config.device_map is not None and not machine.shared
    processes = 1 if layers else machine.gpus
    if processes > 1:
        check_devices(
            config.device, config.device_map, trace=config.trace > 0, sharded=machine.shared
        )
    check_processes(config, processes, sharded=machine.shared)


def refused_here(config: RunConfig) -> Iterator[str]:
    """Why `run` would refuse `config` on this machine, where another may be planned for.

    The functions that a run calls decide: what is installed, and which device there is.
    """
    from resd_bench.monitoring.trackers import make_tracker
    from resd_bench.policy import lora
    from resd_bench.policy.loading import as_device, check_accelerate

    engine = registry.find_engine(config.engine)
    checks = [
        plugins.method(config.method).check_installed,
        engine.check_installed if engine else None,
        lora.check_peft if config.lora_rank else None,
        check_accelerate if config.device_map is not None else None,
        None if config.device == "auto" else partial(as_device, config.device),
        partial(make_tracker, config),
    ]
    for check in filter(None, checks):
        try:
            check()
        except UsageError as error:
            yield f"not on this machine: {error}"


def longest_prompt(tasks: Sequence[Task], model: str) -> int:
    """Tokens of the longest first prompt, by the model's tokenizer where it is on this machine."""
    longest = max(tasks, key=lambda task: len(task.prompt)).prompt
    folder = packaged_models.local_folder(model)
    if folder is not None and (folder / "tokenizer.json").is_file():
        from tokenizers import Tokenizer

        from resd_bench.models.model_files import check_tokenizer

        check_tokenizer(folder / "tokenizer.json", model)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return len(tokenizer.encode(longest).ids)
    return -(-len(longest) // CHARACTERS_PER_TOKEN)


def find_machine(config: RunConfig, gpus: int | None, gpu_memory: str | None) -> Machine:
    """What the user says, else the device that the run would find here."""
    if gpus is not None and gpus < 1:
        raise UsageError(f"--gpus {gpus}: give at least 1")
    if gpu_memory is not None or gpus is not None:
        each = None if gpu_memory is None else parse_memory(gpu_memory)
        return Machine(gpus or 1, each)
    visible = [] if config.device == "cpu" else _visible()
    if visible:
        return Machine(len(visible), min(visible))
    if config.device.startswith("cuda"):
        return Machine(1, None)
    return Machine(1, usable_memory(), "machine", main_memory=True)


def _visible() -> list[float]:
    """Bytes of each GPU that torch sees."""
    import torch

    if not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    return [float(torch.cuda.get_device_properties(i).total_memory) for i in range(count)]
