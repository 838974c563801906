"""What a run is about, by content: tasks, model, tokenizer, environment, prompts, a plug-in's code.

Settings name data files and model folders, and what lies there may change under its name. So the
manifest keeps a hash of each, and whoever goes on with a run, or reads its checkpoint, compares
them with what is there now: a curve of two task sets, or an adapter on another base, is refused.
Left out: code of resd-bench itself, whose environments change their version with their tasks
(the manifest has the commit), and weights that a server holds.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cached_property, partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from resd_bench import nano, plugins
from resd_bench.config import RunConfig
from resd_bench.env import TextEnv
from resd_bench.manifest import MOST_HASHED, code_version, weights_hash
from resd_bench.plugins import UsageError
from resd_bench.record import read_json
from resd_bench.types import Split, Task

Identity = Mapping[str, str]
"""A hash or a version by what it is of; what cannot be told is absent."""

OURS = "resd-bench"
"""The distribution whose environments and methods keep versions of their own."""
SAMPLED_BYTES, STRIDE_BYTES = 1 << 16, 1 << 22
"""Of files that are too large to be hashed: how much of how much is read."""
SOURCES = (".py", ".md", ".txt", ".jinja", ".j2", ".yaml", ".yml", ".toml")
"""What is code or a template; other files of a package may be what it makes."""
WEIGHTS, OLD_WEIGHTS = ("*.safetensors",), ("pytorch_model*.bin", "adapter_model.bin")
"""What is loaded, and what is where there is none of that."""
CONFIGURATION = ("config.json", "generation_config.json", "adapter_config.json")
TOKENIZER = (
    *("tokenizer*", "vocab*", "merges*", "special_tokens*", "added_tokens*", "chat_template*"),
    *("*.model", "*.tiktoken", "*.jinja"),
)
ADAPTER = "adapter_config.json"


def identity(
    config: RunConfig, env: TextEnv, elsewhere: Mapping[str, tuple[TextEnv, Sequence[Task]]] = {}
) -> dict[str, str]:
    """What a run of `config` is about now.

    `env` is its environment; `elsewhere` by name other ones it is evaluated on, and the tasks
    there. Whole splits count, whatever part of them is evaluated on.
    """
    splits: list[Split] = ["train", config.eval_split]
    if config.eval_validation:
        splits.append("validation")
    found = split_hashes(env, dict.fromkeys(splits))
    found |= {f"tasks.{name}": tasks_hash(*there) for name, there in elsewhere.items()}
    for name in (config.env, *elsewhere):
        found[f"code.env.{name}"] = plugin_version("resd_bench.envs", name)
    found["code.method"] = plugin_version("resd_bench.methods", config.method)
    found["prompts"] = prompts_hash(config.dialect)
    return found | model_identity(config.model, config.model_revision)


def split_hashes(env: TextEnv, splits: Iterable[Split]) -> dict[str, str]:
    """`tasks_hash` of whole splits, as `tasks.SPLIT`."""
    return {f"tasks.{split}": tasks_hash(env, env.tasks(split)) for split in splits}


# Tasks.


def tasks_hash(env: TextEnv, tasks: Sequence[Task]) -> str:
    """SHA-256 over ids and contents in order, and over the files that `env` plays them from."""
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(fingerprint(task))
    for path in env.files_of(tasks):
        digest.update(fingerprint([path.name, path.read_bytes()]))
    return digest.hexdigest()


def fingerprint(value: Any) -> bytes:
    """SHA-256 of what a value holds, the same in every process; fields of objects count.

    Mappings and sets have no order, lists and tuples are alike, and so is an object to the mapping
    of its fields. Of code the name counts, and of what has no fields its text, unless that is its
    place in memory.
    """
    try:
        text = _text(value, ())
    except RecursionError:
        text = "nested too deeply"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


CODE = (type, FunctionType, BuiltinFunctionType, MethodType)


def _text(value: Any, around: tuple[int, ...]) -> str:
    """What a value holds as text; `around` are the objects that it is in."""
    if value is None or isinstance(value, bool | int | float):
        return f"{value!r};"
    if isinstance(value, str):
        # With its length, so that no text can pass for another value.
        return f"{len(value)}:{value};"
    if isinstance(value, bytes):
        return f"b{value.hex()};"
    if id(value) in around:
        return "itself;"
    ordered, parts = _parts(value)
    inside = (*around, id(value))
    texts = [_text(part, inside) for part in parts]
    return f"[{''.join(texts)}]" if ordered else f"{{{''.join(sorted(texts))}}}"


def _parts(value: Any) -> tuple[bool, Iterable[Any]]:
    """The values in a value, and whether their order counts."""
    if isinstance(value, list | tuple):
        return True, value
    if isinstance(value, Mapping):
        return False, list(value.items())
    if isinstance(value, set | frozenset):
        return False, value
    if isinstance(value, Sequence):
        return True, list(value)
    if isinstance(value, partial):
        return True, ["partial", value.func, value.args, value.keywords]
    if isinstance(value, CODE):
        return True, ["code", value.__qualname__]
    if hasattr(value, "tolist"):
        return True, ["array", value.tolist()]
    if own := _fields(value):
        return False, list(own.items())
    text = repr(value)
    return True, [type(value).__qualname__, "" if " at 0x" in text else text]


def _fields(value: Any) -> dict[str, Any]:
    """The fields of an object, without what it remembers of what they say."""
    if is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    slots = (name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))
    own = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    own |= getattr(value, "__dict__", {})
    kind = type(value)
    return {k: v for k, v in own.items() if not isinstance(getattr(kind, k, None), cached_property)}


# Code.


def plugin_version(group: str, name: str) -> str:
    """The version of an environment or method; of a plug-in that is not ours its code too."""
    point = plugins.installed(group)[name]
    own = point.dist
    named = plugins.gym_id(name)
    if own is None or own.name == OURS:
        return named
    return f"{named} of {own.name} {own.version}, {_code_hash(point)}"


def _code_hash(point: EntryPoint) -> str:
    """SHA-256 of the source of the plug-in's package, or of its module where that is all."""
    spec = importlib.util.find_spec(point.module.partition(".")[0])
    digest = hashlib.sha256()
    for place in _sources(spec.submodule_search_locations, spec.origin) if spec else ():
        digest.update(fingerprint([place.name, place.read_bytes()]))
    return digest.hexdigest()


