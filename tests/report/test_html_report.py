"""The pages: they say what the records say, nothing in them runs, and a browser can use them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from resd_bench.check import lessons
from resd_bench.cli import main
from resd_bench.plugins import make_env
from resd_bench.records.find_runs import find_runs
from resd_bench.records.recorder import to_line, write_json
from resd_bench.records.runs import load_run
from resd_bench.report.comparisons import compare, group_runs
from resd_bench.report.html import page
from resd_bench.report.html.build import write_trace
from resd_bench.report.html.episodes import episodes_data, evaluations_data
from resd_bench.report.html.page import MAX_TEXT, clip, embed, render_page
from resd_bench.report.html.playbooks import contexts, time_machine
from resd_bench.report.html.suite import cells, curves, latency, table_data
from resd_bench.report.tables import compare_table
from tests.browser import Reader, use

STRIKE = 'document.body.setAttribute("data-struck", "1")'
HOSTILE = f"</script><script>{STRIKE}</script><!--<img src=x onerror='{STRIKE}'>]]>&lt;"
UNSEEN = "\x00\x1b[2J\u202e \ud800 \udfff"


def write_run(folder: Path, method: str, seed: int, *, text: str = "", **settings: Any) -> Path:
    """A run of three updates with evaluations before and after, a playbook and episodes."""
    folder.mkdir(parents=True)
    values = {"env": "toy", "method": method, "model": "m", "seed": seed} | settings
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    write_json(folder / "manifest.json", {"code": {"sha": "0123456789abcdef", "dirty": True}})
    metrics = [
        {"update": u, "episodes": 4 * u, "seconds": 1.5 * u * (1 + seed), "sampled_tokens": 40 * u}
        | {"reflection_tokens": 10 * u, "flops": 1e9 * u}
        for u in (1, 2, 3)
    ]
    evals = [
        {"update": u, "episodes": 4 * u, "generated_tokens": 50 * u, "task": f"t{t}", "sample": 0}
        | {"success": float(t < 4 * u + seed), "score": 0.5}
        for u in (0, 3)
        for t in range(20)
    ]
    for name, rows in (("metrics", metrics), ("evals", evals), ("episodes", episodes(text))):
        (folder / f"{name}.jsonl").write_bytes(b"".join(map(to_line, rows)))
    (folder / "context").mkdir()
    for update, held in enumerate([["a"], ["a", "b"], ["b"]], start=1):
        (folder / "context" / f"update-{update:04d}.json").write_bytes(context(update, held, text))
    return folder


def episodes(text: str) -> list[dict[str, Any]]:
    return [
        {
            "update": u,
            "task": f"task-{t}{text}",
            "attempt": u - 1,
            "turns": [
                {
                    "messages": [{"role": "user", "content": f"do {t} {text}"}],
                    "response": f"done {t} {text}",
                    "tokens": 3,
                    "stop": "eos",
                }
            ],
            "success": t == 0,
            "score": 0.5,
            "kind": "wrong" + text,
            "feedback": "" if t == 0 else f"bad {text}",
            "cases": [{"name": "case" + text, "passed": t == 0, "kind": "wrong"}],
            "stop": "eos",
            "error": text,
        }
        for u in (1, 2, 3)
        for t in range(4)
    ]


def context(update: int, held: Sequence[str], text: str) -> bytes:
    entries = [
        {"id": name + text, "section": "S" + text, "content": f"lesson {name} {text}"}
        | {"helpful": update, "harmful": 0}
        for name in held
    ]
    said = [
        {"task": f"task-{t}{text}", "text": f"because {t} {text}", "parsed": t > 1}
        | {"tags": {"a" + text: "helpful"}}
        for t in (1, 2, 3)
    ]
    found = {
        "playbook": entries,
        "evicted": ["a" + text] if update == 3 else [],
        "reflections": said,
        "curations": [{"task": text, "text": text, "parsed": True, "additions": []}],
    }
    return to_line(found)


@pytest.fixture
def suite_folder(tmp_path: Path) -> Path:
    for seed in (0, 1, 2):
        write_run(tmp_path / "runs" / "one" / f"seed-{seed}", "one", seed)
        write_run(tmp_path / "runs" / "two" / f"seed-{seed}", "two", seed)
    return tmp_path / "runs"


def report(folder: Path, save: Path) -> Reader:
    assert main(["report", str(folder), "--out", str(save)]) == 0
    return Reader(save.read_text(encoding="utf-8"))


def data_of(read: Reader) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read.texts_of("script")[0])
    return found


def test_a_page_is_one_file_that_asks_for_no_other(suite_folder: Path, tmp_path: Path) -> None:
    read = report(suite_folder, tmp_path / "r.html")
    assert [tag for tag, _ in read.elements].count("script") == 2
    for tag, attributes in read.elements:
        assert not {"src", "srcset", "action"} & attributes.keys(), tag
        assert (attributes.get("href") or "#").startswith(("#", "data:")), tag
    addresses = re.findall(r"https?://[^\s\"']+", (tmp_path / "r.html").read_text())
    assert set(addresses) == {"http://www.w3.org/2000/svg"}


def test_only_the_scripts_and_the_style_of_the_file_are_allowed(
    suite_folder: Path, tmp_path: Path
) -> None:
    read = report(suite_folder, tmp_path / "r.html")
    (policy,) = (a["content"] or "" for _, a in read.elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for text in (read.texts_of("script")[1], read.texts_of("style")[0]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_no_script_of_the_pages_parses_html() -> None:
    for name in page.SCRIPTS:
        words = (
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|eval\(|Function\("
        )
        assert not re.search(words, page._static(name)), name


def test_equal_records_give_equal_pages(suite_folder: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        report(suite_folder, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_tables_hold_what_compare_prints(suite_folder: Path) -> None:
    groups = group_runs(find_runs([str(suite_folder)]))
    table = compare_table(compare(groups, 12), "title", 12)
    console = Console(width=250, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    printed, told = console.export_text(), table_data(table)
    assert told["columns"][0]["name"] == "runs"
    assert len(told["rows"]) == 2
    for row in told["rows"]:
        assert all(cell in printed for cell in row)


def test_curves_carry_the_intervals_that_compare_gives(suite_folder: Path) -> None:
    groups = group_runs(find_runs([str(suite_folder)]))
    told = curves(groups)
    assert list(told["axes"]) == ["episodes", "tokens", "updates", "seconds", "flops"]
    for series, row in zip(told["panels"][0]["series"], compare(groups, 12), strict=True):
        last = (series["mean"][-1], series["low"][-1], series["high"][-1])
        assert last == (row.success.mean, row.success.low, row.success.high)
        assert series["x"]["episodes"] == [0, 12]
        assert series["x"]["seconds"][-1] == pytest.approx(4.5 * 2)


def test_latencies_are_the_differences_of_the_seconds_on_record(suite_folder: Path) -> None:
    runs = [load_run(suite_folder / "one" / f"seed-{seed}") for seed in (0, 1, 2)]
    told = latency(runs)
    assert told["updates"] == [1, 2, 3]
    assert told["median"] == pytest.approx([3.0] * 3)
    assert (told["low"][0], told["high"][0]) == (1.5, 4.5)


def test_a_heat_map_is_over_settings_that_vary_and_not_for_the_methods_sake(tmp_path: Path) -> None:
    for level in (1, 3):
        for method, size in (("one", 1), ("two", 8)):
            folder = tmp_path / method / str(level)
            write_run(folder, method, 0, feedback_level=level, group_size=size)
    told = cells(group_runs(find_runs([str(tmp_path)])), 12, "episodes")
    assert told["names"] == ["feedback_level", "method"]
    assert [row["values"] for row in told["runs"]] == [
        ["1", "one"],
        ["3", "one"],
        ["1", "two"],
        ["3", "two"],
    ]
    assert {row["success"] for row in told["runs"]} == {0.6}


def test_a_time_machine_knows_births_tags_and_evictions(tmp_path: Path) -> None:
    machine = time_machine(contexts(write_run(tmp_path / "r", "one", 0)))
    assert machine is not None
    first, second, third = machine["states"]
    assert (machine["entries"]["a"]["born"], machine["entries"]["a"]["last"]) == (1, 2)
    assert second["held"] == [["a", 2, 0], ["b", 2, 0]]
    assert third["evicted"] == ["a"]
    assert [r["parsed"] for r in first["reflections"]] == [False, True, True]


def test_contexts_of_another_shape_are_passed_over() -> None:
    odd: Mapping[int, Mapping[str, Any]] = {
        1: {"playbook": {"not": "a list"}, "reflections": "text"},
        2: {"playbook": [1, {"id": 7}, None], "added": 3},
    }
    machine = time_machine(odd)
    assert machine is not None
    assert machine["states"][1]["held"] == [["7", 0, 0]]
    assert time_machine({1: {"solved": []}}) is None


def test_reflections_go_to_the_failures_they_are_about() -> None:
    said = {1: json.loads(context(1, ["a"], ""))}
    told = episodes_data(episodes(""), said, {}, None)
    by_id = {episode["id"]: episode for episode in told["list"]}
    assert by_id["task-0#0"]["reflection"] is None
    assert by_id["task-2#0"]["reflection"]["text"].strip() == "because 2"
    assert by_id["task-2#1"]["reflection"] is None


def test_the_answer_that_was_graded_is_shown_beside_a_response_with_reasoning() -> None:
    rows = episodes("")[:2]
    rows[0]["turns"][0]["response"] = "<think>or 3</think>\n4"
    told = episodes_data(rows, {}, {}, None)["list"]
    assert [turn["answer"] for episode in told for turn in episode["turns"]] == ["4", None]


def test_of_many_episodes_successes_and_failures_are_shown_and_the_rest_is_counted() -> None:
    told = episodes_data(episodes(""), {}, {}, 2)
    assert [(e["update"], e["success"]) for e in told["list"][:2]] == [(1, True), (1, False)]
    assert (len(told["list"]), told["left_out"]) == (6, 6)


def test_episodes_of_a_long_run_are_read_an_update_at_a_time() -> None:
    class Row(dict[str, Any]):
        """A row that can be counted."""

    most = 0

    def long_run() -> Iterator[Row]:
        nonlocal most
        for update in range(1, 301):
            for row in episodes("")[:3]:
                one = Row(row, update=update)
                held.append(weakref.ref(one))
                yield one
            most = max(most, sum(ref() is not None for ref in held))

    held: list[weakref.ref[Row]] = []
    told = episodes_data(long_run(), {}, {}, 1)
    assert (len(told["list"]), told["left_out"]) == (300, 600)
    assert most <= 8


def with_answers(folder: Path, text: str = "") -> Path:
    """A run whose last evaluation has texts, next to one of validation without any."""
    write_run(folder, "one", 0, text=text)
    rows = [json.loads(line) for line in (folder / "evals.jsonl").read_bytes().splitlines()]
    rows += [{**row, "panel": "validation"} for row in rows if row["task"] in ("t3", "t9")]
    (folder / "evals.jsonl").write_bytes(b"".join(map(to_line, rows)))
    turn = {"messages": [{"role": "user", "content": f"ask {text}"}], "tokens": 3, "stop": "eos"}
    said = [
        {"task": f"t{t}", "sample": 0, "feedback": text, "cases": []}
        | {"turns": [{**turn, "response": f"answer {t} {text}"}]}
        for t in range(20)
    ]
    (folder / "answers").mkdir()
    packed = gzip.compress(b"".join(map(to_line, said)))
    (folder / "answers/update-0003.jsonl.gz").write_bytes(packed)
    return folder


def test_held_out_answers_and_every_further_evaluation_have_their_part(tmp_path: Path) -> None:
    run = load_run(with_answers(tmp_path / "run"))
    held_out, validation = evaluations_data(run, 6)
    assert held_out["part"] == "held-out"
    assert [e["turns"][0]["response"].strip() for e in held_out["list"]] == [
        *("answer 0", "answer 1", "answer 2"),
        *("answer 12", "answer 13", "answer 14"),
    ]
    assert [e["success"] for e in held_out["list"]] == [True] * 3 + [False] * 3
    assert held_out["left_out"] == 14
    # Two tasks, of which none and then both succeed.
    assert (validation["part"], validation["list"]) == ("validation", [])
    before, after = validation["about"].split(" after 0 updates, ")
    assert before.startswith("0/2")
    assert after.startswith("100.0%")
    assert evaluations_data(load_run(write_run(tmp_path / "old", "one", 0)), 6) == []


TABS = """
const texts = (query) => [...document.querySelectorAll(query)].map((n) => n.textContent);
const out = { tabs: texts("#episodes [aria-label=Attempts] button") };
const lead = () => texts("#episodes .lead").find((t) => /episodes shown|not kept/.test(t));
out.training = lead();
const tab = (n) => document.querySelectorAll("#episodes [aria-label=Attempts] button")[n].click();
tab(1);
out.held_out = [lead(), texts(".list b"), texts(".steps h4"), texts(".steps pre")[1]];
tab(2);
out.validation = [lead(), texts(".list b")];
tab(0);
out.again = lead();
out.wide = document.documentElement.scrollWidth > innerWidth;
return out;
"""


def test_a_browser_shows_the_evaluations_under_their_tabs(tmp_path: Path) -> None:
    with_answers(tmp_path / "run", HOSTILE + UNSEEN)
    report(tmp_path / "run", tmp_path / "r.html")
    seen, read = use(tmp_path / "r.html", tmp_path / "profile", TABS, width=400)
    assert seen["tabs"] == ["training", "held-out", "validation"]
    assert seen["held_out"][0].startswith("0/20")
    assert "20 of 20 episodes shown" in seen["held_out"][0]
    assert len(seen["held_out"][1]) == 20
    assert seen["held_out"][2] == ["prompt", "response", "feedback"]
    assert HOSTILE in seen["held_out"][3]
    assert seen["validation"][0].endswith("Their texts were not kept.")
    assert seen["validation"][1] == []
    assert seen["training"] == seen["again"] == "12 of 12 episodes shown."
    assert not seen["wide"]
    assert not any("data-struck" in attributes for _, attributes in read.elements)


def test_long_texts_are_cut_and_what_is_missing_is_counted() -> None:
    cut = clip("x" * 1_000_000)
    assert len(cut) < MAX_TEXT + 60
    assert f"{1_000_000 - MAX_TEXT:,} more characters" in cut


def test_embedded_data_is_ascii_without_markup_and_comes_back_whole() -> None:
    data = {"text": HOSTILE + UNSEEN, "none": float("nan")}
    text = embed(data)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"text": HOSTILE + UNSEEN, "none": None}


@pytest.mark.slow
def test_a_megabyte_of_response_makes_no_megabyte_of_page(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "one", 0, text="x" * 1_000_000)
    report(tmp_path / "run", tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size < 2_500_000


CLICKS = """
const texts = (query) => [...document.querySelectorAll(query)].map((n) => n.textContent);
const out = { sections: texts("nav a") };
const slider = document.querySelector(".time input");
out.end = [texts(".time output")[0], texts("#playbook .gone .say")];
slider.value = 0;
slider.dispatchEvent(new Event("input"));
out.start = [texts(".time output")[0], texts("#playbook .entry .say")];
document.querySelector("[aria-label='Next update']").click();
out.next = texts(".time output")[0];
const chart = document.querySelector("#curves svg");
chart.dispatchEvent(new KeyboardEvent("keydown", { key: "End" }));
out.tip = document.getElementById("tip").textContent;
document.querySelectorAll("#curves .choice button")[1].click();
out.heat = texts(".heat td");
out.list = document.querySelectorAll(".list button").length;
document.querySelectorAll(".list button")[1].click();
out.episode = texts(".steps h4");
out.blocks = texts(".steps pre");
out.wide = document.documentElement.scrollWidth > innerWidth;
return out;
"""


def test_a_browser_can_use_every_part_of_a_report(suite_folder: Path, tmp_path: Path) -> None:
    report(suite_folder, tmp_path / "r.html")
    seen, _ = use(tmp_path / "r.html", tmp_path / "profile", CLICKS)
    assert seen["sections"] == [
        *("Results", "Learning curves", "Heat map", "Budget ledger", "Latency"),
        *("The playbook's time machine", "Episodes and traces", "Runs"),
    ]
    assert seen["end"][0] == "after update 3 of 3"
    assert [text.strip() for text in seen["end"][1]] == ["lesson a"]
    assert seen["start"][0] == "after update 1 of 3"
    assert [text.split()[:2] for text in seen["start"][1]] == [["lesson", "a"]]
    assert seen["next"] == "after update 2 of 3"
    assert seen["tip"].startswith("12 training rollouts")
    assert "one: 65.0%" in seen["tip"]
    assert seen["heat"][0] == "60.0%1 run"
    assert seen["list"] == 12
    assert seen["episode"] == ["prompt", "response", "feedback", "reflection"]


def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "m" + HOSTILE, 0, text=HOSTILE + UNSEEN, env="e" + HOSTILE)
    static = report(tmp_path / "run", tmp_path / "r.html")
    assert [tag for tag, _ in static.elements].count("script") == 2
    assert "img" not in {tag for tag, _ in static.elements}
    seen, read = use(tmp_path / "r.html", tmp_path / "profile", CLICKS, width=400)
    tags = [tag for tag, _ in read.elements]
    assert tags.count("script") == 2
    assert "img" not in tags
    assert not any("data-struck" in attributes for _, attributes in read.elements)
    assert read.texts_of("title")[0].startswith("e</script><script>")
    shown = seen["blocks"][1]
    assert HOSTILE in shown
    assert "\u2400\u241b[2J⟨U+202E⟩" in shown
    assert not seen["wide"]


def test_pages_that_are_no_pages_are_refused(
    suite_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(suite_folder), "--out", "report.pdf"]) == 2
    assert "give a file that ends in .html" in capsys.readouterr().err
    asked = ["report", str(suite_folder), "--audit", "--runs-in-detail", "0"]
    assert main(asked) == 2, "an audit of no run would find nothing"
    assert "give --runs-in-detail 1 or more" in capsys.readouterr().err


def test_a_report_audits_what_methods_wrote_unless_told_not_to(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", "resd", 0, env="finer", dialect="compact")
    env = make_env("finer", dialect="compact")
    gold = env.oracle(env.tasks("test")[0])
    place = folder / "context" / "update-0003.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "note": f"write {gold}"}))
    [audit] = data_of(report(folder, tmp_path / "a.html"))["audits"]
    assert audit["lines"][0].endswith("solutions graded again: 1 found")
    assert audit["lines"][1].startswith("note, update 3 has 100% of the gold answer of test task")
    alone = ["report", str(folder), "--out", str(tmp_path / "b.html"), "--no-audit"]
    assert main(alone) == 0
    assert data_of(Reader((tmp_path / "b.html").read_text()))["audits"] == []


def test_a_record_without_texts_is_not_audited_and_its_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path / "run", "resd", 0, env="finer", dialect="compact")
    shutil.rmtree(folder / "context")
    rows = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    kept = [{key: row[key] for key in row.keys() - {"turns"}} for row in rows]
    (folder / "episodes.jsonl").write_bytes(b"".join(map(to_line, kept)))
    # Neither an environment nor its packages are needed to show records.
    monkeypatch.setattr("resd_bench.plugins.make_env", None)
    [audit] = data_of(report(folder, tmp_path / "a.html"))["audits"]
    assert audit["lines"][1] == lessons.NO_TEXTS


def test_a_run_whose_environment_is_not_there_has_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", "resd", 0, env="gone")
    data = data_of(report(folder, tmp_path / "a.html"))
    assert "not audited: UsageError: " in data["audits"][0]["lines"][0]
    assert data["viewers"]


def test_a_page_escapes_its_title() -> None:
    text = render_page({"title": "<b>&\ud800", "kind": "trace"})
    assert "<title>&lt;b&gt;&amp;?</title>" in text


KEYS = """
const told = () => document.querySelector(".sides").innerText.split("\\n").filter(Boolean);
const out = { first: told(), text: document.querySelector(".tokens").textContent };
const token = document.querySelector(".tok[aria-current]");
token.focus();
token.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
out.left = told();
out.note = document.querySelector("#episodes .box > .lead").textContent;
out.heat = [...document.querySelectorAll(".tok")].map((t) => t.style.getPropertyValue("--v"));
return out;
"""


def test_tokens_are_coloured_by_loss_and_chosen_by_keyboard(tmp_path: Path) -> None:
    token = {"id": 1, "student": -0.1, "teacher": -0.2, "sampled": -0.1}
    tops = {"student_top": [["a", 0.9]], "teacher_top": [["b", 0.8]]}
    tokens = [token | tops | {"text": f"<{i}>", "loss": loss} for i, loss in enumerate((0, 0.1, 1))]
    row = episodes("")[1]
    example = {"task": row["task"], "attempt": 0, "turn": 0, "teacher": None, "tokens": tokens}
    trace = {
        "run": {"env": "toy", "method": "one", "model": "m", "seed": 0},
        "update": 1,
        "weights": {"after_updates": 0, "how": "repeated", "checkpoint": None, "same": [3, 4]},
        "episodes": [row],
        "context": {},
        "examples": [example],
    }
    paths = write_trace(trace, tmp_path, tmp_path / "t.html")
    assert [path.name for path in paths] == ["t.html", "t.json"]
    seen, _ = use(paths[0], tmp_path / "profile", KEYS)
    assert seen["text"] == "<0><1><2>"
    assert seen["first"][0].startswith("<2>")
    assert seen["left"][0].startswith("<1>")
    assert [float(v) for v in seen["heat"]] == [0, 0.316, 1]  # square roots
    assert seen["note"] == (
        "Scored with the weights after 0 updates, repeated from the start of the run. "
        "3 of 4 responses of this update came out as recorded."
    )
