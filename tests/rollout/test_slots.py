"""Episodes in slots: the same as one after another, however many slots there are."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resd_bench.budget import Ledger
from resd_bench.config import resolve
from resd_bench.distributed.process_group import SingleProcess
from resd_bench.env import Reply, TextEnv
from resd_bench.errors import UsageError
from resd_bench.jobs.run import run
from resd_bench.jobs.setup import make_envs
from resd_bench.rollout.episode import RunningEpisode
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.rollout.slots import stream_names
from resd_bench.rollout.vector_env import EpisodeSlot
from resd_bench.seeds import derive
from resd_bench.types import (
    Completion,
    Feedback,
    Group,
    Message,
    Messages,
    Sampling,
    Split,
    Stop,
    Task,
    Trajectory,
)
from tests.jobs.test_resume import interrupt, measured

SAMPLING = Sampling(seed=5)
SEED = 11


class Echo(TextEnv):
    """Says back what it hears; `win` ends an episode well and `break` not at all."""

    name = "echo"
    max_turns = 5
    waits: Callable[[], None] = staticmethod(lambda: None)

    def tasks(self, split: Split) -> Sequence[Task]:
        return [Task(f"{split}-{n}", split, f"task {n}") for n in range(7)]

    def reply(self, task: Task, action: str) -> Reply:
        self.waits()
        if action == "break":
            raise RuntimeError("it broke")
        if action == "win":
            return Reply(feedback=Feedback(1.0, True, 1.0))
        return Reply(f"{task.id} heard {action}")


def drawn(seed: int, number: int) -> Completion:
    """What is said with the random stream `number`, whatever was asked."""
    draw = random.Random(f"{seed} {number}")
    what = draw.choices(("win", "break", "", "go"), (3, 1, 1, 8))[0]
    if not what:
        return Completion("", stop=Stop.LENGTH)
    return Completion(what if what != "go" else f"go {draw.random():.6f}", (1, 2), (-0.5, -1.0))


class Speaker:
    """Answers from the named streams, and remembers what it was asked together."""

    def __init__(self) -> None:
        self.asked: list[list[Messages]] = []

    def __call__(self, prompts: Sequence[Messages], **how: Any) -> list[list[Completion]]:
        self.asked.append(list(prompts))
        sampling = how["sampling"]
        assert (how["n"], len(sampling.streams)) == (1, len(prompts))
        return [[drawn(sampling.seed, number)] for number in sampling.streams]


def roll(
    act: Callable[..., list[list[Completion]]],
    pool: EnvPool,
    tasks: Sequence[Task],
    n: int = 1,
    ledger: Ledger | None = None,
    first: int = 0,
) -> list[Group]:
    return roll_out(
        act,
        pool,
        tasks,
        n=n,
        sampling=SAMPLING,
        purpose="rollout",
        ledger=ledger or Ledger(),
        seed=SEED,
        first_attempt=first,
    )


def played(
    slots: int, tasks: int = 7, n: int = 3, first: int = 0, make: Callable[[], TextEnv] = Echo
) -> tuple[list[Group], Speaker, Ledger]:
    speaker, ledger = Speaker(), Ledger()
    pool = EnvPool(make, slots=slots)
    groups = roll(speaker, pool, make().tasks("train")[:tasks], n, ledger, first)
    pool.close()
    return groups, speaker, ledger


def plainly(task: Task, attempt: int) -> dict[str, Any]:
    """The transcript of an attempt, by a loop over one Gymnasium environment."""
    env = Echo()
    env.reset(seed=derive(SEED, "env", task.id, attempt), options={"task": task.id})
    messages = [Message("user", task.prompt)]
    name, turn, end = derive(0, task.id, attempt, 0), 0, ""
    while not end:
        said = drawn(SAMPLING.seed, derive(name, turn))
        if not said.text:
            end = "length"
            break
        try:
            observation, _, over, cut, _ = env.step(said.text)
        except RuntimeError:
            observation, over, cut, end = "", False, False, "error"
        messages.append(Message("assistant", said.text))
        turn += 1
        end = end or ("turns" if cut else "eos" if over else "")
        if not end:
            messages.append(Message("user", observation))
    won = end == "eos"
    return {"said": messages, "stop": end, "success": won, "turns": turn}


def transcript(attempt: Trajectory) -> dict[str, Any]:
    """The same of a trajectory."""
    said: Messages = (Message("user", attempt.task.prompt),)
    if attempt.turns:
        last = attempt.turns[-1]
        said = (*last.messages, Message("assistant", last.completion.text))
    if attempt.unanswered and attempt.turns:
        said = (*said, Message("user", attempt.unread))
    return {
        "said": list(said),
        "stop": attempt.stop.value,
        "success": attempt.feedback.success,
        "turns": len(attempt.turns),
    }


@settings(max_examples=25, deadline=None)
@given(
    slots=st.integers(1, 25), tasks=st.integers(1, 7), n=st.integers(1, 4), first=st.integers(0, 9)
)
def test_any_number_of_slots_gives_what_a_plain_loop_gives(
    slots: int, tasks: int, n: int, first: int
) -> None:
    expected = [
        [plainly(task, first + j) for j in range(n)] for task in Echo().tasks("train")[:tasks]
    ]
    if all(one["stop"] == "length" and not one["turns"] for own in expected for one in own):
        with pytest.raises(UsageError, match="no task leaves room"):
            played(slots, tasks, n, first)
        return
    groups, _, ledger = played(slots, tasks, n, first)
    assert [[transcript(t) for t in group.trajectories] for group in groups] == expected
    turns = sum(one["turns"] for own in expected for one in own)
    assert (ledger.episodes, ledger.env_steps) == (tasks * n, turns)


def test_the_cases_above_end_in_every_way() -> None:
    groups, _, _ = played(4, 7, 10)
    stops = {attempt.stop for group in groups for attempt in group.trajectories}
    assert stops == {Stop.EOS, Stop.TURNS, Stop.LENGTH, Stop.ERROR}


def test_there_are_never_more_episodes_at_once_and_a_free_slot_is_used() -> None:
    for slots in (1, 2, 5, 8):
        _, speaker, _ = played(slots)
        sizes = [len(prompts) for prompts in speaker.asked]
        assert max(sizes) == slots - slots // 2
        begun = [sum(len(p) == 1 for p in prompts) for prompts in speaker.asked]
        last = max(place for place, count in enumerate(begun) if count)
        # As long as tasks are waiting, both halves are full.
        assert all(size >= slots // 2 for size in sizes[: last - 1])


def test_what_is_sampled_together_does_not_depend_on_the_clock() -> None:
    class Moody(Echo):
        waits = staticmethod(lambda: time.sleep(random.random() * 0.003))

    found = [played(6, make=Moody)[1].asked for _ in range(2)]
    assert found[0] == found[1] == played(6)[1].asked


def test_environments_step_while_the_other_half_is_sampled() -> None:
    sampling, stepping = threading.Event(), threading.Event()

    def meet() -> None:
        stepping.set()
        if not sampling.wait(20.0):
            raise RuntimeError("nothing is sampled meanwhile")

    class Patient(Echo):
        max_turns = 2
        waits = staticmethod(meet)

    asked: list[int] = []

    def act(prompts: Sequence[Messages], **_: Any) -> list[list[Completion]]:
        asked.append(len(prompts))
        if len(asked) == 2:
            sampling.set()
            assert stepping.wait(20.0), "no environment steps meanwhile"
        return [[Completion("go", (1,), (-0.5,))] for _ in prompts]

    pool = EnvPool(Patient, slots=4)
    groups = roll(act, pool, Patient().tasks("train")[:4])
    assert {attempt.stop for group in groups for attempt in group.trajectories} == {Stop.TURNS}
    assert asked == [2, 2, 2, 2]


def test_with_several_processes_the_calling_thread_steps_and_results_are_the_same() -> None:
    threads = set()

    class Watched(Echo):
        waits = staticmethod(lambda: threads.add(threading.current_thread().name))

    speaker = Speaker()
    # Rank 0 of two, of which the other gets what is broadcast.
    pool = EnvPool(Watched, slots=5, deadline=None, process_group=SingleProcess(size=2))
    groups = roll(speaker, pool, Watched().tasks("train"), 3)
    alone, other, _ = played(5)
    assert groups == alone
    assert speaker.asked == other.asked
    assert threads == {threading.main_thread().name}


def test_an_attempt_that_occurs_twice_draws_from_two_streams() -> None:
    one, other = Echo().tasks("train")[:2]
    given_ = [(one, 0), (one, 1), (one, 0), (other, 0), (one, 0)]
    episodes = [RunningEpisode(task, EpisodeSlot(0, {}), attempt) for task, attempt in given_]
    names = stream_names(episodes)
    assert len(set(names)) == 5
    assert names[0] == stream_names(episodes[2:])[0]


def test_an_interrupt_while_environments_step_ends_the_rollout() -> None:
    class Slow(Echo):
        waits = staticmethod(lambda: time.sleep(0.05))

    calls: list[int] = []

    def act(prompts: Sequence[Messages], **_: Any) -> list[list[Completion]]:
        calls.append(len(prompts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return [[Completion("go", (1,), (-0.5,))] for _ in prompts]

    pool = EnvPool(Slow, slots=4)
    with pytest.raises(KeyboardInterrupt):
        roll(act, pool, Slow().tasks("train"))
    assert "slots" not in {thread.name for thread in threading.enumerate()}
    pool.close()


def test_where_no_task_fits_the_context_the_user_is_told_before_anything_is_sampled() -> None:
    def silent(prompts: Sequence[Messages], **_: Any) -> list[list[Completion]]:
        return [[Completion("", stop=Stop.LENGTH)] for _ in prompts]

    def go(ledger: Ledger) -> list[Group]:
        return roll(silent, EnvPool(Echo, slots=2), Echo().tasks("train"), 1, ledger)

    with pytest.raises(UsageError, match=r"no task leaves room for 256 new tokens.*--max-new-tok"):
        go(Ledger())
    # Later, a memory that grew may fill the context: that is recorded, and no error.
    groups = go(Ledger(evaluation_tokens=1))
    assert all(attempt.unanswered for group in groups for attempt in group.trajectories)


def test_a_method_that_asks_other_prompts_is_told_that_streams_have_names() -> None:
    with pytest.raises(UsageError, match=r"3 prompts in place of the 2 .*leave out --rollout-sl"):
        Sampling(streams=(7, 8)).numbers(3)
    assert Sampling(streams=(7, 8)).numbers(2) == (7, 8)
    assert list(Sampling().numbers(3)) == [0, 1, 2]


SETTINGS = {
    "env": "toy-count",
    "method": "toy-learner",
    "model": "scripted",
    "budget": "60ep",
    "batch_size": 5,
    "group_size": 2,
    "eval_every": 2,
    "eval_samples": 2,
    "max_new_tokens": 20,
    "checkpoint_every": 2,
}


def test_runs_record_the_same_with_any_slots_and_after_a_kill(
    toy: ModuleType, tmp_path: Path
) -> None:
    def config(slots: int, name: str) -> Any:
        return resolve(SETTINGS, {"out": str(tmp_path / name), "rollout_slots": slots})

    found = {}
    for slots in (0, 1, 4, 16):
        one = config(slots, f"slots-{slots}")
        assert make_envs(one)[1].slots == slots
        run(one, policy=toy.policy)
        found[slots] = measured(one.folder())
    assert found[1] == found[4] == found[16]
    assert found[0] != found[1], "the streams have other names"
    killed = config(4, "killed")
    interrupt(killed, 3, toy.policy)
    run(killed, resume=True, policy=toy.policy)
    assert measured(killed.folder()) == found[4]