def _sources(folders: Iterable[str] | None, origin: str | None) -> list[Path]:
    if folders is None:
        return [Path(origin)] if origin and Path(origin).is_file() else []
    every = (path for folder in folders for path in sorted(Path(folder).rglob("*")))
    return [path for path in every if path.suffix in SOURCES and path.is_file()]


def prompts_hash(dialect: str | None) -> str:
    """SHA-256 of the templates of the installed prompt packs, in one dialect where they have it."""
    digest, other = hashlib.sha256(), {"full", "compact"} - {dialect}
    for name, point in plugins.installed("resd_bench.prompts").items():
        spec = importlib.util.find_spec(point.module)
        for path in _sources(spec.submodule_search_locations, spec.origin) if spec else ():
            if path.suffix != ".py" and path.parent.name not in other:
                digest.update(fingerprint([name, path.parent.name, path.name, path.read_bytes()]))
    return digest.hexdigest()


# The model.


def model_identity(model: str, revision: str | None = None, depth: int = 3) -> dict[str, str]:
    """Hashes of weights, configuration and tokenizer of a model here; of one of the Hub its commit.

    An adapter's base counts too. {} where there is no such model here.
    """
    if model in nano.GGUF_PACKAGES or nano.gguf_file(model, revision) is not None:
        # All of it is in the file: what was made of it is another version's affair.
        return {"model.weights": str(weights_hash(model, revision))}
    folder = nano.local_folder(model)
    if folder is None:
        commit = hub_commit(model, revision)
        return {} if commit is None else {"model.commit": commit}
    found = {
        "model.weights": weights_hash(model) or _large_or_old(folder),
        "model.config": files_hash(_matching(folder, CONFIGURATION)),
        "model.tokenizer": files_hash(_matching(folder, TOKENIZER)),
    }
    base = adapter_base(folder)
    if base is not None and depth:
        own = model_identity(base, depth=depth - 1)
        found |= {key.replace("model.", "model.base.", 1): value for key, value in own.items()}
    return {key: value for key, value in found.items() if value is not None}


