"""A run says what it does: nothing that matters is cut at 80 columns, and its counts are right."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resd_bench.config import resolve
from resd_bench.files.plain_console import PlainConsole
from resd_bench.jobs.run import run
from resd_bench.monitoring import activity, progress_bar
from resd_bench.monitoring.progress_bar import Progress, clock
from resd_bench.policy.build import build
from resd_bench.types import Sampling, user

PLAIN = resolve({"env": "manufactoria-has", "method": "resd"})


def metrics(episodes: int, update: int) -> dict[str, float]:
    ledger = {"episodes": episodes, "generated_tokens": 0, "updates": update, "seconds": 1.0}
    return {"update": update, "train/success": 0.25, **ledger}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**9),
    st.floats(0, 10**6),
    st.integers(0, 1280),
)
def test_times_and_samples_are_whole_at_80_columns(
    done: int, total: int, tokens: int, seconds: float, episodes: int
) -> None:
    config = replace(PLAIN, env="textworld-express-" + "x" * 80, method="m" * 60)
    progress = Progress(config, PlainConsole(file=StringIO(), width=80))
    progress.updated(metrics(0, 1))
    progress.updated(metrics(episodes, 2))
    activity.phase_begins("evaluating", total)
    activity.settle(done, tokens)
    lines = progress.status(activity.current().since + seconds, 80)
    assert max(map(len, lines)) <= 80
    assert f"{100 * (episodes / 1280):.0f}%" in lines[0]
    assert re.search(r" · [\d:]+ elapsed, ([\d:]+|--:--) left$", lines[1])
    if total and seconds < 3600 and tokens < 10**6:
        # A run that goes on has trained before, though nothing was evaluated since.
        when = "" if episodes else " before training"
        assert f"evaluating{when} {min(done, total)}/{total}" in lines[1]


def test_the_time_left_is_what_is_spent_per_rollout_times_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = Progress(PLAIN, PlainConsole(file=StringIO(), width=80))
    progress.updated(metrics(320, 10))
    assert "--:-- left" in progress.status(now, 80)[1]
    now = 60.0
    progress.updated(metrics(640, 20))
    # 320 rollouts took a minute, and 640 are left.
    assert "1:00 elapsed, 2:00 left" in progress.status(now, 80)[1]


def test_the_engine_counts_each_sample_and_each_token() -> None:
    policy = build(resolve({"env": "manufactoria-has"}, {"max_new_tokens": 24}))
    prompts = [user("ordered Y G G G"), user("substring R Y")]
    # Without the exact totals that the policy knows in the end.
    told: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activity, "settle", lambda *exact: told.append(exact))
        policy.sample(prompts, n=3, sampling=Sampling(max_new_tokens=24), purpose="rollout")
    now = activity.current()
    assert (now.phase, now.total) == ("sampling", 6)
    assert [(now.done, now.tokens)] == told


def said(console: PlainConsole) -> list[str]:
    lines: list[str] = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return lines


def test_a_mistake_that_is_found_at_once_is_the_only_line() -> None:
    console = PlainConsole(file=StringIO(), width=80)
    with Progress(PLAIN, console):
        pass
    assert said(console) == []


def test_into_a_pipe_it_says_that_it_loads_and_what_it_measured(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = PlainConsole(file=StringIO(), width=80)
    config = resolve(
        {"env": "toy-say", "method": "toy-learner", "model": "scripted", "budget": "20ep"},
        {"batch_size": 5, "max_new_tokens": 20, "out": str(tmp_path)},
    )
    monkeypatch.setattr(progress_bar, "SOON", 0.0)
    with Progress(config, console) as progress:
        deadline = time.monotonic() + 20
        while not said(console) and time.monotonic() < deadline:
            time.sleep(0.01)
        run(config, watchers=[progress])
    lines = said(console)
    assert lines[0] == "toy-learner · toy-say · seed 0: loading"
    assert [line for line in lines if line.startswith("update 0: 0 rollouts, held-out")]
    assert lines[-1].startswith("update 4: 20 rollouts, train")


def test_a_run_that_is_resumed_goes_on_from_its_update_and_not_from_0(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"env": "toy-say", "method": "toy-learner", "model": "scripted", "eval_every": "0"}
    settings |= {"batch_size": "5", "max_new_tokens": "20", "warmup_updates": "0"}
    settings |= {"out": str(tmp_path)}
    run(resolve({**settings, "budget": "20ep"}))
    longer = resolve({**settings, "budget": "40ep"})
    console = PlainConsole(file=StringIO(), width=80)
    monkeypatch.setattr(progress_bar, "SOON", 0.0)
    monkeypatch.setattr(progress_bar, "EVERY", 0.0)
    progress, bars = Progress(longer, console), list[str]()

    class Looks:
        def updated(self, row: object) -> None:
            pass

        evaluated = updated

        def starting(self, *seen: object) -> None:
            bars.append(progress.status(time.monotonic(), 80)[0])
            # Time for a plain line, which comes every half a second at most.
            time.sleep(0.7)

    with progress:
        run(longer, resume=True, watchers=[progress, Looks()])
    assert bars[0].endswith(" 50%")
    lines = [line for line in said(console) if not line.endswith("loading")]
    assert lines[0] == "update 4: resumed, 50% of the budget spent"
    assert lines[1].startswith("update 4: ")
    assert "before training" not in lines[1]
    assert not [line for line in lines if line.startswith("update 0:")]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (86400, "24:00:00")]
)
def test_durations(seconds: float, text: str) -> None:
    assert clock(seconds) == text
