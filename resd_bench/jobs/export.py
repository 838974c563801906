"""Export what a run has trained in common formats: adapter or model, model card, playbook.

    python -m resd_bench export runs-out/manufactoria-has/resd/seed-0 --to exported

An adapter is in the format of `peft`, a model in that of `transformers`. Nothing is uploaded unless
a repository is given. Left out: merging adapters, other precisions, quantised formats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import yaml

from resd_bench import __version__
from resd_bench.agent import Agent, InContext
from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.files.writing import make_folder, write_atomically
from resd_bench.jobs.evaluate import find_checkpoint
from resd_bench.jobs.setup import BuildPolicy, make_agent, take_over
from resd_bench.models.identity import model_identity
from resd_bench.packaged_models import SETTINGS_FILE, model_defaults
from resd_bench.records.content import refuse_changed
from resd_bench.records.run_files import RunFiles
from resd_bench.records.runs import RunData, load_run, model_label
from resd_bench.report.markdown import as_text
from resd_bench.report.tables import best_rates, both, rates
from resd_bench.stats import EvalPoint
from resd_bench.types import user

_TEMPLATE = Path(__file__).with_name("export_card.md")
_CONFIG, PLAYBOOK, CARD = "run-config.yaml", "playbook.txt", "README.md"
PROMPT, SLOT = "prompt.txt", "{task}"
"""The prompt of a policy that is shown a memory, and what in it stands for the task."""
ADAPTER = "adapter_config.json"
_REPO = r"[A-Za-z0-9][\w.-]*/[\w.-]+"


@runtime_checkable
class Savable(Protocol):
    """A policy whose weights can be written."""

    def save(self, folder: str | Path) -> None: ...


@runtime_checkable
class Renders(Protocol):
    """A playbook that can be written."""

    def render(self) -> str: ...


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    update: int
    """The checkpoint it is from."""
    adapter: bool
    playbook: bool
    notes: Sequence[str] = ()
    """What the user should know."""
    prompt: bool = False
    """Whether the policy is shown a memory, and how was written too."""


def export(
    run: Path,
    to: Path,
    update: int | None = None,
    policy: BuildPolicy | None = None,
    *,
    trust_remote_code: bool = False,
) -> Exported:
    """Write the checkpoint of `run` after `update` updates (default: last) to the new folder `to`.

    No server is contacted, and no code of the model is run without `trust_remote_code`.
    """
    data, checkpoint = load_run(run), find_checkpoint(run, update)
    _check_free(to)
    config = RunFiles.at(run).config()
    remedy = "restore it: what was trained belongs to the model that the run had"
    notes = refuse_changed(run, model_identity(config.model, config.model_revision), remedy)
    # Weights are only read and written: no GPU is needed, wherever the run was.
    here = replace(config, device="cpu", device_map=None, engine="auto", server=None)
    here = replace(here, trust_remote_code=trust_remote_code)
    model, agent = make_agent(here, policy)
    if not isinstance(model, Savable):
        kind = type(model).__name__
        raise UsageError(f"the model {config.model!r} ({kind}) has no weights that can be written")
    take_over(agent, checkpoint, run)
    make_folder(to, to)
    model.save(to)
    write_atomically(to / _CONFIG, config.to_yaml().encode(), to)
    if brought := model_defaults(config.model):
        # A run with the trained model has the settings of a run with its start.
        write_atomically(to / SETTINGS_FILE, json.dumps(brought, indent=1).encode() + b"\n", to)
    playbook = _write_playbook(getattr(agent, "playbook", None), to)
    prompt = _write_prompt(agent, to)
    made = Exported(to, checkpoint.update, (to / ADAPTER).is_file(), playbook, notes, prompt)
    text = _card(data, config, made)
    write_atomically(to / CARD, text.encode("utf-8", "backslashreplace"), to)
    return made


def _check_free(to: Path) -> None:
    taken = to.exists() or to.is_symlink()
    if taken and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"--to {to} exists and is not an empty folder: give another one")


def _write_playbook(playbook: object, to: Path) -> bool:
    """Write a method's playbook, if it has one with entries."""
    if not isinstance(playbook, Renders) or not getattr(playbook, "entries", ()):
        return False
    write_atomically(to / PLAYBOOK, playbook.render().encode("utf-8", "backslashreplace"), to)
    return True


def _write_prompt(agent: Agent, to: Path) -> bool:
    """Write what the policy is asked, with a slot for the task, if that is more than the task."""
    if not isinstance(agent, InContext):
        return False
    (message,) = agent.posed(user(SLOT))
    write_atomically(to / PROMPT, message.content.encode("utf-8", "backslashreplace"), to)
    return True


