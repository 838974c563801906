"""`envs check` and `methods check` find what is broken, and nothing else."""

from __future__ import annotations

import ast
import importlib
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from multiprocessing.connection import Pipe
from types import ModuleType
from typing import Any

import pytest

from resd_bench import plugins
from resd_bench.check import check, check_method, cpu_deadline, failures, property_names
from resd_bench.check.adversarial_answers import outlasting
from resd_bench.check.env_subject import Subject, even_order
from resd_bench.check.environments import ENV_PROPERTIES
from resd_bench.check.supervisor import IN_TIME, run_property
from resd_bench.cli import main
from resd_bench.parsing import last_code_block
from resd_bench.testing import check_env
from resd_bench.types import Task
from tests.places import TESTS

Capture = pytest.CaptureFixture[str]
FOLDER = TESTS / "broken_plugin"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The plugin package with broken environments, installed for the length of a test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    importlib.invalidate_caches()
    plugins.installed.cache_clear()
    yield importlib.import_module("broken_plugin")
    monkeypatch.undo()
    plugins.installed.cache_clear()


def _failed(kind: Any, *only: str) -> dict[str, str]:
    """The evidence of each property that fails for a class, examined in this process."""
    subject = Subject(kind.name, kind, seconds=0.1)
    verdicts = [
        run_property(name, ENV_PROPERTIES[name], subject) for name in only or ENV_PROPERTIES
    ]
    return {verdict.name: verdict.evidence for verdict in verdicts if verdict.failed}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sound", "sound-steps"])
def test_a_sound_environment_passes_every_property(broken: ModuleType, name: str) -> None:
    verdicts = list(check(name, seconds=0.2))
    assert [v.name for v in verdicts] == property_names()
    wrong = failures(verdicts)
    assert wrong == "" or (name == "sound-steps" and "docs" in wrong and "\n" not in wrong)
    check_env(plugins.make_env(name))


def test_every_call_that_gymnasiums_checker_makes_has_a_deadline_of_its_own(
    broken: ModuleType,
) -> None:
    told: list[str] = []
    subject = Subject("sound", broken.SoundEnv, seconds=0.1)
    subject.watch = lambda doing, starts_processes=False: told.append(doing)
    assert run_property("interface", ENV_PROPERTIES["interface"], subject).state == "pass"
    calls = [n for n, doing in enumerate(told) if "called by Gymnasium's check_env" in doing]
    assert {told[n].split()[0] for n in calls} == {"reset", "step"}
    assert all(told[n + 1] == "Gymnasium's check_env" for n in calls)


@pytest.mark.slow
def test_what_a_process_waits_for_a_processor_does_not_count_against_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = time.monotonic()
    mine, its = Pipe(duplex=False)
    for busy, least, most in ((0.0, 0.2, 0.6), (0.75, 0.8, 3.0), (1.0, 1.0, 3.0)):

        def queued(_: int, busy: float = busy) -> dict[str, float]:
            # For so much of its time the only thread has waited.
            return {"1": busy * (time.monotonic() - begin)}

        monkeypatch.setattr(cpu_deadline, "_queued", queued)
        monkeypatch.setattr(cpu_deadline, "MOST_STRETCH", 5.0)
        start = time.monotonic()
        assert not cpu_deadline.answers_in_time(mine, 1, 0.2)
        assert least <= time.monotonic() - start < most
    its.send("answer")
    assert cpu_deadline.answers_in_time(mine, 1, 0.2)
    its.close()
    mine.close()


def test_an_answer_that_comes_at_once_costs_no_look_at_every_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[int] = []

    def look(session: int) -> dict[str, float]:
        looked.append(session)
        return {}

    monkeypatch.setattr(cpu_deadline, "_queued", look)
    mine, its = Pipe(duplex=False)
    for _ in range(3):
        its.send("answer")
        assert cpu_deadline.answers_in_time(mine, 1, 60.0)
        mine.recv()
    assert looked == []
    its.close()
    mine.close()


