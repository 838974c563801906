"""What a run is: one frozen dataclass that is the config, the `--help` and the saved YAML.

Values are layered: defaults of the dataclass < preset < what the model ships < YAML file < flags
< `--set key=value`. The result is fully explicit, so that a saved file means the same for ever.
Left out: sweeps over several configurations.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import math
import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from resd_bench import adapters, nano, plugins, ranges, reading
from resd_bench.budget import Budget
from resd_bench.extract import Grade
from resd_bench.plugins import UsageError, near_miss
from resd_bench.ranges import ABOVE_0, EXACT, NOT_NEGATIVE, NUCLEUS, POSITIVE, SHARE, Range
from resd_bench.redaction import HIDDEN, redact_values


@dataclass(frozen=True)
class RunConfig:
    """One run of one method on one environment, to a budget."""

    env: str = "manufactoria-has"
    """Environment, as in `envs list`."""
    method: str = "resd"
    """Method, as in `methods list`."""
    model: str = "nano"
    """Embedded model `nano`, the installed `smollm2`, a folder that holds a Hugging Face model, a
    GGUF file (or OWNER/REPO/FILE.gguf), or a model's name on the Hub."""
    preset: Literal["paper", "release"] = "paper"
    """`paper`: what the paper states; `release`: what its released code does."""
    seed: int = 0
    """Fixes task order, environment seeds, sampling and initialisation."""
    budget: str = "1280ep"
    """When to stop: training rollouts (1280ep), generated tokens (5Mtok), 30min or 40upd. The
    update that crosses it is finished."""
    batch_size: int = 32
    """Tasks per batch (B)."""
    group_size: int | None = None
    """Rollouts per task in an update (N); unless given, the method's own."""
    inner_steps: int = 4
    """Updates on a batch of tasks, each with fresh rollouts (K)."""
    task_order: Literal["dataset", "shuffled"] = "dataset"
    """Order of the training tasks; `shuffled` draws one per epoch from the seed."""
    max_new_tokens: int = 20_480
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """Sampling temperature of training rollouts; 0 is greedy."""
    top_p: float = 0.95
    """Nucleus of training rollouts, in (0, 1]."""
    eval_every: int = 4
    """Evaluate after so many updates; 0: only before the first and after the last."""
    eval_samples: int = 4
    """Samples per held-out task (k of mean@k)."""
    eval_temperature: float = 1.0
    """Sampling temperature of evaluation."""
    eval_top_p: float = 0.95
    """Nucleus of evaluation, in (0, 1]."""
    eval_tasks: int | None = None
    """Evaluate on the first so many tasks; unless given, on all."""
    eval_split: Literal["train", "validation", "test"] = "test"
    """Tasks to evaluate on."""
    eval_validation: int = 0
    """Evaluate on the first so many validation tasks too, to choose a checkpoint by; 0: on none."""
    eval_contexts: bool = False
    """Evaluate with what the method remembers in the prompt too (in context or in weights)."""
    eval_also: str | None = None
    """Other environments to evaluate on before the first update and after the last, to see what is
    forgotten: names with commas between."""
    learning_rate: float = 1e-6
    """Peak learning rate of AdamW."""
    warmup_updates: int = 10
    """Updates over which the learning rate rises linearly."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW."""
    grad_clip: float = 1.0
    """Largest gradient norm; 0 does not clip."""
    feedback_level: int = 3
    """How much the environment says about a failure, 0 (nothing) to 5 (the solution)."""
    grade: Grade = "answer"
    """What of a response is graded: `answer`, what is left without its reasoning; `release`, what
    the paper's released verifier of the task reads (docs/paper.md)."""
    dialect: Literal["full", "compact"] | None = None
    """Wording of prompts; unless given, the one the model was made for."""
    engine: Literal["auto", "fast", "hf", "vllm", "openai"] = "auto"
    """What samples: `fast` for Qwen3, Qwen2 and Llama, `hf` for any model, slowly; `vllm` in this
    process; `openai`: a server (see docs/engines.md)."""
    engine_memory: float | None = None
    """GiB of vLLM's key-value cache; unless given, 0.5 on a CPU, 30% of what is free on a GPU."""
    server: str | None = None
    """With `--engine openai`: the server's URL, such as http://localhost:8000/v1. It gets the
    prompts and OPENAI_API_KEY, so a file cannot decide it: give it on the command line."""
    server_model: str | None = None
    """The model's name on that server; unless given, the only one it serves."""
    context_limit: int | None = None
    """Most tokens of prompt and response; unless given, as many as the model can hold."""
    precision: Literal["float32", "mixed", "bfloat16"] = "float32"
    """Of weights and arithmetic; `mixed` trains float32 weights with bfloat16 products (under LoRA:
    a float32 adapter on bfloat16 weights)."""
    trust_remote_code: bool = False
    """Run code that the model's folder brings along. A file cannot decide it: give it on the
    command line."""
    model_revision: str | None = None
    """Branch, tag or commit of a model on the Hub; unless given, its main branch."""
    thinking: Literal["auto", "on", "off"] = "auto"
    """Ask the chat template for thinking, or for none; `auto` leaves it to the template."""
    lora_rank: int = 0
    """Train a low-rank adapter of this rank instead of all weights; 0 trains all weights."""
    lora_alpha: int | None = None
    """The adapter's update is multiplied by this over the rank; unless given, twice the rank."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more arithmetic."""
    teacher_precision: Literal["float32", "bfloat16"] = "float32"
    """Of a teacher that copies all weights; `bfloat16` keeps what rounding takes off beside it."""
    teacher_offload: bool = False
    """Keep that teacher in main memory except while it scores."""
    attention: str | None = None
    """Attention of `transformers`: eager, sdpa, flash_attention_2; unless given, its choice."""
    device: str = "auto"
    """Where the model runs: `auto`, `cpu`, `cuda` or `cuda:1`."""
    device_map: str | None = None
    """`auto` spreads one model over the GPUs of a machine; unless given, it is on `device`."""
    threads: int = 0
    """CPU threads; 0: one for small models, else as torch chooses. Rounding depends on it."""
    out: str = "runs-out"
    """Folder of run folders: this run writes to OUT/ENV/METHOD/seed-SEED."""
    step_seconds: float = 120.0
    """Longest that an environment may take to begin an episode or to answer a step, in seconds. A
    later answer counts as a failure where the environment declares `verify_seconds`, else as an
    error."""
    track: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    """Also log to this tracker."""
    checkpoint_every: int = 4
    """Save a checkpoint after so many updates."""
    trace: int = 0
    """Training examples per update to score token by token and keep for `report` and `trace`."""
    method_options: dict[str, Any] = field(default_factory=dict)
    """Options of the method, `--set method.NAME=VALUE`."""
    env_options: dict[str, Any] = field(default_factory=dict)
    """Options of the environment, `--set env.NAME=VALUE`."""

    def to_yaml(self, *, hide: bool = True) -> str:
        """The configuration as YAML that `from_yaml` and `--config` read back.

        With `hide` what looks secret is hidden and must be given again to run it.
        """
        values = self.shown() if hide else asdict(self)
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)

    def shown(self) -> dict[str, Any]:
        """The settings as they may be written down: without what looks secret."""
        return redact_values(asdict(self))

    @classmethod
    def from_yaml(cls, text: str, source: str = "the configuration") -> RunConfig:
        """Read what `to_yaml` wrote; UsageError names `source` and what is wrong with it.

        It is to be read and not to be run: whether a server may be asked, `resolve` judges.
        """
        return _resolved(_parse_yaml(text, source), {})

    @classmethod
    def of_record(cls, path: Path) -> RunConfig:
        """The configuration of a run, see `from_yaml`; UsageError where it cannot be read."""
        try:
            text = reading.read_text(path, reading.MAX_YAML)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None
        return cls.from_yaml(text, str(path))

    def digest(self) -> str:
        """16 hex digits that depend on everything that changes results, and on nothing else."""
        text = json.dumps(self.of_results(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def of_results(self) -> dict[str, Any]:
        """The settings that change results, nested options under dotted keys, secrets hidden."""
        flat = flatten(self.shown())
        return {k: v for k, v in flat.items() if k not in NOT_RESULTS and v != HIDDEN}

    def parsed_budget(self) -> Budget:
        """The budget; UsageError where it is not understood."""
        try:
            return Budget.parse(self.budget)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.out) / self.env / self.method / f"seed-{self.seed}"


NAMED_ONLY = ("server", "trust_remote_code")
"""Settings that a file cannot decide: they give away keys and prompts, or run code. They count
where they are given on the command line."""

NOT_RESULTS = frozenset(
    {"out", "step_seconds", "track", "checkpoint_every", "trace", "engine_memory", *NAMED_ONLY}
)
"""Settings that may differ between a run and its resumption."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {"eval_temperature": 1.0, "grade": "answer"},
    "release": {"eval_temperature": 0.6, "grade": "release"},
}
"""Harness settings by preset; methods bring their own. The paper mentions only T = 1.0, its
released code validates at 0.6, and some of its verifiers read reasoning too."""

NESTED = {"method": "method_options", "env": "env_options"}
"""First part of a dotted key, and the field it fills."""


RANGES: Mapping[str, Range] = {
    **dict.fromkeys(("batch_size", "group_size", "inner_steps", "max_new_tokens"), POSITIVE),
    **dict.fromkeys(("eval_samples", "eval_tasks", "checkpoint_every"), POSITIVE),
    **dict.fromkeys(("context_limit", "lora_alpha"), POSITIVE),
    **dict.fromkeys(("seed", "eval_every", "eval_validation", "trace"), NOT_NEGATIVE),
    **dict.fromkeys(("warmup_updates", "threads", "lora_rank"), NOT_NEGATIVE),
    **dict.fromkeys(("temperature", "eval_temperature"), NOT_NEGATIVE),
    **dict.fromkeys(("weight_decay", "grad_clip"), NOT_NEGATIVE),
    **dict.fromkeys(("top_p", "eval_top_p"), NUCLEUS),
    # AdamW moves every weight by about the learning rate.
    "learning_rate": SHARE,
    "engine_memory": ABOVE_0,
    # What waits for an answer takes no longer times.
    "step_seconds": Range(0, 1e6, without_low=True),
    "feedback_level": Range(0, 5),
}
"""Of every number among the settings."""


def resolve(
    file: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
) -> RunConfig:
    """The explicit configuration that a YAML mapping, flags and `a.b=c` settings ask for.

    Flags that are None count as not given. UsageError for whatever is unknown or out of range, for
    what a file says and only the command line may (`NAMED_ONLY`), and for hidden secrets.
    """
    named = {k: v for k, v in (flags or {}).items() if v is not None}
    named = _merge(named, _normal(dict(_split_setting(text) for text in sets)))
    config = _resolved(file or {}, named)
    for key in NAMED_ONLY:
        value = config.shown()[key]
        if value and key not in named:
            given = str(value).lower() if value is True else value
            raise UsageError(
                f"a file says {key}: {value}, and only the command line may: if you mean it, add "
                f"--{key.replace('_', '-')} {given}"
            )
    for key, value in flatten(asdict(config)).items():
        if value == HIDDEN:
            raise UsageError(f"{key} was hidden when the file was written: add --set {key}=VALUE")
    return config


def _resolved(file: Mapping[str, Any], named: Mapping[str, Any]) -> RunConfig:
    """The configuration that a file and what overrides it ask for."""
    asked = _merge(_normal(file), named)
    hints = get_type_hints(RunConfig)
    asked = {k: coerce(k, v, _hint(hints, k)) for k, v in asked.items()}
    base = {f.name: asked.get(f.name, f.default) for f in fields(RunConfig)}
    if base["env"] not in plugins.installed("resd_bench.envs"):
        raise near_miss("environment", str(base["env"]), plugins.installed("resd_bench.envs"))
    spec = plugins.method(str(base["method"]))
    shipped = _normal(nano.model_defaults(str(base["model"])))
    # What ships with a model speaks to every method; each takes what it knows.
    known = {f.name for f in fields(spec.config)}
    shipped_options = {k: v for k, v in shipped.pop("method_options", {}).items() if k in known}
    layers = _merge(_merge({}, PRESETS[base["preset"]]), shipped)
    values = _defaults(RunConfig) | _merge(layers, asked)
    options = {**spec.presets.get(base["preset"], {}), **shipped_options}
    options |= asked.get("method_options", {})
    values["method_options"] = asdict(method_config(spec.config, options, spec.name))
    if values["group_size"] is None:
        values["group_size"] = spec.group_size
    if values["dialect"] is None:
        values["dialect"] = model_dialect(values["model"])
    config = RunConfig(**{k: coerce(k, v, hints[k]) for k, v in values.items()})
    _check(config)
    return config


def load_file(path: str | Path) -> dict[str, Any]:
    """The mapping a YAML file holds; UsageError where it cannot be read."""
    try:
        text = reading.read_text(Path(path), reading.MAX_YAML)
    except (OSError, ValueError) as error:
        raise UsageError(f"--config {path} cannot be read: {error}. Give a YAML file") from None
    return _parse_yaml(text, str(path))


def model_dialect(model: str) -> str:
    """The wording a model was made for, as its own `config.json` says; `full` where it does not."""
    if nano.gguf_file(model) is not None:
        return "full"
    folder = nano.local_folder(model)
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
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
    for key in options:
        if key not in known:
            raise near_miss(f"option of method {name}", key, known)
    values = {k: coerce(f"method.{k}", v, hints[k]) for k, v in options.items()}
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"method.{key}: expected a finite number, got {value}; give one")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"method {name}: {error}. Check --set method.NAME=VALUE") from None


def coerce(name: str, value: Any, hint: Any) -> Any:
    """`value`, often a string, as the type `hint`; UsageError says what was expected."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if NoneType in options and (value is None or value in ("none", "null", "None", "")):
        return None
    for option in options:
        if option is NoneType:
            continue
        try:
            return _convert(value, option)
        except (TypeError, ValueError, OverflowError):
            pass
    raise UsageError(f"{name}: expected {_describe(hint)}, got {value!r}")


_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}


