"""Learning curves of one run and of several runs. Figures are functions of records."""

from __future__ import annotations

import io
import itertools
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resd_bench.files.writing import make_folder, write_atomically
from resd_bench.records.runs import RunData
from resd_bench.stats import Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METHOD_COLOURS: Mapping[str, str] = {
    "resd": "#0072B2",
    "sft": "#D55E00",
    "sdpo": "#009E73",
    "grpo": "#CC79A7",
    "sdpo+ss": "#E69F00",
    "grpo-small-batch": "#56B4E9",
    "base": "#000000",
}
"""Okabe and Ito's palette, which colour-blind readers can distinguish; for nothing else."""
OTHER_COLOURS = (
    *("#7A5CC0", "#882255", "#117733", "#999933"),
    *("#332288", "#CC6677", "#44AA99", "#AA4499"),
)
"""Like Paul Tol's muted ones, for everything that is not one of these methods."""
DPI = 150
"""Pixels an inch of a PNG."""
TITLE_INCHES = 0.09
"""Width of a title's character, by which it is wrapped."""
HANDLE_INCHES = 0.65
"""Width of the line before a label of a legend, and of what is left blank."""
LEGEND_ROWS = 8
"""Rows of a legend for which a figure has room."""
LEGEND_INCHES = 0.18
"""Height of one more, in small letters."""
_PLACES = re.compile(r' (?:d|x|y|points)="[^"]*"')
"""The attributes of an SVG that hold positions, in points."""
_FINER = re.compile(r"(\.\d)\d+")
HASHED = re.compile(r'id="([A-Za-z][0-9a-f]{10})"')
"""A name that matplotlib gives to a clip or a marker in an SVG."""

AXIS_LABELS: Mapping[Axis, str] = {
    "episodes": "training rollouts",
    "tokens": "generated tokens, all",
    "updates": "updates",
    "turns": "turns of training rollouts",
    "seconds": "seconds of training",
    "flops": "estimated FLOPs of training",
}


