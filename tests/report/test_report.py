"""Reports are functions of records."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from resd_bench.config import resolve
from resd_bench.errors import UsageError
from resd_bench.jobs.run import run
from resd_bench.records.find_runs import find_runs
from resd_bench.records.runs import RunData, load_run, model_label
from resd_bench.report.figures import (
    METHOD_COLOURS,
    colours_of,
    comparison,
    draw_comparison,
    learning_curve,
    mean_curve,
    panel_grid,
    save_figure,
    shared_legend,
)
from resd_bench.report.tables import (
    common_budget,
    compare,
    compare_table,
    group_runs,
    percent,
    run_table,
    write_csv,
)
from resd_bench.stats import EvalPoint, Interval


def point(update: int, p: float, episodes: int) -> EvalPoint:
    outcomes = tuple((1.0,) if i < round(100 * p) else (0.0,) for i in range(100))
    return EvalPoint(update, episodes, 10 * episodes, outcomes, outcomes)


def data(method: str, seed: int, curve: list[float], **settings: Any) -> RunData:
    points = [point(4 * i, p, 32 * i) for i, p in enumerate(curve)]
    base = {"env": "toy-say", "method": method, "model": "nano", "seed": seed, "preset": "paper"}
    metrics = [{"update": 1, "episodes": 32, "train/success": 0.1}]
    return RunData(Path(f"{method}-{seed}"), base | settings, metrics, points, {})


def shown(table: Any) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_percentages_carry_their_limits() -> None:
    assert percent(Interval(0.123, 0.101, 0.148, 400)) == "12.3% [10.1, 14.8]"
    assert percent(Interval(0.0, 0.0, 0.0095, 400)) == "0/400 (≤0.95%)"
    assert percent(Interval(0.5, math.nan, math.nan, 1)) == "50.0% (one run)"
    assert percent(Interval(math.nan, math.nan, math.nan, 0)) == "unscored"


def test_results_of_the_embedded_model_say_so(tmp_path: Path) -> None:
    assert model_label("nano") == "nano (model organism)"
    assert model_label("out/nano-mine/model") == "nano-mine (model organism)"
    assert model_label("Qwen/Qwen3-4B") == "Qwen/Qwen3-4B"
    assert model_label("nano", "nano-rare") == "nano, nano-rare (model organisms)"
    assert model_label("m", "nano") == "m, nano (model organism)"
    one = data("resd", 0, [0.0, 0.5])
    assert "nano (model organism)" in shown(run_table(one))
    svg = learning_curve(one, tmp_path / "curve")[1].read_text()
    assert "resd on toy-say · nano (model organism) · seed 0" in svg


def test_a_method_has_one_colour_whoever_is_drawn_beside_it() -> None:
    few, many = colours_of(["resd", "mine"]), colours_of(["mine", "grpo", "sft", "resd", "yours"])
    assert few["resd"] == many["resd"]
    assert len(set(many.values())) == 5
    assert len(colours_of([f"label {i}" for i in range(20)])) == 20
    settings = colours_of(["grpo · batch_size=4", "grpo · batch_size=32", "sft · x=1", "sft"])
    assert list(settings) == ["sft", "grpo · batch_size=4", "grpo · batch_size=32", "sft · x=1"]
    assert settings["grpo · batch_size=4"] == METHOD_COLOURS["grpo"]
    assert settings["sft"] == METHOD_COLOURS["sft"]
    assert len(set(settings.values())) == 4
    of_methods = set(METHOD_COLOURS.values())
    assert not of_methods & set(colours_of(["a", "sft", "b"])[name] for name in "ab")


def pixels(size: float | str, figure: Figure) -> float:
    """The height of text of `size` points where the figure is 800 pixels wide."""
    return float(size) / 72 * 800 / figure.get_figwidth()


def test_text_of_panels_can_be_read_at_800_pixels() -> None:
    for count in range(1, 8):
        figure, panels = panel_grid(count)
        assert len(panels) == len(figure.axes) == count
        panels[0].plot([0, 1], label="resd")
        shared_legend(figure, panels)
        sizes = [label.get_fontsize() for panel in panels for label in panel.get_xticklabels()]
        sizes += [text.get_fontsize() for text in figure.legends[0].get_texts()]
        assert min(pixels(size, figure) for size in sizes) > 9
    runs = {"resd": [data("resd", 0, [0.0, 0.5])]}
    wide = draw_comparison(runs, "updates")
    assert min(pixels(one.xaxis.label.get_fontsize(), wide) for one in wide.axes) > 9


def test_the_legend_names_groups_that_the_first_environment_lacks(tmp_path: Path) -> None:
    runs = {
        "a": [
            data("a", 0, [0.0, 0.5], env="one"),
            data("a", 1, [0.0, 0.5], env="one"),
            data("a", 0, [0.0, 0.5], env="two"),
        ]
    }
    runs["late"] = [data("late", 0, [0.0, 0.5], env="two")]
    (svg,) = [p for p in comparison(runs, "title", tmp_path / "c") if p.suffix == ".svg"]
    text = svg.read_text(encoding="utf-8")
    assert "a (1 to 2 seeds)" in text
    assert "late (1 seed)" in text


@pytest.mark.slow
def test_equal_records_give_equal_figures(tmp_path: Path) -> None:
    runs = {"resd": [data("resd", 0, [0.0, 0.5]), data("resd", 1, [0.1, 0.7])]}
    for name in ("a", "b"):
        comparison(runs, "title", tmp_path / name / "methods")
        learning_curve(runs["resd"][0], tmp_path / name / "curve")
    for file in ("methods.png", "methods.svg", "curve.png", "curve.svg"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_last_digit_of_a_layout_leaves_an_svg_as_it_is(tmp_path: Path) -> None:
    def drawn(left: float, name: str) -> bytes:
        figure = Figure()
        axes = figure.add_axes((left, 0.1, 0.7, 0.8))
        axes.pcolormesh([[0.0, 1.0]], edgecolors="white")
        axes.plot([0, 1], [0, 1], marker="o")
        return save_figure(figure, tmp_path / name / "figure")[1].read_bytes()

    nudged = math.nextafter(0.1, 1.0)
    assert drawn(0.1, "a") == drawn(nudged, "b") != drawn(0.101, "c")


@pytest.mark.parametrize("inches", [5.0, 9.6])
def test_a_long_title_stays_inside_its_figure(tmp_path: Path, inches: float) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(inches, 4), layout="constrained")
    figure.subplots()
    save_figure(figure, tmp_path / "figure", "where each method learns in which organism " * 3)
    box = figure.texts[0].get_window_extent()
    assert box.x0 > 0
    assert box.x1 < figure.bbox.x1


def test_the_mean_curve_is_over_evaluations_all_seeds_have() -> None:
    x, y = mean_curve([data("m", 0, [0.0, 0.4, 0.9]), data("m", 1, [0.2, 0.6])], "episodes")
    assert x.tolist() == [0, 32]
    assert y == pytest.approx([0.1, 0.5])


def test_methods_are_compared_in_pairs_of_equal_seeds_at_a_common_budget() -> None:
    runs = [data("a", s, [0.0, 0.1 * s, 0.9]) for s in range(1, 4)]
    runs += [data("b", s, [0.0, 0.1 * s + 0.2 + 0.01 * s]) for s in range(1, 4)]
    assert common_budget(runs) == 32
    first, second = compare(group_runs(runs), 32)
    assert first.difference is None
    assert second.difference is not None
    assert second.difference.mean == pytest.approx(0.22)
    assert (second.difference.n, second.verdict) == (3, "better")
    text = shown(compare_table([first, second], "title", 32))
    assert "success at 32 rollouts" in text
    assert "+22.0 points" in text


def test_groups_are_named_by_what_differs() -> None:
    plain = data("resd", 0, [0.1], method_options={"playbook": True})
    ablated = data("resd", 0, [0.1], method_options={"playbook": False})
    other = data("sft", 0, [0.1])
    assert list(group_runs([plain, ablated, other])) == [
        "resd · method.playbook=True",
        "resd · method.playbook=False",
        "sft",
    ]
    assert list(group_runs([plain, other])) == ["resd", "sft"]


def test_one_run_given_twice_in_copies_is_refused() -> None:
    with pytest.raises(UsageError, match="same configuration and seed: give one of them"):
        group_runs([data("a", 0, [0.1]), data("a", 0, [0.1])])


def test_runs_are_found_below_folders_and_by_glob(toy: ModuleType, tmp_path: Path) -> None:
    settings = {
        "env": "toy-say",
        "method": "toy-learner",
        "model": "scripted",
        "budget": "10ep",
        "batch_size": 5,
        "eval_samples": 1,
        "max_new_tokens": 20,
        "out": str(tmp_path / "out"),
    }
    for seed in (0, 1):
        run(resolve(settings, {"seed": seed}))
    assert {r.seed for r in find_runs([str(tmp_path)])} == {0, 1}
    assert len(find_runs([str(tmp_path / "out/*/*/seed-*"), str(tmp_path)])) == 2
    groups = group_runs(find_runs([str(tmp_path)]))
    write_csv(groups, tmp_path / "c.csv")
    with (tmp_path / "c.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["seed"], row["update"]) for row in rows} == {
        ("0", "0"),
        ("0", "2"),
        ("1", "0"),
        ("1", "2"),
    }


def test_a_place_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run found in"):
        find_runs([str(tmp_path)])
    with pytest.raises(UsageError, match="is not a run folder"):
        load_run(tmp_path)


def test_a_figure_of_many_groups_has_room_for_its_legend_and_its_panels() -> None:
    label = "resd · method.success_rate_weighting=False · model=nano-rarest"
    for count in (3, 40):
        figure = draw_comparison({f"{i} {label}": [data("a", 0, [0.0, 0.5])] for i in range(count)})
        figure.draw_without_rendering()
        extent = figure.legends[0].get_window_extent()
        assert 0 <= extent.x0 < extent.x1 <= figure.bbox.width
        for panel in figure.axes:
            box = panel.get_window_extent()
            assert box.height / figure.dpi > 2
            assert box.y0 > extent.y1


def test_more_settings_than_styles_are_drawn_in_a_colour_for_each_method() -> None:
    """No style means two things, and the legend is short enough to be read."""
    runs = [data("a", 0, [0.0, 0.5])]
    few = {f"{method} · batch_size={size}": runs for method in ("resd", "sft") for size in range(5)}
    many = {
        f"{method} · batch_size={size}": runs
        for method in ("resd", "sft")
        for size in (*range(35),)
    }
    for groups, told in (
        (few, [f"{label} (1 seed)" for label in few]),
        (many, ["resd (35 settings)", "sft (35 settings)"]),
    ):
        figure = draw_comparison(groups)
        [legend] = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == told
        assert bool(legend.get_title().get_text()) == (groups is many)
        named = {str(line.get_label()) for line in figure.axes[0].lines}
        styles = [(line.get_color(), line.get_linestyle()) for line in legend.get_lines()]
        assert len(set(styles)) == len(styles) == len(told)
        assert len([name for name in named if not name.startswith("_")]) == len(told)
