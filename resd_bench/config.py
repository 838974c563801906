"""The definition of a run: one frozen dataclass is the config, the `--help` and the saved YAML.

Values are layered: defaults of the dataclass < preset < settings that come with the model < those
that come with it for the method < YAML file < flags < `--set key=value`. The result is fully
explicit, so a saved file keeps its meaning.
Left out: sweeps over several configurations.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import yaml

from resd_bench import packaged_models, plugins
from resd_bench.budget import Budget, Pace
from resd_bench.errors import UsageError, near_miss, reason_of
from resd_bench.files import reading
from resd_bench.files.bounded_yaml import parse_yaml
from resd_bench.files.redaction import HIDDEN, redact_values
from resd_bench.models import adapters, small
from resd_bench.options import (
    NEVER_ALL,
    NOT_NEGATIVE,
    NUCLEUS,
    POSITIVE,
    Range,
    coerce,
    field_types,
    options_from,
)
from resd_bench.parsing import Grade
from resd_bench.policy.config import PAPER_WARMUP, PolicyOptions
from resd_bench.policy.engines import registry
from resd_bench.types import Content, Split


@dataclass(frozen=True)
class TaskOptions:
    """What is run, and how it is measured."""

    env: str = "manufactoria-has"
    """Environment, as listed by `envs list`."""
    method: str = "resd"
    """Method, as listed by `methods list`."""
    model: str = "nano"
    """Model: the embedded `nano`, the installed `smollm2`, a folder with a Hugging Face model, a
    GGUF file (or OWNER/REPO/FILE.gguf), or the name of a model on the Hub; with `--engine chat`,
    its name on the server."""
    preset: Literal["paper", "release"] = "paper"
    """`paper`: settings as the paper states them; `release`: those of its released code."""
    seed: Annotated[int, NOT_NEGATIVE] = 0
    """Seed of task order, environments, sampling and initialisation."""
    budget: str = "1280ep"
    """When to stop: after training rollouts (1280ep), their turns (5000turn), generated tokens
    (5Mtok), time (30min) or updates (40upd). The update that reaches the budget is finished."""
    batch_size: Annotated[int, POSITIVE] = 32
    """Tasks per batch (B)."""
    group_size: Annotated[int | None, POSITIVE] = None
    """Rollouts per task in an update (N) (default: the method's own number)."""
    inner_steps: Annotated[int, POSITIVE] = 4
    """Updates on each batch of tasks, all with fresh rollouts (K)."""
    task_order: Literal["dataset", "shuffled"] = "dataset"
    """Order of the training tasks; `shuffled` draws a new order for every epoch from the seed."""
    max_new_tokens: Annotated[int, POSITIVE] = 20_480
    """Maximum completion length in tokens."""
    temperature: Annotated[float, NOT_NEGATIVE] = 1.0
    """Sampling temperature of training rollouts; 0 is greedy decoding."""
    top_p: Annotated[float, NUCLEUS] = 0.95
    """Nucleus sampling threshold of training rollouts, in (0, 1]."""
    eval_every: Annotated[int, NOT_NEGATIVE] = 4
    """Number of updates between evaluations; 0: evaluate only before the first update and after
    the last."""
    eval_samples: Annotated[int, POSITIVE] = 4
    """Samples per held-out task (k of mean@k)."""
    eval_temperature: Annotated[float, NOT_NEGATIVE] = 1.0
    """Sampling temperature of evaluation."""
    eval_top_p: Annotated[float, NUCLEUS] = 0.95
    """Nucleus sampling threshold of evaluation, in (0, 1]."""
    eval_tasks: Annotated[int | None, POSITIVE] = None
    """Number of tasks to evaluate on, the first of the split (default: all)."""
    eval_split: Split = "test"
    """Split to evaluate on."""
    eval_validation: Annotated[int, NOT_NEGATIVE] = 0
    """Number of validation tasks to evaluate on as well, to choose a checkpoint by; 0: none."""
    eval_contexts: bool = False
    """Also evaluate with the method's memory in the prompt, to tell what was learned in context
    from what was learned in the weights."""
    eval_also: str | None = None
    """Other environments to evaluate on before the first update and after the last, to measure
    forgetting: names separated by commas."""


@dataclass(frozen=True)
class RunConfig(PolicyOptions, TaskOptions):
    """One run of one method on one environment, to a budget."""

    warmup: Annotated[float | None, NEVER_ALL] = None
    """Share of the run's updates over which the learning rate rises linearly, rounded down
    (default: the model's own, else a quarter, and at most 10 updates); of 40 if the budget is in
    turns, tokens or time. Where updates spend more of the budget than planned, it is a share of the
    budget, and never has the last update. It becomes --warmup-updates, which can be given
    instead."""
    feedback_level: Annotated[int, Range(0, 5)] = 3
    """How much feedback the environment gives on a failure, from 0 (none) to 5 (the solution)."""
    feedback: Content = "real"
    """Feedback that the method gets on failed training rollouts: `real`; `shuffled`, that on a
    failed attempt at another task; or `blank`, filler of equal length. For experiments on whether
    its content matters; verdicts, rewards and evaluations are not touched."""
    grade: Grade = "answer"
    """Part of a response that is graded: `answer` leaves out the reasoning; `release` takes what
    the paper's released verifier of the task reads (docs/paper.md)."""
    precision: Literal["float32", "mixed", "bfloat16"] = "float32"
    """Precision of weights and arithmetic; `mixed` trains float32 weights with bfloat16 matrix
    products (with LoRA: a float32 adapter on bfloat16 weights)."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Only the command line can set it, not a file."""
    model_revision: str | None = None
    """Branch, tag or commit of a model on the Hub (default: its main branch)."""
    attention: str | None = None
    """Attention implementation of transformers: eager, sdpa or flash_attention_2 (default: its own
    choice)."""
    device: str = "auto"
    """Device of the model: `auto`, `cpu`, `cuda` or `cuda:1`."""
    device_map: str | None = None
    """`auto` spreads one model over all GPUs of the machine (default: all of it on --device)."""
    out: str = "runs-out"
    """Root folder of runs: a run writes to OUT/ENV/METHOD/seed-SEED, and in the default folder to
    OUT/ENV/METHOD@MODEL,SETTING=VALUE/seed-SEED where those are not the default."""
    # Waiting for an answer does not support longer times.
    step_seconds: Annotated[float, Range(0, 1e6, without_low=True)] = 120.0
    """Maximum time in seconds for an environment to start an episode or to answer a step. A later
    answer counts as a failure if the environment declares `verify_seconds`, otherwise as an
    error."""
    rollout_slots: Annotated[int, NOT_NEGATIVE] = 0
    """Number of episodes under way at a time, in rollouts and evaluations: one that ends makes room
    for the next, and environments step while others are sampled. Random streams are then named by
    task, attempt and turn, so that results do not depend on the number. 0: all episodes, turn by
    turn together."""
    track: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    """Experiment tracker to log to as well."""
    checkpoint_every: Annotated[int, POSITIVE] = 4
    """Number of updates between checkpoints."""
    trace: Annotated[int, NOT_NEGATIVE] = 0
    """Training examples per update to record token by token, for `report` and `trace`."""
    eval_on: str = "auto"
    """Where evaluations run: `auto`, in a second process while training goes on if the model runs
    on one CPU core and another core is idle; `here`, always in the run's own process; or in a
    second process on this device, `cpu` or `cuda:1`."""
    keep_texts: Literal["last", "all", "none"] = "last"
    """Evaluations whose prompts, answers and feedback are kept, for `show` and `report`: the last
    one of a run, all, or none."""
    method_options: dict[str, Any] = field(default_factory=dict)
    """Options of the method: `--set method.NAME=VALUE`."""
    env_options: dict[str, Any] = field(default_factory=dict)
    """Options of the environment: `--set env.NAME=VALUE`."""

    def to_yaml(self, *, hide: bool = True) -> str:
        """The configuration as YAML that `from_yaml` and `--config` read back.

        With `hide`, values that look secret are hidden and must be given again to run it.
        """
        values = self.shown() if hide else asdict(self)
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)

    def shown(self) -> dict[str, Any]:
        """The settings in a form that may be saved: without values that look secret."""
        return redact_values(asdict(self))

    @classmethod
    def from_yaml(cls, text: str, source: str = "the configuration") -> RunConfig:
        """Read what `to_yaml` wrote; UsageError names `source` and what is wrong with it.

        The result is meant for reading. To run it, use `resolve`, which also refuses what a file
        may not set.
        """
        values = _normal(_parse_yaml(text, source))
        method, env = (str(values.get(k, getattr(cls, k))) for k in ("method", "env"))
        given = values.get("method_options", {})
        former = former_options(method, env, given) if isinstance(given, Mapping) else {}
        return _resolved(_merge(values, {"method_options": former}) if former else values, {})

    @classmethod
    def of_record(cls, path: Path) -> RunConfig:
        """The configuration of a run, see `from_yaml`; UsageError if it cannot be read."""
        try:
            text = reading.read_text(path, reading.MAX_YAML)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None
        return cls.from_yaml(text, str(path))

    def digest(self) -> str:
        """16 hex digits that depend on exactly the settings that change results."""
        text = json.dumps(self.of_results(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def of_results(self) -> dict[str, Any]:
        """The settings that change results, nested options under dotted keys, secrets hidden."""
        flat = flatten(self.shown())
        return {k: v for k, v in flat.items() if k not in NOT_RESULTS and v != HIDDEN}

    def parsed_budget(self) -> Budget:
        """The budget; UsageError if it is not valid."""
        try:
            return Budget.parse(self.budget)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def updates(self) -> int | None:
        """How many updates the budget allows; None if that is not known beforehand."""
        return self.parsed_budget().updates(self.batch_size * (self.group_size or 1))

    def pace(self) -> Pace:
        """What an update is planned to spend of the budget."""
        budget = self.parsed_budget()
        known = {"ep": self.batch_size * (self.group_size or 1), "upd": 1}
        return Pace(budget, known.get(budget.unit, budget.amount / UNKNOWN_UPDATES))

    def folder(self) -> Path:
        """The run folder, whose name tells what `distinction` does.

        A run that began before there were such names is continued where it is.
        """
        plain = Path(self.out) / self.env / self.method / f"seed-{self.seed}"
        if not self.distinction or _began_in(plain, self):
            return plain
        return plain.parent.with_name(self.method + self.distinction) / plain.name

    @cached_property
    def distinction(self) -> str:
        """The model and other settings of results that are not the default, as `@mine,k=4`.

        "" for a default run, and under an `out` of the user's own, who tells runs apart by that.
        What may change as a run goes on to a larger budget is left out.
        """
        if self.out != RunConfig.out:
            return ""
        named = {name: getattr(self, name) for name in ("env", "method", "model", "preset")}
        usual, own = _resolved({}, named).of_results(), self.of_results()
        changed = [k for k in {**usual, **own} if usual.get(k) != own.get(k) and k not in GROWS]
        name = packaged_models.model_name(self.model)
        model = "" if self.model == RunConfig.model else f"@{in_a_path(name)}"
        parts = [f"{key.partition('.')[2] or key}={in_a_path(own.get(key))}" for key in changed]
        parts = [*[self.preset] * (self.preset != RunConfig.preset), *parts]
        whole = ",".join([model, *parts])
        if len(whole) <= _LONGEST_DISTINCTION:
            return whole
        digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
        return f"{whole[: _LONGEST_DISTINCTION - 9].rpartition(',')[0] or model[:40]},{digest}"


GROWS = frozenset({"seed", "budget", "warmup", "warmup_updates", "model_revision"})
"""Settings that are not part of a folder's name, besides those that are folders of their own."""
_LONGEST_DISTINCTION = 100
"""Characters of the settings in a folder's name."""

NAMED_ONLY = ("server", "trust_remote_code")
"""Settings that only the command line can set, not a file: they may disclose keys and prompts, or
run code."""

NOT_RESULTS = frozenset(
    {
        *("out", "step_seconds", "track", "checkpoint_every", "trace", "keep_texts", "eval_on"),
        *("engine_memory", *NAMED_ONLY),
    }
)
"""Settings that may differ between a run and its resumption."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {"eval_temperature": 1.0, "grade": "answer"},
    "release": {"eval_temperature": 0.6, "grade": "release"},
}
"""Harness settings by preset; methods bring their own. The paper mentions only T = 1.0, its
released code validates at 0.6, and some of its verifiers read reasoning too."""

WARMUP = ("warmup", "warmup_updates")
"""Settings that say the same: as a share of the run, or as a number of updates."""
MOST_WARMUP = 0.25
"""The largest share of a run that the paper's updates of warm-up get by default."""
UNKNOWN_UPDATES = 40
"""Updates that a warm-up is a share of where the budget, in turns, tokens or time, tells no
number."""

NESTED = {"method": "method_options", "env": "env_options", "engine": "engine_options"}
"""The first part of a dotted key, and the field that it refers to."""


def resolve(
    file: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
) -> RunConfig:
    """The explicit configuration that a YAML mapping, flags and `a.b=c` settings ask for.

    Flags that are None count as not given. UsageError for anything unknown or out of range, for
    settings in a file that only the command line may set (`NAMED_ONLY`), and for hidden secrets.
    """
    named = {k: v for k, v in (flags or {}).items() if v is not None}
    named = _override(named, _normal(dict(_split_setting(text) for text in sets)))
    config = _resolved(file or {}, named)
    shown = config.shown()
    for key in NAMED_ONLY:
        value = shown[key]
        if value and key not in named:
            given = str(value).lower() if value is True else value
            raise UsageError(
                f"a file sets {key}: {value}, but only the command line may: if you mean it, add "
                f"--{key.replace('_', '-')} {given}"
            )
    for key, value in flatten(asdict(config)).items():
        if value == HIDDEN:
            raise UsageError(f"{key} was hidden when the file was written: add --set {key}=VALUE")
    _check_warmup(config)
    return config


def _resolved(file: Mapping[str, Any], named: Mapping[str, Any]) -> RunConfig:
    """The configuration that results from a file and its overrides."""
    asked = _override(_normal(file), named)
    asked = {k: _setting(k, v) for k, v in asked.items()}
    base = {f.name: asked.get(f.name, f.default) for f in fields(RunConfig)}
    if base["env"] not in plugins.installed("resd_bench.envs"):
        group = "resd_bench.envs"
        known_envs = plugins.installed(group)
        raise near_miss("environment", str(base["env"]), known_envs, plugins.LISTINGS[group])
    spec = plugins.method(str(base["method"]))
    shipped = shipped_settings(str(base["model"]), str(base["method"]), base["lora_rank"])
    # Settings that come with a model are for all methods; each takes those it has.
    known = {f.name for f in fields(spec.config)}
    shipped_options = {k: v for k, v in shipped.pop("method_options", {}).items() if k in known}
    layers = _override(_merge({}, PRESETS[base["preset"]]), shipped)
    values = _defaults(RunConfig) | _override(layers, asked)
    options = {**spec.presets.get(base["preset"], {}), **shipped_options}
    options |= asked.get("method_options", {})
    values["method_options"] = asdict(method_config(spec.config, options, spec.name))
    if values["group_size"] is None:
        values["group_size"] = spec.group_size
    if values["dialect"] is None:
        values["dialect"] = model_dialect(values["model"])
    given = _setting("engine_options", values["engine_options"])
    values["engine_options"] = registry.explicit_options(str(values["engine"]), given)
    config = RunConfig(**{k: _setting(k, v) for k, v in values.items()})
    _check(config)
    return _with_warmup(config)


def shipped_settings(model: str, method: str, lora_rank: int = 0) -> dict[str, Any]:
    """The settings that suit a model, options of methods in `method_options`.

    General ones < those for the method < those for adapters, where one is trained.
    """
    found = dict(small.settings_of(model))
    methods, adapted = found.pop("methods", {}), found.pop("lora", {})
    suited = _normal(found)
    for names, own in methods.items():
        if method in names.split(","):
            suited = _override(suited, _normal(own))
    return _override(suited, _normal(adapted)) if lora_rank or suited.get("lora_rank") else suited


def _with_warmup(config: RunConfig) -> RunConfig:
    """`config` with its warm-up as a number of updates."""
    if config.warmup_updates is not None:
        return config
    updates = config.updates() or UNKNOWN_UPDATES
    share = MOST_WARMUP if config.warmup is None else config.warmup
    # A product such as 0.29 * 100 may lie just below the whole number that is meant.
    number = min(int(share * updates + 1e-9), updates - 1)
    limited = min(PAPER_WARMUP, number) if config.warmup is None else number
    return replace(config, warmup=None, warmup_updates=limited)


def _check_warmup(config: RunConfig) -> None:
    """UsageError if the learning rate would never reach its peak."""
    updates, number = config.updates(), config.warmup_updates or 0
    if updates is not None and number >= updates:
        raise UsageError(
            f"--warmup-updates {number} covers the whole run, which has {updates} updates "
            f"(--budget {config.budget}, {config.batch_size} tasks x {config.group_size} rollouts "
            f"an update): give at most {updates - 1}, or a share of the run with --warmup 0.125"
        )


def in_a_path(value: Any) -> str:
    """A value as part of a file's name."""
    text = str(value).lower() if value is None or isinstance(value, bool) else str(value)
    return re.sub(r"[^\w.+=-]", "-", text)


def _began_in(folder: Path, config: RunConfig) -> bool:
    """Whether the run folder holds `config`, to whatever budget."""
    saved = folder / "config.yaml"
    try:
        return saved.is_file() and not differences(RunConfig.of_record(saved), config, GROWS)
    except UsageError:
        return False


def _setting(name: str, value: Any) -> Any:
    """`value` as the type of the setting `name`; UsageError names its flag."""
    try:
        return coerce(name, value, field_types(RunConfig)[name])
    except UsageError as error:
        wanted = "--set" if name in NESTED.values() else f"--{name.replace('_', '-')}"
        raise UsageError(f"{error}. Give another value with {wanted}") from None


def load_file(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; UsageError if it cannot be read."""
    try:
        text = reading.read_text(Path(path), reading.MAX_YAML)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {reason_of(error)}. Give a YAML file") from None
    return _parse_yaml(text, str(path))


def model_dialect(model: str) -> str:
    """The dialect that a model was made for by its `config.json`; `full` if that does not say."""
    if packaged_models.gguf_file(model) is not None:
        return "full"
    folder = packaged_models.local_folder(model)
    if folder is None:
        return "full"
    folder = Path(adapters.model_folder(folder))
    try:
        named = reading.parse_json(reading.read_bytes(folder / "config.json"))
    except (OSError, ValueError):
        return "full"
    return str(named.get("resd_dialect", "full")) if isinstance(named, dict) else "full"


def method_config(kind: type, options: Mapping[str, Any], name: str) -> Any:
    """An instance of a method's config dataclass; UsageError for unknown or ill-typed options."""
    return options_from(kind, options, "method", name)


def former_options(method: str, env: str, given: Collection[str]) -> dict[str, Any]:
    """Options that a record lacks, at what runs did before there were any (`MethodSpec.former`).

    {} unless attempts have several turns, without which they make no difference, or where the
    method is not installed.
    """
    try:
        former = plugins.method(method).former
    except UsageError:
        return {}
    missing = {key: value for key, value in former.items() if key not in given}
    return missing if missing and _has_several_turns(env) else {}


@cache
def _has_several_turns(env: str) -> bool:
    """Whether attempts may have several turns; yes where its class does not say.

    It is not made: a record may be read where its environment could not run.
    """
    from resd_bench.env import TextEnv

    try:
        maker = plugins.find("resd_bench.envs", "environment", env)
        kind = maker if isinstance(maker, type) else get_type_hints(maker)["return"]
    except Exception:
        return True
    return kind is TextEnv or getattr(kind, "max_turns", 2) > 1


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys, as in `--set`."""
    flat: dict[str, Any] = {}
    names = {name: key for key, name in NESTED.items()}
    for key, value in values.items():
        path = f"{prefix}{names.get(key, key) if not prefix else key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


def differences(old: RunConfig, new: RunConfig, free: Collection[str] = ()) -> list[str]:
    """The differences between two configurations in settings that change results, in words.

    Settings in `free` may differ.
    """
    a, b = old.of_results(), new.of_results()
    keys = [key for key in {**a, **b} if a.get(key) != b.get(key) and key not in free]
    return [f"{key}: {a.get(key)!r} there, {b.get(key)!r} here" for key in keys]


def _defaults(kind: type) -> dict[str, Any]:
    return {
        f.name: f.default_factory() if f.default_factory is not MISSING else f.default
        for f in fields(kind)
    }


def _split_setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text!r} is not valid: give KEY=VALUE, such as method.k=4")
    # The types of an environment's options are unknown, so their text is read as YAML.
    if key.strip().startswith("env."):
        return key.strip(), _yaml(value, f"--set {text}")
    return key.strip(), value.strip()


def _normal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nest dotted keys, put `method` and `env` mappings into their fields, refuse unknown keys."""
    normal: dict[str, Any] = {}
    for key, value in values.items():
        head, dot, rest = str(key).replace("-", "_").partition(".")
        if head in NESTED and (dot or isinstance(value, Mapping)):
            head, value = NESTED[head], {rest: value} if dot else value
        elif dot and head in NESTED.values():
            value = {rest: value}
        elif dot:
            raise UsageError(
                f"unknown key {key!r}: dotted keys start with method., env. or engine."
            )
        normal = _merge(normal, {head: value})
    known = [f.name for f in fields(RunConfig)]
    for key in normal:
        if key not in known:
            raise near_miss("configuration key", key, known, "resd-bench run --help")
    return normal


def _merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        if key in NESTED.values() and isinstance(value, Mapping):
            merged[key] = {**merged.get(key, {}), **value}
        else:
            merged[key] = value
    return merged


def _override(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """`_merge`, where a warm-up in `high` takes the place of either kind in `low`."""
    given = [name for name in WARMUP if high.get(name) is not None]
    if len(given) > 1:
        raise UsageError("warmup and warmup_updates were both given: give one of them")
    low = {key: value for key, value in low.items() if not (given and key in WARMUP)}
    return _merge(low, high)


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    loaded = _yaml(text, source)
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise UsageError(
            f"{source} holds {'a list' if isinstance(loaded, list) else 'a single value'}: "
            "give a mapping of `key: value` lines"
        )
    return loaded


def _yaml(text: str, source: str) -> Any:
    try:
        # Readers of many runs read every configuration several times.
        return deepcopy(_parsed(text)) if len(text) < _SHORT else parse_yaml(text)
    except ValueError as error:
        raise UsageError(f"{source} is not valid YAML: {error}") from None


_SHORT = 8192
"""Characters of a configuration; those of runs have some 3,000."""
_parsed = lru_cache(maxsize=8192)(parse_yaml)


def _check(config: RunConfig) -> None:
    registry.check_server(config.engine, config.server)
    registry.check_learns(config.engine, config.method, plugins.method(config.method).learns)
    config.parsed_budget()
    if config.feedback != "real" and config.feedback_level == 0:
        raise UsageError(
            f"--feedback {config.feedback}, but --feedback-level 0 gives no feedback to replace: "
            "give a level of 1 to 5, or leave --feedback real"
        )
    _check_env_options(config.env_options)


def _check_env_options(options: Iterable[str]) -> None:
    for key in ("dialect", "feedback_level"):
        if key in options:
            raise UsageError(f"env.{key}: give --{key.replace('_', '-')} instead")
