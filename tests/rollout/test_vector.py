"""Stepping many environments: text arrives as it was, and each failure is its own."""

from __future__ import annotations

import importlib
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import gymnasium as gym
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from resd_bench.config import resolve
from resd_bench.env import TextEnv, Utf8Text
from resd_bench.errors import UsageError
from resd_bench.jobs.setup import make_envs
from resd_bench.plugins import make_env
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.rollout.vector_env import (
    EpisodeSlot,
    InProcessVectorEnv,
    StepResult,
    SubprocessVectorEnv,
    Vector,
    make_vector,
)
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import Feedback, Sampling, Split, Stop, Task, Trajectory

DEADLINE = 3.0
ODD_TEXTS = ["", "\ud800 lone \udfff", "nul \x00 bell \x07\r\n", "naïve 🌍 \u202e", "y" * 10**6]


@pytest.fixture
def unruly(toy: ModuleType) -> ModuleType:
    return importlib.import_module("unruly")


@pytest.fixture(params=[False, True], ids=["watched", "isolated"])
def apart(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def vector(unruly: ModuleType, apart: bool) -> Iterator[Vector]:
    made = make_vector(unruly.UnrulyEnv, deadline=60.0, isolated=apart, workers=1)
    yield made
    made.close()


def test_a_run_says_how_long_its_environment_may_take() -> None:
    config = resolve({"env": "guess-number", "step_seconds": 7})
    assert make_envs(config)[1].deadline == 7
    assert config.digest() == resolve({"env": "guess-number"}).digest()
    with pytest.raises(UsageError, match=r"step_seconds.*\(0, 1000000\]"):
        resolve({"step_seconds": 0})


def test_a_deadline_that_an_environments_own_limit_reaches_is_told() -> None:
    with pytest.warns(UserWarning, match="step_seconds = 3, but guess-number may take 5 s"):
        make_envs(resolve({"env": "guess-number", "step_seconds": 3}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("guess-number", "python-functions-basic", "bouncingsim-basic"):
            make_envs(resolve({"env": name}))


def slots(count: int) -> list[EpisodeSlot]:
    return [EpisodeSlot(i, {"task": f"train-{i}"}) for i in range(count)]


def attempts(
    make: Callable[[], TextEnv],
    scripts: Sequence[Sequence[str]],
    isolated: bool | None = None,
) -> list[Trajectory]:
    """Attempt i of the training tasks says what script i says, then `win`."""

    def answer(prompt: str, seed: int, j: int) -> str:
        number, *said = asked[0].pop(0)
        return [*scripts[number], "win"][said[0]]

    asked: list[list[tuple[int, int]]] = [[]]
    pool = EnvPool(make, deadline=DEADLINE, isolated=isolated, workers=1)
    policy = ScriptedPolicy(answer)

    def act(prompts: Any, **keywords: Any) -> Any:
        # The first message names the task, the number of messages the turn.
        turns = [(int(p[0].content.split()[-1]), len(p) // 2) for p in prompts]
        asked[0] = list(turns)
        return policy.sample(prompts, **keywords)

    groups = roll_out(
        act,
        pool,
        make().tasks("train")[: len(scripts)],
        n=1,
        sampling=Sampling(max_new_tokens=100),
        purpose="rollout",
        ledger=policy.ledger,
        seed=0,
    )
    pool.close()
    return [group.trajectories[0] for group in groups]


@pytest.mark.slow
@pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
def test_text_arrives_as_it_was(vector: Vector, text: str) -> None:
    (slot,) = slots(1)
    vector.reset([slot])
    (answer,) = vector.step([slot], [text])
    assert (answer.observation, answer.error) == (f"1 {text}", "")


def test_an_odd_first_observation_arrives_as_it_was(vector: Vector, unruly: ModuleType) -> None:
    answers = vector.reset(slots(6))
    assert answers[5].observation == unruly.ODD
    assert [a.observation for a in answers[:5]] == [f"task {i}" for i in range(5)]


def test_the_last_observation_and_info_stay(vector: Vector) -> None:
    three = slots(3)
    vector.reset(three)
    answers = vector.step(three, ["a", "win", "b"])
    assert [a.last for a in answers] == [False, True, False]
    assert answers[1].info["feedback"].success
    assert answers[1].info["task_id"] == "train-1"
    vector.step([three[0], three[2]], ["c", "d"])
    assert three[1].answer is answers[1]
    assert (three[0].answer.observation, three[2].answer.observation) == ("2 c", "2 d")


def test_the_turn_limit_shows_as_a_cut(vector: Vector) -> None:
    (slot,) = slots(1)
    vector.reset([slot])
    for _ in range(6):
        (answer,) = vector.step([slot], ["on"])
    assert (answer.cut, answer.over, answer.max_turns) == (True, False, 6)


def check_one_failed(done: Sequence[Trajectory], cause: str) -> None:
    assert [t.stop for t in done] == [Stop.EOS, Stop.ERROR, Stop.EOS]
    assert cause in done[1].error
    assert not done[1].feedback.success
    assert done[1].turns[0].completion.text == "a"
    assert (done[0].feedback.kind, done[2].feedback.kind) == ("a|b|win", "e|win")


SCRIPT = (["a", "b"], ["a", "?", "c"], ["e"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "cause"),
    [
        ("raise", "ValueError: it broke"),
        ("exit", "SystemExit: 3"),
        ("sleep", "did not answer within 3 s"),
        ("spin", "did not answer within 3 s"),
    ],
)
def test_in_this_process_a_failure_costs_its_own_episode(
    unruly: ModuleType, deed: str, cause: str
) -> None:
    scripts = [[deed if said == "?" else said for said in script] for script in SCRIPT]
    check_one_failed(attempts(unruly.UnrulyEnv, scripts), cause)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "cause"),
    [
        ("raise", "ValueError: it broke"),
        ("exit", "exit code 3"),
        ("die", "exit code 3"),
        ("segfault", "signal SIGSEGV"),
        ("sleep", "did not answer within 3 s"),
        ("spin", "did not answer within 3 s"),
    ],
)
def test_in_a_worker_process_a_failure_costs_its_own_episode(
    unruly: ModuleType, deed: str, cause: str
) -> None:
    scripts = [[deed if said == "?" else said for said in script] for script in SCRIPT]
    check_one_failed(attempts(unruly.isolated, scripts), cause)


@pytest.mark.slow
def test_an_isolated_environment_that_hangs_at_once_costs_its_deadline_and_no_more(
    unruly: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The time that a process may take to start is not part of what an environment may take.
    monkeypatch.setattr("resd_bench.rollout.vector_env.START", 60.0)
    made = SubprocessVectorEnv(unruly.hanging, deadline=2.0)
    began = time.monotonic()
    (answer,) = made.reset(slots(1))
    took = time.monotonic() - began
    made.close()
    assert "did not answer within 2 s" in answer.error
    assert took < 40


@pytest.mark.slow
def test_an_isolated_environment_that_hangs_when_it_is_played_again_costs_one_deadline(
    unruly: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FIRST", str(tmp_path / "first"))
    made = SubprocessVectorEnv(unruly.slow_again, deadline=3.0)
    (slot,) = slots(1)
    made.reset([slot])
    for word in "abcde":
        made.step([slot], [word])
    began = time.monotonic()
    # Its process is gone, and in the next one it hangs at the first action.
    made._pool[slot.key % 1].kill()
    made._pool.clear()
    (answer,) = made.step([slot], ["f"])
    took = time.monotonic() - began
    made.close()
    assert "did not answer within 3 s" in answer.error
    assert took < 15


@pytest.mark.slow
@pytest.mark.parametrize("deed", ["sleep", "spin"])
def test_an_answer_that_outlasts_an_environment_that_promised_one_has_failed(
    unruly: ModuleType, deed: str, apart: bool
) -> None:
    done = attempts(unruly.promising, (["a", "b"], ["a", deed, "c"], ["e"]), isolated=apart)
    assert [(t.stop, t.error) for t in done] == [(Stop.EOS, "")] * 3
    late = done[1].feedback
    assert (late.reward, late.success, late.score, late.kind) == (0.0, False, 0.0, "timeout")
    assert late.text == "passed 0 of 1: timeout"
    assert [turn.completion.text for turn in done[1].turns] == ["a", deed]
    assert (done[0].feedback.kind, done[2].feedback.kind) == ("a|b|win", "e|win")


def test_only_a_late_answer_to_an_action_is_blamed_on_it(unruly: ModuleType) -> None:
    scripts = (["raise"], ["a", "win"])
    raised, fine = attempts(unruly.promising, scripts)
    assert (raised.stop, raised.error) == (Stop.ERROR, "ValueError: it broke")
    assert fine.feedback.success

    class SlowToBegin(unruly.PromisingEnv):  # type: ignore[misc, name-defined]
        def opening(self, task: Any) -> str:
            time.sleep(3600)
            return ""

    made = make_vector(SlowToBegin, deadline=0.2)
    (answer,) = made.reset(slots(1))
    assert "did not answer within 0.2 s" in answer.error


def test_an_environment_declares_that_it_is_kept_apart(unruly: ModuleType) -> None:
    assert isinstance(make_vector(unruly.UnrulyEnv), InProcessVectorEnv)
    assert isinstance(make_vector(unruly.isolated), SubprocessVectorEnv)
    assert isinstance(make_vector(unruly.isolated, isolated=False), InProcessVectorEnv)


def test_what_cannot_be_played_again_alike_is_an_error(unruly: ModuleType) -> None:
    made = make_vector(unruly.ForgetfulEnv, deadline=60.0, workers=1)
    two = slots(2)
    made.reset(two)
    made.step(two, ["a", "a"])
    answers = made.step(two, ["die", "b"])
    made.close()
    assert "exit code 3" in answers[0].error
    assert "it said another thing" in answers[1].error


def test_info_that_cannot_be_passed_is_an_error(unruly: ModuleType) -> None:
    made = make_vector(unruly.SecretiveEnv, deadline=60.0, workers=1)
    (answer,) = made.reset(slots(1))
    made.close()
    assert answer.last
    assert "pickle" in answer.error.lower()


def test_an_environment_that_no_worker_can_make_is_an_error(unruly: ModuleType) -> None:
    made = SubprocessVectorEnv(partial(unruly.isolated, "no such argument"), deadline=60.0)
    (answer,) = made.reset(slots(1))
    made.close()
    assert answer.error.startswith("TypeError")


def test_a_maker_that_cannot_be_sent_is_a_usage_error(unruly: ModuleType) -> None:
    made = SubprocessVectorEnv(lambda: unruly.UnrulyEnv())
    with pytest.raises(UsageError, match="function of a module"):
        made.reset(slots(1))


def test_after_an_interruption_answers_are_those_to_the_next_calls(
    unruly: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = InProcessVectorEnv(unruly.UnrulyEnv)
    one, two = slots(2)
    watched.reset([one, two])

    def interrupt(self: Any, *asked: Any) -> None:
        self._asked.put(asked)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("resd_bench.rollout.vector_env._CallThread.ask", interrupt)
        with pytest.raises(KeyboardInterrupt):
            watched.step([one], ["lost"])
    (answer,) = watched.step([two], ["found"])
    watched.close()
    assert answer.observation == "1 found"


class Meeting(TextEnv):
    """A step of `meet` ends once as many are in theirs as there may be at once."""

    name = "meeting"
    concurrent = True
    together: ClassVar[threading.Barrier]
    stepping: ClassVar[set[int]] = set()
    most: ClassVar[int] = 0
    """Steps that were under way at once."""

    def tasks(self, split: Split) -> Sequence[Task]:
        return [Task(f"{split}-{i}", split, f"task {i}") for i in range(6)]

    def verify(self, task: Task, action: str) -> Feedback:
        self.stepping.add(id(self))
        Meeting.most = max(Meeting.most, len(self.stepping))
        try:
            return self.judge(task, action)
        finally:
            self.stepping.discard(id(self))

    def judge(self, task: Task, action: str) -> Feedback:
        time.sleep(0.02)
        if action == "meet":
            self.together.wait()
        if action == "sleep":
            time.sleep(3600)
        return Feedback(1.0, True, 1.0, text="", kind=f"{task.id} {action}")


class Lonely(Meeting):
    concurrent = False


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resd_bench.machine.cores.usable_cores", lambda: 4)


@pytest.mark.usefixtures("four_cores")
def test_steps_that_wait_are_taken_at_once_and_answered_in_order() -> None:
    Meeting.together, Meeting.most = threading.Barrier(3, timeout=20), 0
    made, six = make_vector(Meeting, deadline=60.0, workers=3), slots(6)
    made.reset(six)
    before = threading.active_count()
    answers = made.step(six, ["meet", "a", "meet", "b", "meet", "c"])
    assert Meeting.most == 3
    # One that has answered takes the next step, of this batch or of another.
    assert threading.active_count() - before <= 3
    again = slots(6)
    made.reset(again)
    made.step(again, ["meet", "a", "meet", "b", "meet", "c"])
    assert threading.active_count() - before <= 3
    made.close()
    for _ in range(100):
        if threading.active_count() < before:
            break
        time.sleep(0.05)
    assert threading.active_count() < before
    said = ["meet", "a", "meet", "b", "meet", "c"]
    assert [a.info["feedback"].kind for a in answers] == [
        f"train-{i} {s}" for i, s in enumerate(said)
    ]
    assert [slot.answer for slot in six] == answers


def test_steps_of_others_are_taken_one_after_another() -> None:
    Lonely.together = threading.Barrier(2, timeout=1)
    made, two = make_vector(Lonely, deadline=60.0, workers=3), slots(2)
    made.reset(two)
    answers = made.step(two, ["meet", "meet"])
    made.close()
    assert all("BrokenBarrierError" in answer.error for answer in answers)


@pytest.mark.usefixtures("four_cores")
def test_no_more_steps_are_taken_at_once_than_there_are_cores() -> None:
    for workers, most in ((0, 4), (2, 2), (50, 4)):
        Meeting.most = 0
        made, twelve = make_vector(Meeting, deadline=60.0, workers=workers), slots(6)
        made.reset(twelve)
        made.step(twelve, ["a"] * 6)
        made.close()
        assert Meeting.most == most


@pytest.mark.usefixtures("four_cores")
def test_of_steps_at_once_only_the_late_one_is_lost() -> None:
    Meeting.together = threading.Barrier(2, timeout=20)
    made, five = make_vector(Meeting, deadline=2.0, workers=2), slots(5)
    made.reset(five)
    answers = made.step(five, ["sleep", "a", "b", "c", "d"])
    again = slots(4)
    made.reset(again)
    rest = made.step(again, ["meet", "meet", "e", "f"])
    made.close()
    assert "did not answer within 2 s" in answers[0].error
    assert not any(answer.error for answer in [*answers[1:], *rest])
    assert [a.info["feedback"].kind for a in rest] == [
        *("train-0 meet", "train-1 meet", "train-2 e", "train-3 f")
    ]


class Interrupting(deque[EpisodeSlot]):
    """Steps to take; Ctrl-C comes when all of them are under way."""

    def __bool__(self) -> bool:
        if not len(self):
            raise KeyboardInterrupt
        return True


@pytest.mark.usefixtures("four_cores")
def test_an_interruption_ends_all_steps_that_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    made, four = make_vector(Meeting, deadline=60.0, workers=2), slots(4)
    made.reset(four)

    assert isinstance(made, InProcessVectorEnv)
    given_up: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(
            "resd_bench.rollout.vector_env._CallThread.give_up", lambda t: given_up.append(t)
        )
        patch.setattr("resd_bench.rollout.vector_env.deque", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            made.step(four[:2], ["a", "b"])
    assert len(set(given_up)) == 2
    answers = made.step(four[2:], ["c", "d"])
    made.close()
    assert [a.info["feedback"].kind for a in answers] == ["train-2 c", "train-3 d"]


@pytest.mark.slow
@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize("name", ["python-functions-basic", "bouncingsim-basic"])
def test_programs_that_are_judged_at_once_are_judged_as_one_by_one(name: str) -> None:
    def judged(workers: int) -> list[StepResult]:
        made = make_vector(partial(make_env, name, dialect="compact"), workers=workers)
        env = make_env(name, dialect="compact")
        tasks = env.tasks("train")[:12]
        some = [EpisodeSlot(i, {"task": task.id}) for i, task in enumerate(tasks)]
        said = [env.oracle(task) if i % 2 else "wrong" for i, task in enumerate(tasks)]
        assert isinstance(made, InProcessVectorEnv)
        assert made.at_once == workers
        made.reset(some)
        answers = made.step(some, said)
        made.close()
        return answers

    one_by_one, at_once = judged(1), judged(4)
    assert [a.info["feedback"] for a in at_once] == [a.info["feedback"] for a in one_by_one]
    assert [a.info["success"] for a in at_once] == [i % 2 == 1 for i in range(12)]


def test_an_environment_is_used_again_when_its_episode_is_over(unruly: ModuleType) -> None:
    made: list[TextEnv] = []

    def make() -> TextEnv:
        made.append(unruly.UnrulyEnv())
        return made[-1]

    watched = InProcessVectorEnv(make)
    for _ in range(3):
        (slot,) = slots(1)
        watched.reset([slot])
        watched.step([slot], ["win"])
    slot = slots(1)[0]
    watched.reset([slot])
    watched.step([slot], ["raise"])
    watched.reset(slots(1))
    watched.close()
    assert len(made) == 2


def test_an_answer_without_error_is_not_the_last() -> None:
    assert not StepResult("x").last
    assert StepResult(error="x").last


class PlainText(gym.Env[str, str]):
    """An environment whose text Gymnasium's own space describes."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Text(20, charset="abcdefg ")
        self.action_space = Utf8Text()

    def reset(self, **keywords: Any) -> tuple[str, dict[str, Any]]:
        return "bad cafe", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "face", 0.0, False, False, {}


@pytest.mark.skipif(not gym.__version__.startswith("1.4"), reason="seen in Gymnasium 1.4")
def test_shared_memory_garbles_text_where_ours_does_not() -> None:
    theirs = AsyncVectorEnv([PlainText])
    garbled, _ = theirs.reset()
    theirs.close()
    assert garbled[0] != "bad cafe"
    slot = EpisodeSlot(0, {})
    ours = InProcessVectorEnv(PlainText)
    assert ours.reset([slot])[0].observation == "bad cafe"
    assert ours.step([slot], ["go"])[0].observation == "face"
    ours.close()


def test_shared_memory_refuses_our_space_aloud(unruly: ModuleType) -> None:
    with pytest.raises(ValueError, match="shared_memory=False"):
        AsyncVectorEnv([unruly.UnrulyEnv])


@pytest.mark.parametrize("kind", [SyncVectorEnv, partial(AsyncVectorEnv, shared_memory=False)])
def test_our_environments_work_in_the_vectors_of_gymnasium(
    unruly: ModuleType, kind: Callable[..., Any]
) -> None:
    envs = kind([unruly.UnrulyEnv, unruly.UnrulyEnv])
    observations, infos = envs.reset(seed=3, options={"task": "train-5"})
    assert list(observations) == [unruly.ODD] * 2
    assert list(infos["task_id"]) == ["train-5"] * 2
    odd = "\ud800\x00 naïve"
    observations, rewards, over, _, infos = envs.step([odd, "win"])
    envs.close()
    assert observations[0] == f"1 {odd}"
    assert list(rewards) == [0, 1]
    assert list(over) == [False, True]
    assert isinstance(infos["feedback"][1], Feedback)
