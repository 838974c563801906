"""Hashes of a run's content: tasks, model, tokenizer, environment, prompts, code of plug-ins.

Settings name data files and model folders, whose content can change under the same name. So the
manifest keeps a hash of each, and everything that resumes a run or reads its checkpoint compares
them with the present content: a curve over two task sets, or an adapter on another base, is
refused. Left out: code of resd-bench itself, whose environments change their version with their
tasks (the manifest has the commit), and weights that a server holds.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, get_args

from resd_bench import plugins
from resd_bench.agent import Load
from resd_bench.config import RunConfig, method_config
from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.files.fingerprints import Identity, differing, fingerprint
from resd_bench.files.integrity import file_sha256, files_sha256
from resd_bench.models.identity import model_identity
from resd_bench.records.manifest import code_version
from resd_bench.records.recorder import read_json
from resd_bench.types import PromptDialect, Split, Task

OURS = "resd-bench"
"""The distribution whose environments and methods have their own versions."""
SOURCES = (".py", ".md", ".txt", ".jinja", ".j2", ".yaml", ".yml", ".toml")
"""Suffixes of code and templates; other files of a package may be its output."""


def identity(
    config: RunConfig, env: TextEnv, elsewhere: Mapping[str, tuple[TextEnv, Sequence[Task]]] = {}
) -> dict[str, str]:
    """The present content of a run of `config`.

    `env` is its environment; `elsewhere` holds, by name, other environments it is evaluated on and
    their tasks. Whole splits are hashed, whatever part of them is evaluated.
    """
    splits: list[Split] = ["train", config.eval_split]
    if config.eval_validation:
        splits.append("validation")
    found = split_hashes(env, dict.fromkeys(splits))
    found |= {f"tasks.{name}": tasks_hash(*there) for name, there in elsewhere.items()}
    for name in (config.env, *elsewhere):
        found[f"code.env.{name}"] = plugin_version("resd_bench.envs", name)
    found["code.method"] = plugin_version("resd_bench.methods", config.method)
    if _of_others(plugins.installed("resd_bench.engines").get(config.engine)):
        found["code.engine"] = plugin_version("resd_bench.engines", config.engine)
    if may_use_prompts(config):
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
    digest.update(files_sha256(env.files_of(tasks)).encode())
    return digest.hexdigest()


# Code.


def plugin_version(group: str, name: str) -> str:
    """The version of an environment or method; for a third party's, also a hash of the code."""
    point = plugins.installed(group)[name]
    named = plugins.gym_id(name)
    if point.dist is None or not _of_others(point):
        return named
    return f"{named} of {point.dist.name} {point.dist.version}, {_code_hash(point)}"


def _of_others(point: EntryPoint | None) -> bool:
    """Whether another distribution than ours brings the plug-in."""
    return point is not None and point.dist is not None and point.dist.name != OURS


def _code_hash(point: EntryPoint) -> str:
    """SHA-256 of the source of the plug-in's package, or of its module if it has no package."""
    spec = importlib.util.find_spec(point.module.partition(".")[0])
    return files_sha256(_sources(spec.submodule_search_locations, spec.origin) if spec else ())


def _sources(folders: Iterable[str] | None, origin: str | None) -> list[Path]:
    if folders is None:
        return [Path(origin)] if origin and Path(origin).is_file() else []
    every = (path for folder in folders for path in sorted(Path(folder).rglob("*")))
    return [path for path in every if path.suffix in SOURCES and path.is_file()]


def may_use_prompts(config: RunConfig) -> bool:
    """Whether a run's method may write or show anything besides the tasks themselves.

    Of our own methods, one that samples, teaches and remembers nothing uses no prompt pack; of
    others it is not known.
    """
    spec = plugins.method(config.method)
    if _of_others(plugins.installed("resd_bench.methods")[config.method]):
        return True
    options = method_config(spec.config, config.method_options, spec.name)
    return spec.load(options) != Load()


def prompts_hash(dialect: str | None) -> str:
    """SHA-256 of the templates of the installed prompt packs, in one dialect if they have it."""
    digest, other = hashlib.sha256(), set(get_args(PromptDialect)) - {dialect}
    for name, point in plugins.installed("resd_bench.prompts").items():
        spec = importlib.util.find_spec(point.module)
        for path in _sources(spec.submodule_search_locations, spec.origin) if spec else ():
            if path.suffix != ".py" and path.parent.name not in other:
                digest.update(fingerprint([name, path.parent.name, path.name, file_sha256(path)]))
    return digest.hexdigest()


# Comparing.


def refuse_changed(folder: Path, here: Identity, remedy: str) -> list[str]:
    """UsageError if the run in `folder` began with other content than `here`; notes for the user.

    The error names what differs and the `remedy`; notes say what an old manifest does not tell.
    """
    manifest = read_json(folder / "manifest.json")
    if found := differing(known(manifest), here):
        raise UsageError(
            f"{folder} began with other content than there is now: {'; '.join(found)}. What is "
            f"read under the same names has changed: {remedy}"
        )
    return _notes(manifest)


def known(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The content recorded in a manifest; an old one has a single hash of all tasks."""
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