@pytest.mark.parametrize(("busy", "least", "most"), [(0.0, 4, 8), (0.9, 20, 20)])
def test_a_busy_machine_examines_as_many_tasks(
    broken: ModuleType, monkeypatch: pytest.MonkeyPatch, busy: float, least: int, most: int
) -> None:
    begin = time.monotonic()
    monkeypatch.setattr(cpu_deadline, "_waited", lambda: busy * (time.monotonic() - begin))
    subject, examined = Subject("sound", broken.SoundEnv, seconds=0.1), 0
    for _ in subject.in_time([Task(str(i), "train", "") for i in range(20)], 0.5):
        time.sleep(0.01)
        examined += 1
    assert least <= examined <= most


def test_the_clock_of_this_thread_goes_on_while_it_computes_and_while_it_sleeps() -> None:
    for wait in (0.0, 0.05):
        before, spent = cpu_deadline.own_clock(), time.process_time()
        time.sleep(wait)
        while time.process_time() - spent < 0.02:
            pass
        assert cpu_deadline.own_clock() - before >= wait + 0.015


def test_a_session_tells_how_long_its_threads_were_ready_to_run() -> None:
    waited = cpu_deadline._queued(os.getsid(0))
    assert str(threading.main_thread().native_id) in waited
    assert all(seconds >= 0 for seconds in waited.values())