def _large_or_old(folder: Path) -> str | None:
    """A hash of weights that `weights_hash` does not know; None where there are none."""
    files = _matching(folder, WEIGHTS) or _matching(folder, OLD_WEIGHTS)
    if not files:
        return None
    small = sum(path.stat().st_size for path in files) <= MOST_HASHED
    return files_hash(files) if small else sampled_hash(files)


def adapter_base(folder: Path) -> str | None:
    """The model that an adapter in `folder` was trained on; None where it holds no adapter."""
    try:
        text = (folder / ADAPTER).read_text(encoding="utf-8")
        return str(json.loads(text)["base_model_name_or_path"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def hub_commit(model: str, revision: str | None) -> str | None:
    """The commit of a model of the Hub in the local cache; None where it is not there."""
    if "/" not in model:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in CONFIGURATION:
        try:
            path = try_to_load_from_cache(model, name, revision=revision or "main")
        except HFValidationError:
            return None
        if isinstance(path, str):
            return Path(path).parent.name
    return None


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(found)


def files_hash(paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(fingerprint([path.name, path.read_bytes()]))
    return digest.hexdigest()


def sampled_hash(paths: Iterable[Path]) -> str:
    """SHA-256 over names, sizes and `SAMPLED_BYTES` of every `STRIDE_BYTES`, the last ones too.

    It sees any training, which moves all weights, and reads a 64th of them.
    """
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(fingerprint([path.name, size]))
        with path.open("rb") as file:
            for start in (*range(0, size, STRIDE_BYTES), max(0, size - SAMPLED_BYTES)):
                file.seek(start)
                digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()


BASE_FILE = "resd-bench-base.json"
"""What an exported adapter's base was when it was trained."""


def write_base(folder: Path, base: Identity) -> None:
    """Write down beside an adapter what its base is."""
    text = json.dumps(dict(base), indent=2, sort_keys=True)
    (folder / BASE_FILE).write_text(text + "\n", encoding="utf-8")


def refuse_other_base(folder: Path, base: str) -> None:
    """UsageError where the `base` of the adapter in `folder` is not what it was trained on."""
    there = read_json(folder / BASE_FILE)
    if found := differing(there, model_identity(base)):
        raise UsageError(
            f"the adapter {folder} was trained on another {base} than there is now: "
            f"{'; '.join(found)}. Restore that model, or name the right one in {ADAPTER}"
        )


# Comparing.


def refuse_changed(folder: Path, here: Identity, remedy: str) -> list[str]:
    """UsageError where the run in `folder` began with other content than what is `here` now.

    It names what differs and the `remedy`. What the user should know beside, such as what its
    manifest is too old to tell.
    """
    manifest = read_json(folder / "manifest.json")
    if found := differing(known(manifest), here):
        raise UsageError(
            f"{folder} began with other content than there is now: {'; '.join(found)}. What is "
            f"read under the same names has changed: {remedy}"
        )
    return _notes(manifest)


def differing(there: Identity, here: Identity) -> list[str]:
    """What both know and is not the same, in words."""
    return [
        f"{key} ({_brief(there[key])} then, {_brief(here[key])} now)"
        for key in there
        if key in here and there[key] != here[key]
    ]


def known(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What a manifest says that its run is about; an old one has the hash of its tasks together."""
    old = {"tasks": "task_panel_sha256", "model.weights": "weights_sha256"}
    found = {key: manifest.get(name) for key, name in old.items()}
    found = manifest.get("identity") or found
    return {key: value for key, value in found.items() if value is not None}


def _notes(manifest: Mapping[str, Any]) -> list[str]:
    notes = []
    if not manifest.get("identity"):
        notes.append(
            "this run began before records held the content of tasks, environment, prompts and "
            "tokenizer: whether they are the same was not compared"
        )
    then, now = manifest.get("code") or {}, code_version()
    if then.get("sha") and now.get("sha") and then["sha"] != now["sha"]:
        notes.append(f"this run began with commit {then['sha'][:10]}; here is {now['sha'][:10]}")
    return notes


def _brief(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:12]}…"