def _card(data: RunData, config: RunConfig, made: Exported) -> str:
    """The model card."""
    manifest = RunFiles.at(data.folder).json("manifest.json")
    kind = "A low-rank adapter of" if made.adapter else "A model trained from"
    kind = "The model" if made.prompt else kind
    organism = "model organism" in model_label(config.model)
    warning = (
        " **The model is a model organism, made to have misconceptions and to follow lessons: what "
        "it does is not evidence about large models.**"
    )
    update = f"after {made.update} updates"
    named = as_text(config.model)
    told = f"`{PLAYBOOK}` is what the method put into words; the trained model is not shown it."
    if made.prompt:
        told = (
            f"No weight was trained. The success after training is that of the model with the "
            f"prompt in `{PROMPT}`, the task in place of `{SLOT}`."
        )
    sees = f" **The method {manifest['sees']}.**" if manifest.get("sees") else ""
    return _TEMPLATE.read_text("utf-8").format(
        front=yaml.safe_dump(_front(config, made), sort_keys=False).strip(),
        title=as_text(f"{config.model} after {config.method} on {config.env}"),
        what=f"{kind} `{named}` by the method `{config.method}` of resd-bench, {update}.{sees}",
        warning=warning if organism else "",
        split=config.eval_split.capitalize(),
        env=config.env,
        k=config.eval_samples,
        table="\n".join(_table(data.points, made.update)),
        seed=config.seed,
        facts="\n".join(f"- {fact}" for fact in _facts(data, config, manifest, made)),
        playbook=told if made.playbook or made.prompt else "",
        code=_code(made),
    )


def _front(config: RunConfig, made: Exported) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": "peft" if made.adapter else "transformers"}
    if re.fullmatch(_REPO, config.model) and not Path(config.model).is_dir():
        front["base_model"] = config.model
    return front | {"tags": ["resd-bench", config.method, config.env]}


def _table(points: Sequence[EvalPoint], update: int) -> Iterator[str]:
    """Rows of Markdown: before any update, and at the checkpoint."""
    at = [point for point in points if point.update == update and update != points[0].update]
    shown = [points[0], *at]
    k = points[0].per_task
    yield f"| | mean@{k} | best@{k} | test cases passed | samples |"
    yield "|---|---|---|---|---|"
    for point in shown:
        name = "before" if point.update == 0 else f"after {point.episodes} training rollouts"
        key = f"per_test_case_mean@{point.per_task}"
        cases = [f"{100 * p.metrics()[key]:.1f}%" for p in (point, point.with_failures())]
        samples = f"{point.samples}" + f", {point.errors} without verdict" * bool(point.errors)
        cells = (rates(point.rate()), best_rates(point), both(*cases))
        mean, best, passed = (cell.replace("\n", "; ") for cell in cells)
        yield f"| {name} | {mean} | {best} | {passed} | {samples} |"
    if not at and update != points[0].update:
        yield f"\nIt was not evaluated after exactly {update} updates."


def _facts(
    data: RunData, config: RunConfig, manifest: Mapping[str, Any], made: Exported
) -> Iterator[str]:
    code = _mapping(manifest.get("code"))
    sha = re.sub("[^0-9a-f]", "", str(code.get("sha", "")))
    commit = f"`{sha}`" if sha else "unknown (an installed package)"
    packages = _mapping(manifest.get("packages"))
    known = [name for name in ("torch", "transformers", "peft") if name in packages]
    yield f"method `{config.method}`, preset `{config.preset}`, environment `{config.env}`"
    yield (
        f"checkpoint after {made.update} updates of a run to `{config.budget}`, which is "
        f"{as_text(str(data.status.get('state', 'of unknown state')))}"
    )
    changed = ", with changes that were not committed" if code.get("dirty") else ""
    yield f"commit of resd-bench: {commit}{changed}; exported by version {__version__}"
    if known:
        shown = [as_text(f"{name} {packages[name]}") for name in known]
        yield f"trained with {', '.join(shown)}"
    yield f"settings: learning rate {config.learning_rate:g}, seed {config.seed}" + (
        f", LoRA rank {config.lora_rank}" if made.adapter else ""
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _code(made: Exported) -> str:
    shown = [
        "from pathlib import Path",
        "",
        f'prompt = Path("{PROMPT}").read_text().replace("{SLOT}", task)',
    ]
    loader = "AutoPeftModelForCausalLM" if made.adapter else "AutoModelForCausalLM"
    return "\n".join(
        [
            f"from {'peft' if made.adapter else 'transformers'} import {loader}",
            "from transformers import AutoTokenizer",
            "",
            f'model = {loader}.from_pretrained("PATH_OR_REPOSITORY")',
            'tokenizer = AutoTokenizer.from_pretrained("PATH_OR_REPOSITORY")',
            *(shown if made.prompt else ()),
        ]
    )


def check_repository(repository: str) -> None:
    """UsageError unless `repository` is a name on the Hub."""
    if not re.fullmatch(_REPO, repository):
        raise UsageError(f"--push {repository!r} is not a repository name: give OWNER/NAME")


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload an exported folder to a repository on the Hub, creating it if needed; its address.

    UsageError if the Hub cannot be reached or refuses; the folder is not changed.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    from resd_bench.policy.loading import without_network

    check_repository(repository)
    later = f"{folder} is complete; `hf upload {repository} {folder}` uploads it later"
    if without_network():
        raise UsageError(f"--push {repository}: huggingface.co cannot be reached. {later}")
    api = HfApi()
    try:
        made = api.create_repo(repository, private=private, exist_ok=True)
        message = f"Exported by resd-bench {__version__}"
        api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message=message)
    except LocalTokenNotFoundError:
        raise UsageError(f"--push {repository}: log in with `hf auth login`. {later}") from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"--push {repository}: the Hub refused: {first}. {later}") from error
    return str(made)