def _convert(value: Any, hint: Any) -> Any:
    origin = get_origin(hint) or hint
    if hint is Any:
        return value
    if origin is Literal:
        return _chosen(value, get_args(hint))
    if hint is bool:
        return value if isinstance(value, bool) else _word(value)
    if isinstance(value, bool):
        raise TypeError
    if hint is int:
        return _whole(value)
    if hint is float:
        return float(value)
    if hint is str:
        return _text(value)
    if origin in (tuple, list):
        items = value.split(",") if isinstance(value, str) else list(value)
        inner = get_args(hint)[0] if get_args(hint) else Any
        return origin(_convert(item, inner) for item in items)
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, origin):
        return value
    raise TypeError


def _chosen(value: Any, choices: Sequence[Any]) -> Any:
    for choice in choices:
        if value == choice or str(value) == str(choice):
            return choice
    raise ValueError


def _word(value: Any) -> bool:
    if str(value).lower() not in _WORDS:
        raise ValueError
    return _WORDS[str(value).lower()]


def _whole(value: Any) -> int:
    """A whole number, exactly: one that went through a float must be small enough to be itself."""
    if isinstance(value, int):
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d[\d_]*\s*", value):
        return int(value)
    number = float(value)
    if number != int(number) or abs(number) >= EXACT:
        raise ValueError
    return int(number)


