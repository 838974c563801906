"""The installed engines, which of them a run uses, and what each one needs.

An engine is a file with an `EngineSpec` and an entry point of the group `resd_bench.engines` that
names it; those of this package are found like any other. This module knows only the two engines
that `auto` tries, and imports none before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from resd_bench import plugins
from resd_bench.errors import UsageError, near_miss
from resd_bench.options import options_from
from resd_bench.policy.config import PolicyConfig

if TYPE_CHECKING:
    from resd_bench.agent import Policy
    from resd_bench.policy.engines.base import Engine, TrainedWeights

GROUP = "resd_bench.engines"
AUTO = ("fast", "hf")
"""What `--engine auto` tries in turn; the last one serves any model."""

Weights = Literal["trainer", "copy", "elsewhere"]


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """What an engine is built from."""

    model: Any
    """The Hugging Face model being trained; on the meta device if its weights are not loaded."""
    stop_ids: Collection[int]
    """Tokens that end a turn."""
    pad_id: int
    limit: int
    """Maximum number of tokens of prompt and response together."""
    adapted: Any
    """The peft model around `model` if an adapter is trained, else None."""
    config: PolicyConfig
    """The settings; an engine reads those named in its `EngineSpec.options`."""
    own: Any = None
    """The engine's own options, an `EngineSpec.config`."""
    weights: TrainedWeights | None = None
    """For an engine with weights of its own in one of several processes: those of the trainer,
    which `model` may lack there; None if `model` has them."""
    processes: int = 1
    """Number of processes of the run, each of which builds one."""


@dataclass(frozen=True, slots=True)
class TextSetup:
    """What an engine that knows no tokens makes its policy from."""

    model: str
    """What `--model` says."""
    config: PolicyConfig
    own: Any = None
    """The engine's own options, an `EngineSpec.config`."""


@dataclass(frozen=True)
class NoOptions:
    """An engine without options of its own."""


def any_model(model: Any) -> bool:
    """True: every model is served."""
    return True


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What the harness knows about an engine before it is built."""

    name: str
    """As in `--engine NAME`, and the name of the entry point."""
    summary: str
    """One line for `engines list`."""
    build: Callable[[EngineSetup], Engine]
    """Makes the engine; UsageError if something it needs is missing."""
    supports: Callable[[Any], bool] = any_model
    """Whether it serves this Hugging Face model."""
    weights: Weights = "trainer"
    """Which weights it samples with: the trainer's own; a copy in this process (then it has
    `sync_weights`); those of another program (likewise)."""
    adapters_only: bool = False
    """Whether it accepts only an adapter's weights: then the full model cannot be trained, and a
    run that trains nothing needs no weights here."""
    several_processes: bool = False
    """Whether each process of a run (`torchrun`) can have its own."""
    options: tuple[str, ...] = ()
    """Fields of `PolicyConfig` that it reads."""
    required: tuple[str, ...] = ()
    """Those options that must be given."""
    config: type = NoOptions
    """A frozen dataclass with options of the engine's own: `--set engine.NAME=VALUE`."""
    text_policy: Callable[[TextSetup], Policy] | None = None
    """Makes the policy where only text comes back: no model is loaded here and none is trained.
    Then `build` is for nothing but an error that says so."""
    check_installed: Callable[[], object] | None = None
    """UsageError where a package that it needs is not installed; None if it needs none."""


def names() -> list[str]:
    """The names that `--engine` accepts."""
    return ["auto", *plugins.installed(GROUP)]


def find_engine(name: str) -> EngineSpec | None:
    """The engine called `name`, None for `auto`; UsageError if it is not installed."""
    if name == "auto":
        return None
    if name not in names():
        raise near_miss("engine", name, names())
    spec: EngineSpec = plugins.find(GROUP, "engine", name)
    return spec


def check_server(name: str, server: str | None) -> None:
    """UsageError if `name` is not installed, or does not go with `server`."""
    spec = find_engine(name)
    needed, allowed = (spec.required, spec.options) if spec else ((), ())
    if (server is None and "server" in needed) or (server is not None and "server" not in allowed):
        given = "no --server was given" if server is None else f"--server {server} was given"
        raise UsageError(
            f"--engine {name}, and {given}: --server http://HOST:PORT/v1 goes together with an "
            "engine that asks a server, such as --engine openai or chat"
        )


def check_learns(name: str, method: str, learns: bool) -> None:
    """UsageError if a method that `learns` is to train through an engine that returns only text."""
    spec = find_engine(name)
    if learns and spec is not None and spec.text_policy is not None:
        raise UsageError(
            f"--engine {name} returns only text, and --method {method} trains on the tokens that "
            "were sampled: give --method base, ace or gepa, which train nothing, or an engine "
            "that returns tokens (`engines list`)"
        )


def check_loaded(name: str) -> None:
    """UsageError if the engine's model is only on a server: nothing of it is known here."""
    spec = find_engine(name)
    if spec is not None and spec.text_policy is not None:
        raise UsageError(
            f"the model of --engine {name} is on a server, so nothing of it is known here"
        )


def explicit_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of the engine's own where some are `given`; UsageError for what it has not."""
    spec = find_engine(name)
    if spec is None and given:
        raise UsageError(
            f"engine.{next(iter(given))} is an option of one engine: name it with --engine"
        )
    return asdict(options_from(spec.config, given, "engine", name)) if spec else {}


def choose_engine(name: str, model: Any) -> EngineSpec:
    """The engine that samples from `model`; UsageError if the named one does not support it."""
    spec = find_engine(name)
    if spec is None:
        candidates: list[EngineSpec] = [plugins.find(GROUP, "engine", one) for one in AUTO]
        return next((one for one in candidates if one.supports(model)), candidates[-1])
    if not spec.supports(model):
        raise UsageError(
            f"the {name} engine does not support {type(model).__name__}; use --engine hf or auto"
        )
    return spec


def refuse_processes(spec: EngineSpec | None, processes: int) -> None:
    """UsageError if an engine, None for `auto`, cannot sample in this many processes."""
    if processes > 1 and spec is not None and not spec.several_processes:
        raise UsageError(
            f"--engine {spec.name} supports only one process, and there are {processes}: use "
            "--engine vllm or auto"
        )


def make(name: str, setup: EngineSetup) -> Engine:
    """The engine `name`; UsageError if it cannot be used."""
    spec = choose_engine(name, setup.model)
    refuse_processes(spec, setup.processes)
    given = setup.config.engine_options if name == spec.name else {}
    own = options_from(spec.config, given, "engine", spec.name)
    for option in spec.required:
        if getattr(setup.config, option) is None:
            raise UsageError(f"--engine {name} needs --{option.replace('_', '-')}")
    return spec.build(replace(setup, own=own))


def make_text_policy(spec: EngineSpec, setup: TextSetup, processes: int) -> Policy:
    """The policy of an engine that returns only text; UsageError if it cannot be used."""
    assert spec.text_policy is not None
    refuse_processes(spec, processes)
    own = options_from(spec.config, setup.config.engine_options, "engine", spec.name)
    return spec.text_policy(replace(setup, own=own))