BROKEN: Mapping[str, tuple[str, str]] = {
    "NoSections": ("docs", "lacks: Description, Action Space"),
    "IgnoresItsSeed": ("seeded", "the seed is ignored"),
    "GlobalRandom": ("seeded", "two environments with seed 0 gave the tasks"),
    "Overlaps": ("splits", "tasks are in more than one split: in both train and"),
    "LeaksInPrompt": ("leaks", "answers occur in the prompt of 100%"),
    "LeaksInInfo": ("leaks", "answers occur in info of 100%"),
    "LeaksInFeedback": ("leaks", "answers occur in the feedback at level 3 of 100%"),
    "LeaksInObservation": ("leaks", "solutions occur in an observation of 100%"),
    "LongAnswer": ("leaks", "the answer 'def product(): return"),
    "CrashesOnEmpty": ("any text", "step('') on task train-0 raised IndexError"),
    "CrashesOnSurrogates": ("any text", "raised UnicodeEncodeError"),
    "TalksTooMuch": ("any text", "at most 2000 are allowed"),
    "DenseAtTheEnd": ("reward", "dense reward: 0.25 on"),
    "DenseOnTheWay": ("reward", "dense reward: [0.1] before the end"),
    "OddScore": ("reward", "score 1.5 of train-0 is not in [0, 1]"),
    "Remembers": ("pure", "gave different feedback"),
    "ChangesTheTask": ("pure", "verifying answers changed the data of task train-0"),
    "SpeaksAtLevelZero": ("ladder", "level 0 says 'wrong'"),
    "ForgetsOnTheWayUp": ("ladder", "level 4 leaves out what level 3 says"),
    "Hopeless": ("oracle", "the oracle's answer does not succeed on test-9"),
    "Generous": ("floor", "the answer '' of the null policy counts as a success"),
    "Echoes": ("floor", "of the echo policy counts as a success"),
    "PromisesTooMuch": ("budget", "give more than 0 and less than 120, the default of step_secon"),
    "TakesLonger": ("budget", "took 0.2 s; declared: 0.05 s"),
    "Endless": ("interface", "went on after max_turns = 1 turns"),
    "NoVerdict": ("interface", "ended without info['feedback']"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_environment_fails_with_the_right_reason(broken: ModuleType, kind: str) -> None:
    name, reason = BROKEN[kind]
    assert reason in _failed(getattr(broken, kind), name).get(name, "")


@pytest.mark.parametrize("kind", ["IgnoresItsSeed", "Hopeless", "OddScore"])
def test_a_broken_environment_fails_in_nothing_else(broken: ModuleType, kind: str) -> None:
    getattr(broken, kind).__doc__ = broken.SoundEnv.__doc__
    found = _failed(getattr(broken, kind))
    if kind == "IgnoresItsSeed":  # Gymnasium's own checker finds that too.
        assert "seed" in found.pop("interface")
    assert list(found) == [BROKEN[kind][0]]


def test_an_environment_that_promises_nothing_is_told_what_that_means(broken: ModuleType) -> None:
    class Silent(broken.SoundEnv):  # type: ignore[misc, name-defined]
        verify_seconds = None

    verdict = run_property("budget", ENV_PROPERTIES["budget"], Subject("silent", Silent))
    assert verdict.state == "skip"
    assert "no verify_seconds declared" in verdict.evidence


def test_answers_that_wait_are_programs_in_the_functions_of_the_prompt() -> None:
    task = Task("id", "test", "Write `double(n)`; print(2) is no answer.")
    programs = [last_code_block(answer, "python") for answer in outlasting(task)]
    for program in programs:
        assert program is not None
        ast.parse(program)
    assert "def double(*_): select" in str(programs[1])


@pytest.mark.slow
def test_tasks_in_hash_order_are_found_by_other_processes(broken: ModuleType) -> None:
    (verdict, _) = check("broken-hash", only=["panel", IN_TIME])
    assert verdict.failed
    assert "PYTHONHASHSEED=" in verdict.evidence
    assert "gives other tasks" in verdict.evidence


@pytest.mark.slow
def test_a_call_that_hangs_fails_and_the_rest_is_examined(broken: ModuleType) -> None:
    verdicts = {v.name: v for v in check("broken-hang", deadline=15.0, seconds=0.0)}
    hang = verdicts["any text"]
    assert hang.failed
    assert "step(' \\n\\t') on task train-0 did not return within 15 s" in hang.evidence
    assert verdicts[IN_TIME].failed
    assert verdicts["oracle"].state == "pass"
    assert list(verdicts) == property_names()


@pytest.mark.slow
def test_an_environment_that_always_hangs_is_given_up_soon(broken: ModuleType) -> None:
    verdicts = list(check("broken-hang-always", deadline=3.0, seconds=0.1))
    assert [v.name for v in verdicts] == property_names()
    assert sum("did not return within 3 s" in v.evidence for v in verdicts) == 3
    assert sum(v.state == "skip" for v in verdicts) > 5


@pytest.mark.slow
def test_an_environment_that_ends_the_process_gets_a_verdict(broken: ModuleType) -> None:
    verdicts = {v.name: v for v in check("broken-exit", seconds=0.1)}
    assert "ended the process: exit code 3" in verdicts["any text"].evidence
    assert verdicts["floor"].state == "pass"


@pytest.mark.slow
def test_the_command_prints_verdicts_and_answers_by_its_exit_code(
    broken: ModuleType, capsys: Capture
) -> None:
    quick = ["--seconds", "0.1", "--only", "splits,oracle"]
    assert main(["envs", "check", "sound", *quick]) == 0
    assert "pass  oracle" in capsys.readouterr().out
    assert main(["envs", "check", "sound", "broken-import", *quick]) == 1
    printed = capsys.readouterr().out
    assert "broken-import FAILS 2 of 2 properties" in printed
    assert "cannot be imported" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["envs", "check"], "give the names of environments or --all"),
        (["envs", "check", "soundd"], "Did you mean 'sound'"),
        (["envs", "check", "sound", "--only", "oracl"], "Did you mean 'oracle'"),
        (["envs", "check", "sound", "--set", "length=2"], "give env.NAME=VALUE"),
        (["methods", "check", "broken-metod"], "Did you mean 'broken-method'"),
    ],
)
def test_mistakes_are_answered_with_a_remedy(
    broken: ModuleType, capsys: Capture, arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_what_is_no_method_fails(broken: ModuleType) -> None:
    verdicts = list(check_method("broken-method"))
    assert "the entry point is not a MethodSpec: 'a method'" in verdicts[0].evidence


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100, 874])
def test_the_even_order_is_a_permutation_whose_beginnings_are_spread(count: int) -> None:
    order = even_order(count)
    assert sorted(order) == list(range(count))
    for size in (4, 16, 64):
        if size < count / 2:
            firsts = [-1, *sorted(order[:size]), count]
            gaps = [b - a for a, b in pairwise(firsts)]
            assert max(gaps) <= math.ceil(3 * count / size)