def _text(value: Any) -> str:
    # A name may look like a number.
    if not isinstance(value, str | int | float):
        raise TypeError
    return str(value)


def _describe(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_describe(option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(repr(choice) for choice in get_args(hint))
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    names |= {NoneType: "none", dict: "a mapping"}
    return names.get(get_origin(hint) or hint, str(getattr(hint, "__name__", hint)))


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys, in the words of `--set`."""
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
    """What differs between two configurations in settings that change results, in words.

    Settings in `free` may.
    """
    a, b = old.of_results(), new.of_results()
    keys = [key for key in {**a, **b} if a.get(key) != b.get(key) and key not in free]
    return [f"{key}: {a.get(key)!r} there, {b.get(key)!r} here" for key in keys]


@cache
def field_help(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, inherited ones included, as one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found: dict[str, str] = {}
    for parent in filter(is_dataclass, reversed(kind.__bases__)):
        found |= field_help(parent)
    for node, after in pairwise(body):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[node.target.id] = " ".join(str(after.value.value).split())
    return found


def _defaults(kind: type) -> dict[str, Any]:
    return {
        f.name: f.default_factory() if f.default_factory is not MISSING else f.default
        for f in fields(kind)
    }


def _split_setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text!r} is not understood: give KEY=VALUE, such as method.k=4")
    # Nothing says what types an environment's options have, so their text is read as YAML.
    if key.strip().startswith("env."):
        return key.strip(), _yaml(value, f"--set {text}")
    return key.strip(), value.strip()


def _normal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys nested, `method` and `env` mappings under their fields, unknown keys refused."""
    normal: dict[str, Any] = {}
    for key, value in values.items():
        head, dot, rest = str(key).replace("-", "_").partition(".")
        if head in NESTED and (dot or isinstance(value, Mapping)):
            head, value = NESTED[head], {rest: value} if dot else value
        elif dot and head in NESTED.values():
            value = {rest: value}
        elif dot:
            raise UsageError(f"unknown key {key!r}: dotted keys start with method. or env.")
        normal = _merge(normal, {head: value})
    known = [f.name for f in fields(RunConfig)]
    for key in normal:
        if key not in known:
            raise near_miss("configuration key", key, known)
    return normal


def _merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        if key in NESTED.values() and isinstance(value, Mapping):
            merged[key] = {**merged.get(key, {}), **value}
        else:
            merged[key] = value
    return merged


def _hint(hints: Mapping[str, Any], key: str) -> Any:
    if key not in hints:
        raise near_miss("configuration key", key, hints)
    return hints[key]


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    loaded = _yaml(text, source)
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        kind = type(loaded).__name__
        raise UsageError(f"{source} holds a {kind}: give a mapping of `key: value` lines")
    return loaded


def _yaml(text: str, source: str) -> Any:
    try:
        return reading.parse_yaml(text)
    except ValueError as error:
        raise UsageError(f"{source} is not YAML: {error}") from None


def _check(config: RunConfig) -> None:
    try:
        ranges.check(config, RANGES)
    except ValueError as error:
        raise UsageError(
            f"{error}: give --{str(error).partition(':')[0].replace('_', '-')} such a value"
        ) from None
    if (config.engine == "openai") != (config.server is not None):
        raise UsageError(
            f"engine {config.engine} and server {config.server}: --engine openai and --server "
            "http://HOST:PORT/v1 go together"
        )
    config.parsed_budget()
    _check_env_options(config.env_options)


def _check_env_options(options: Iterable[str]) -> None:
    for key in ("dialect", "feedback_level"):
        if key in options:
            raise UsageError(f"env.{key}: give --{key.replace('_', '-')} instead")