def learning_curve(run: RunData, stem: Path, root: Path | None = None) -> list[Path]:
    """Draw one run as `<stem>.png` and `<stem>.svg`: held-out and training success over rollouts.

    The band is Wilson's 95% interval of mean@k on the effective number of samples.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    x = [point.episodes for point in run.points]
    intervals = [point.interval() for point in run.points]
    k = run.points[-1].per_task
    low, high = [100 * i.low for i in intervals], [100 * i.high for i in intervals]
    colour = colours_of([run.method])[run.method]
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    mean, best = [100 * i.mean for i in intervals], [100 * p.best for p in run.points]
    axes.plot(x, mean, "o-", color=colour, markersize=4, label=f"held-out mean@{k}, 95% band")
    axes.plot(x, best, "--", color=colour, alpha=0.7, label=f"held-out best@{k}")
    if any(point.errors for point in run.points):
        least = [100 * p.with_failures().mean for p in run.points]
        axes.plot(x, least, ":", color=colour, label=f"mean@{k}, no verdict as failure")
    rows = [row for row in run.metrics if row.get("train/success") is not None]
    axes.plot(
        [row["episodes"] for row in rows],
        [100 * row["train/success"] for row in rows],
        ".",
        color="0.55",
        markersize=4,
        label="success of training rollouts, per update",
    )
    _dress(axes, "episodes")
    axes.legend(frameon=False, loc="best")
    axes.set_title(f"{run.called} on {run.setting} · seed {run.seed}", fontsize=11)
    return save_figure(figure, stem, root=root)


def comparison(
    groups: Mapping[str, Sequence[RunData]], title: str, stem: Path, axis: Axis = "episodes"
) -> list[Path]:
    """Draw groups of runs as `<stem>.png` and `.svg`."""
    return save_figure(draw_comparison(groups, axis), stem, title)


def draw_comparison(groups: Mapping[str, Sequence[RunData]], axis: Axis = "episodes") -> Figure:
    """Learning curves of groups of runs: a row of panels for each environment.

    Panels are over rollouts and all generated tokens, as far as the records hold them, and over
    `axis`. Thin lines are seeds, thick ones means over the evaluations that all seeds of a group
    have. Of more groups than there are styles, the means alone are drawn in a colour per method.
    """
    from matplotlib.figure import Figure

    by_method = _methods_of_many(list(groups))
    runs = [run for group in groups.values() for run in group]
    wanted = dict.fromkeys(["episodes", "tokens", axis])
    axes: list[Axis] = [
        a for a in AXIS_LABELS if a in wanted and not any(a in r.lacks for r in runs)
    ]
    environments = list(dict.fromkeys(run.env for run in runs))
    shape = (len(environments), len(axes))
    width = min(5.3, 10.6 / shape[1])
    figure = Figure(figsize=(0.4 + width * shape[1], 0.4 + 4 * shape[0]), layout="constrained")
    grid = figure.subplots(*shape, sharey=True, squeeze=False)
    for panels, env in zip(grid, environments, strict=True):
        for panel, over in zip(panels, axes, strict=True):
            if by_method:
                _draw_many(panel, groups, by_method, env, over)
            else:
                _draw(panel, groups, env, over)
        panels[0].set_ylabel(f"{plain_text(env)}: success (%)" if shape[0] > 1 else "success (%)")
    # An environment may lack some of the groups.
    handles = {
        label: handle
        for panel in figure.axes
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    if by_method:
        numbers = Counter(by_method.values())
        named = {
            f"{plain_text(method)} ({count} setting{'s' * (count > 1)})": handles[
                plain_text(method)
            ]
            for method, count in numbers.items()
        }
        _legend_below(figure, named, "a line for each setting, a colour for each method")
        return figure
    told = {label: _with_seeds(label, group) for label, group in groups.items() if group}
    lines = [handles[plain_text(label)] for label in told]
    _legend_below(figure, dict(zip(told.values(), lines, strict=True)))
    return figure


def _methods_of_many(labels: Sequence[str]) -> dict[str, str]:
    """The method of each label, where styles would mean two things; {} where they do not.

    {} too where even the methods are too many to have styles of their own.
    """
    methods = {label: label.partition(" · ")[0] for label in labels}
    return methods if _repeats(labels) and not _repeats(list(methods.values())) else {}


def _repeats(labels: Sequence[str]) -> bool:
    """Whether two labels have the same style: a colour has two, solid and dashed."""
    colours = colours_of(list(dict.fromkeys(labels)))
    return max(Counter(colours.values()).values(), default=0) > 2


def _draw_many(
    panel: Axes,
    groups: Mapping[str, Sequence[RunData]],
    methods: Mapping[str, str],
    env: str,
    axis: Axis,
) -> None:
    """The means of groups, in the colour of their method and with its name."""
    colours = colours_of(list(dict.fromkeys(methods.values())))
    for label, group in groups.items():
        if runs := [run for run in group if run.env == env]:
            x, y = mean_curve(runs, axis)
            name = plain_text(methods[label])
            panel.plot(x, 100 * y, color=colours[methods[label]], lw=1.2, alpha=0.7, label=name)
    _dress(panel, axis)
    panel.set_ylabel("")


def _draw(panel: Axes, groups: Mapping[str, Sequence[RunData]], env: str, axis: Axis) -> None:
    colours, drawn = colours_of(list(groups)), set[str]()
    for label, group in groups.items():
        runs = [run for run in group if run.env == env]
        if not runs:
            continue
        colour = colours[label]
        for run in runs:
            xs = [point.at(axis) for point in run.points]
            panel.plot(xs, [100 * p.mean for p in run.points], color=colour, lw=0.7, alpha=0.4)
        if any(point.errors for run in runs for point in run.points):
            # Attempts without a verdict as failures.
            x, y = mean_curve([run.with_failures() for run in runs], axis)
            panel.plot(x, 100 * y, ":", color=colour, lw=2.2)
        x, y = mean_curve(runs, axis)
        name = plain_text(label)
        style = "o--" if colour in drawn else "o-"
        drawn.add(colour)
        panel.plot(x, 100 * y, style, color=colour, lw=2.2, markersize=3.5, label=name)
    _dress(panel, axis)
    panel.set_ylabel("")


def slots_of(labels: Sequence[str]) -> dict[str, int]:
    """The number of each label's colour: a fixed one for a method's name, else the next free.

    Of several settings of a method (`grpo · batch_size=4`) the first has the method's.
    """
    fixed = {label: number for number, label in enumerate(METHOD_COLOURS)}
    slots = {label: fixed[label] for label in labels if label in fixed}
    free = itertools.count(len(fixed))
    for label in labels:
        own = fixed.get(label.partition(" · ")[0])
        if label not in slots:
            slots[label] = next(free) if own is None or own in slots.values() else own
    return slots


def colours_of(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label, the same as in other figures if it is a method's name."""
    colours = [*METHOD_COLOURS.values(), *OTHER_COLOURS]
    first, free = len(METHOD_COLOURS), len(OTHER_COLOURS)
    return {
        label: colours[slot if slot < first else first + (slot - first) % free]
        for label, slot in slots_of(labels).items()
    }


def _with_seeds(label: str, group: Sequence[RunData]) -> str:
    """The label of a group with its number of seeds, which may differ between environments."""
    counts = Counter(run.env for run in group).values()
    few, many = min(counts, default=0), max(counts, default=0)
    number = str(many) if few == many else f"{few} to {many}"
    return f"{plain_text(label)} ({number} seed{'s' * (many > 1)})"


