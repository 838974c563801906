"""`run`: a method on an environment, to a budget. What --dry-run shows is made by `plan.py`."""

from __future__ import annotations

import inspect
import math
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from resd_bench.commands.shared import Sets
from resd_bench.config import NESTED, RunConfig, load_file, resolve
from resd_bench.errors import UsageError
from resd_bench.files.terminal import note, out
from resd_bench.files.writing import check_folder_target
from resd_bench.options import field_help, whole_numbers
from resd_bench.packaged_models import model_defaults, unspoken

PLANS = "Options of --dry-run"
HEADINGS: Mapping[str, Sequence[str]] = {
    "What runs": ("env", "method", "model", "preset", "seed", "budget", "out"),
    "Rollouts": (
        *("batch_size", "group_size", "inner_steps", "task_order", "max_new_tokens", "temperature"),
        *("top_p", "feedback_level", "feedback", "grade", "step_seconds", "rollout_slots"),
    ),
    "Evaluation": (
        *("eval_every", "eval_samples", "eval_tasks", "eval_split", "eval_temperature"),
        *("eval_top_p", "eval_validation", "eval_contexts", "eval_also", "eval_on", "keep_texts"),
    ),
    "Training": (
        *("learning_rate", "warmup", "warmup_updates", "weight_decay", "grad_clip", "precision"),
        *("lora_rank", "lora_alpha", "gradient_checkpointing"),
        *("teacher_precision", "teacher_offload"),
    ),
    "Model and machine": (
        *("dialect", "thinking", "context_limit", "engine", "engine_memory", "server"),
        *("server_model", "threads", "device", "device_map", "attention"),
        *("model_revision", "trust_remote_code"),
    ),
    "Records": ("track", "checkpoint_every", "trace"),
}
"""Where the help of `run` has each setting."""
ConfigFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="YAML file with settings; flags override it.")
]
Seeds = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="Run these seeds one after the other: 0,1,2 or 0-4."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Resume an unfinished run; start it if there is none.")
]
FailFast = Annotated[
    bool,
    typer.Option(
        "--fail-fast",
        help="Stop a run that cannot learn, or a part of whose method does not work, with exit "
        "code 2 and the reason.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show the settings, tokens and memory of the run; write nothing."
    ),
]
PlannedGPUs = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="INT",
        help="Number of GPUs to plan for (default: those visible here).",
        rich_help_panel=PLANS,
    ),
]
PlannedMemory = Annotated[
    str | None,
    typer.Option(
        metavar="80GB",
        help="Memory of each GPU to plan for (default: of those visible here).",
        rich_help_panel=PLANS,
    ),
]
PlannedFSDP = Annotated[
    bool,
    typer.Option(
        "--fsdp",
        help="Assume weights are sharded over processes (FSDP).",
        rich_help_panel=PLANS,
    ),
]
MeanTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="INT",
        help="Expected mean completion length (default: half of --max-new-tokens).",
        rich_help_panel=PLANS,
    ),
]
MeasuredRates = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="A run on such a machine whose rates give the hours, or FLOPs and evaluated "
        "tokens a second of one GPU, e.g. 2e14,3000.",
        rich_help_panel=PLANS,
    ),
]


def flags_of_config() -> list[inspect.Parameter]:
    """A command-line option for each setting that is not nested, with its docstring as help."""
    helps, hints = field_help(RunConfig), get_type_hints(RunConfig)
    shipped = {k: v for k, v in model_defaults(RunConfig.model).items() if k != "method"}
    return [
        inspect.Parameter(
            setting.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None,
                typer.Option(
                    "--" + setting.name.replace("_", "-"),
                    metavar=_metavar(hints[setting.name]),
                    help=helps[setting.name] + _default(setting.name, setting.default, shipped),
                    show_default=False,
                    rich_help_panel=next(h for h, own in HEADINGS.items() if setting.name in own),
                ),
            ],
        )
        for setting in fields(RunConfig)
        if setting.name not in NESTED.values()
    ]


def _default(name: str, value: Any, shipped: Mapping[str, Any]) -> str:
    """What a setting is unless it is given, also with the default model, which brings its own.

    Where there is neither, the docstring says it.
    """
    told = [str(value).lower() if isinstance(value, bool) else str(value)] * (value is not None)
    general = shipped.get(name, value)
    found = {own[name] for own in shipped.get("methods", {}).values() if name in own}
    if found - {general}:
        *several, last = map(str, sorted(found | {general}))
        told.append(f"with {RunConfig.model}, by method: {', '.join(several)} or {last}")
    elif name in shipped:
        told.append(f"with {RunConfig.model}: {general}")
    return f" [default: {'; '.join(told)}]" if told else ""


def _metavar(hint: Any) -> str:
    one = next((o for o in get_args(hint) if o is not type(None)), hint)
    one = hint if get_origin(hint) is Literal else one
    if get_origin(one) is Literal:
        return "|".join(get_args(one))
    names: Mapping[Any, str] = {int: "INT", float: "NUMBER", str: "TEXT", bool: "true|false"}
    return names.get(one, "VALUE")


def with_config_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes `**flags` the flags of `RunConfig`."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    fixed = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
    plans = [p for p in fixed if get_args(p.annotation)[-1].rich_help_panel == PLANS]
    parameters = [*(p for p in fixed if p not in plans), *flags_of_config(), *plans]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


@with_config_flags
def run(
    *,
    config: ConfigFile = None,
    sets: Sets = None,
    seeds: Seeds = None,
    resume: Resume = False,
    fail_fast: FailFast = False,
    dry_run: DryRun = False,
    gpus: PlannedGPUs = None,
    gpu_memory: PlannedMemory = None,
    fsdp: PlannedFSDP = False,
    mean_tokens: MeanTokens = None,
    rates: MeasuredRates = None,
    **flags: str | None,
) -> None:
    """Run a method on an environment, and report held-out success."""
    from resd_bench.commands.plan import PlanFor, show_plan
    from resd_bench.distributed.process_group import is_rank0

    given = PlanFor(gpus, gpu_memory, fsdp, mean_tokens, rates)
    if not dry_run and given != PlanFor():
        raise UsageError(
            "--gpus, --gpu-memory, --fsdp, --mean-tokens and --rates need --dry-run: add it"
        )
    configs = one_for_each_seed(config, sets or (), seeds, flags)
    if warning := unspoken(configs[0].model, configs[0].env):
        note(f"warning: {warning}")
    if is_rank0() and (told := batch_note(configs[0])):
        note(told)
    if dry_run:
        for resolved in configs:
            show_plan(resolved, given)
        return
    for resolved in configs:
        check_folder_target(resolved.folder())
    for number, resolved in enumerate(configs, start=1):
        if len(configs) > 1 and is_rank0():
            note(f"run {number} of {len(configs)}: seed {resolved.seed}")
        try:
            code = run_one(resolved, resume, fail_fast)
        except KeyboardInterrupt:
            # Before a signal asks the run to end, or the second of them.
            code = 128 + signal.SIGINT
            if is_rank0():
                interrupted(resolved.folder(), code)
        if code:
            raise typer.Exit(code)
    if len(configs) > 1 and is_rank0():
        show_mean([resolved.folder() for resolved in configs])


def one_for_each_seed(
    file: str | None, sets: Sequence[str], seeds: str | None, flags: Mapping[str, str | None]
) -> list[RunConfig]:
    """The settings of each run: those of a file, over which flags and `--set` have their way."""
    if seeds is not None and flags.get("seed") is not None:
        raise UsageError("--seed and --seeds were both given: give one of them")
    settings = load_file(file) if file is not None else {}
    if file is not None and not settings:
        raise UsageError(f"{file} is empty: give settings, a line each, such as `method: sft`")
    numbers = whole_numbers("--seeds", seeds) if seeds is not None else [flags.get("seed")]
    return [resolve(settings, {**flags, "seed": seed}, sets) for seed in numbers]


FEW_UPDATES = 20
"""A batch of groups that makes fewer of the budget is told with a smaller one."""
_MORE = ", more where groups are without variance"