def panel_grid(count: int, *, sharey: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in rows of three: its text can be read at 800 pixels' width."""
    from matplotlib.figure import Figure

    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(5.0, 3.2 * columns), 0.6 + 2.9 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharey=sharey, squeeze=False).ravel())
    for panel in panels[count:]:
        panel.remove()
    return figure, panels[:count]


def shared_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend below the panels for what any of them shows."""
    named = {
        name: line
        for panel in panels
        for line, name in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    _legend_below(figure, named)


def _legend_below(figure: Figure, named: Mapping[str, Any], title: str | None = None) -> None:
    """A legend in as many columns as fit the figure: a character takes about 0.07 inches or more.

    Where it has many rows, the figure grows by those that would take the room of its panels.
    """
    from matplotlib.textpath import TextPath

    widest = 0.07 * (max(map(len, named)) + 6)
    drawn = max(TextPath((0, 0), label, size=10).get_extents().width for label in named)
    widest = max(widest, drawn / 72 + HANDLE_INCHES)
    columns = max(1, min(4, int(figure.get_figwidth() / widest)))
    rows = -(-len(named) // columns)
    size = None
    if rows > LEGEND_ROWS:
        figure.set_figheight(figure.get_figheight() + LEGEND_INCHES * (rows - LEGEND_ROWS))
        size = 8
    figure.legend(
        list(named.values()),
        list(named),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=size,
        title=title,
    )


def plain_text(text: str, longest: int = 60) -> str:
    """A label that is safe in a figure: no mathematics, no control characters, not too long."""
    safe = "".join(c if c.isprintable() else "?" for c in text)
    return (safe if len(safe) <= longest else safe[: longest - 1] + "…").replace("$", r"\$")


def mean_curve(runs: Sequence[RunData], axis: Axis) -> tuple[np.ndarray, np.ndarray]:
    """Mean position on `axis` and mean success over runs, at updates that all of them evaluated."""
    by_update = [{point.update: point for point in run.points} for run in runs]
    common = sorted(set.intersection(*(set(points) for points in by_update)))
    x = [[points[u].at(axis) for u in common] for points in by_update]
    y = [[points[u].mean for u in common] for points in by_update]
    return np.mean(x, axis=0), np.mean(y, axis=0)


def _dress(axes: Axes, axis: Axis) -> None:
    axes.set_xlabel(AXIS_LABELS[axis])
    axes.set_ylabel("success (%)")
    axes.set_ylim(-2, 102)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(
    figure: Figure, stem: Path, title: str = "", root: Path | None = None
) -> list[Path]:
    """Write PNG and SVG under a title; equal records give equal pixels, and equal bytes of the SVG.

    That holds for an SVG without rasters, whose compressed bytes depend on the processor. Names
    inside the SVG are counted: matplotlib hashes them from all digits of a position, of which the
    layout's solver leaves the last to chance. No link below `root`, by default the file's folder,
    is followed.
    """
    import matplotlib

    if title:
        fitting = int(figure.get_figwidth() / TITLE_INCHES)
        figure.suptitle(textwrap.fill(plain_text(title, 140), fitting), fontsize=11)
    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".svg")]
    raster, vector = io.BytesIO(), io.BytesIO()
    # The SVG names the fonts of each text: the one that is drawn is enough.
    fonts: Any = {"font.sans-serif": ["DejaVu Sans"], "svg.fonttype": "none"}
    with matplotlib.rc_context({"svg.hashsalt": "resd-bench", **fonts}):
        figure.savefig(raster, format="png", dpi=DPI)
        figure.savefig(vector, format="svg", metadata={"Date": None})
    # A tenth of a point is seen by nobody, and the digits after it only cost bytes.
    drawn = _PLACES.sub(lambda m: _FINER.sub(r"\1", m[0]), vector.getvalue().decode())
    names = dict.fromkeys(HASHED.findall(drawn))
    for number, name in enumerate(names, start=1):
        drawn = drawn.replace(name, f"{stem.name}-{number}")
    make_folder(stem.parent, root or stem.parent)
    for path, data in zip(paths, (in_few_colours(raster), drawn.encode()), strict=True):
        write_atomically(path, data, root)
    return paths


def in_few_colours(raster: io.BytesIO) -> bytes:
    """A PNG in 256 colours: a third of the bytes, and colours that the eye cannot tell apart."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    with Image.open(raster) as drawn:
        full = drawn.convert("RGB")
        few = full.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        software = PngInfo()
        software.add_text("Software", drawn.info.get("Software", ""))
    data = io.BytesIO()
    few.save(data, "png", optimize=True, dpi=(DPI, DPI), pnginfo=software)
    return data.getvalue()