def batch_note(config: RunConfig) -> str:
    """What a batch of groups makes of the budget; "" for a method with one rollout per task."""
    group, updates = config.group_size or 1, config.updates()
    if group == 1 or updates is None:
        return ""
    least, most = config.batch_size * group, config.batch_size * group * (1 + _rounds(config))
    told = (
        f"{config.method}: an update takes {_span(least, most)} rollouts "
        f"({config.batch_size} tasks x {group}{_MORE * (most > least)}), so {config.budget} is "
        f"{_updates(config, updates)} updates"
    )
    smaller = config.batch_size // group
    if not smaller or updates >= FEW_UPDATES:
        return told
    more = _updates(config, updates * config.batch_size // smaller)
    return f"{told}; --batch-size {smaller} makes {more}"


def _rounds(config: RunConfig) -> int:
    """Rounds, at most, in which a method may play as many rollouts again as an update has."""
    return int(config.method_options.get("dynamic_sampling") or 0)


def _updates(config: RunConfig, planned: int) -> str:
    """The updates of a budget that is planned for so many: fewer, if rollouts are added."""
    each = 1 + _rounds(config) if config.parsed_budget().unit == "ep" else 1
    return _span(math.ceil(planned / each), planned)


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def run_one(config: RunConfig, resume: bool, fail_fast: bool = False) -> int:
    """Run one configuration and show what came out; the exit code."""
    from resd_bench.distributed.join import join
    from resd_bench.monitoring.collector import PausedCollector
    from resd_bench.monitoring.progress_bar import Progress
    from resd_bench.monitoring.trackers import make_tracker

    if join(config.device).rank != 0:
        from resd_bench.jobs.run import run

        outcome = run(config, resume=resume, fail_fast=fail_fast)
        return 128 + outcome.signal if outcome.state == "interrupted" else 0
    loading = PausedCollector()
    with loading, Progress(config) as progress, make_tracker(config) as tracker:
        # Only now: it takes seconds, in which the run should already be seen.
        from resd_bench.jobs.run import Watcher, run
        from resd_bench.monitoring.duration import DurationEstimate

        watchers: list[Watcher] = [progress, tracker, loading, DurationEstimate(config)]
        outcome = run(config, resume=resume, fail_fast=fail_fast, watchers=watchers)
    for told in outcome.notes:
        note(f"note: {told}")
    if outcome.state == "interrupted":
        return interrupted(outcome.folder, 128 + outcome.signal)
    if outcome.state == "already finished":
        note(f"{outcome.folder} holds this run, finished; its results:")
    show_run(outcome.folder, Path(config.out))
    return 0


def interrupted(folder: Path, code: int) -> int:
    """Say what an interrupted run left behind; the exit `code`."""
    from resd_bench.records.left_behind import NOTHING, left_behind

    left = left_behind(folder)
    if left == NOTHING:
        note(f"interrupted before the run began; {left}")
    else:
        note(f"interrupted; {left}\n  {folder}")
    return code


def show_run(folder: Path, root: Path) -> None:
    """The final table of a run below the named folder `root`, and its figure."""
    from resd_bench.monitoring.faults import faults_of
    from resd_bench.records.runs import load_run
    from resd_bench.report.figures import learning_curve
    from resd_bench.report.run_notes import next_commands, run_notes
    from resd_bench.report.tables import run_table

    data = load_run(folder)
    figure = learning_curve(data, folder / "learning_curve", root)[0]
    console = out()
    console.print(run_table(data))
    for fault in faults_of(data.metrics, data.settings):
        note(str(fault))
    for text in run_notes(data):
        console.tell(f"note   {text}", indent=" " * 7)
    console.print(f"run    {folder}\nfigure {figure}", soft_wrap=True)
    for command in next_commands(folder, data):
        console.print(f"next   {command}", soft_wrap=True)


def show_mean(folders: Sequence[Path]) -> None:
    """The mean over the seeds of a method before training and after it."""
    from resd_bench.records.runs import load_run
    from resd_bench.report.tables import mean_over_seeds

    out().print(mean_over_seeds([load_run(folder) for folder in folders]))
