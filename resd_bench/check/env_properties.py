"""The properties of an environment, each a function that proves it or raises `PropertyFailed`.

A property returns its evidence: what was examined and what was observed. Left out here: leaks
(`leaks.py`) and calls that never return (`supervisor.py`).
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import random
import warnings
from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any

import gymnasium as gym
import numpy as np

from resd_bench.check.adversarial_answers import ODD_TEXTS, RUNAWAY, failing, outlasting, policies
from resd_bench.check.env_subject import (
    DEFAULT_LEVEL,
    RARE,
    Episode,
    Subject,
    excerpt,
    outputs_of,
    start_others,
    turns_of,
    verdict_of,
)
from resd_bench.check.result import Skipped, require
from resd_bench.check.task_hash import hash_line, panel_command
from resd_bench.env import TRUNCATED, TextEnv
from resd_bench.plugins import gym_id, register_envs
from resd_bench.records.manifest import content_hash
from resd_bench.rollout.vector_env import DEADLINE
from resd_bench.types import SPLITS, Answer, Dialect, Feedback, Stop, Task

Property = Callable[[Subject], str]

SECTIONS = (
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Episode End",
    "Information",
    "Arguments",
    "Version History",
)
"""Headings of a class docstring, as Gymnasium's documentation pages have them."""

SEEDS = range(12)
_PROCESSES = 3


def docs(subject: Subject) -> str:
    """The class docstring has Gymnasium's sections."""
    kind = type(subject.env(subject.dialects[0]).unwrapped)
    text = inspect.getdoc(kind) or ""
    missing = [section for section in SECTIONS if f"## {section}" not in text]
    require(not missing, f"the docstring of {kind.__name__} lacks: {', '.join(missing)}")
    return f"{len(text.split())} words under {len(SECTIONS)} headings"


def interface(subject: Subject) -> str:
    """Gymnasium's own checker passes, with warnings as errors; episodes end as they should."""
    for dialect in subject.dialects:
        env = subject.fresh(dialect)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _check_by_gymnasium(subject, env)
        for task in subject.spread(env, most=3):
            check_ending(subject.play(env, task, ["no answer"]), int(env.feedback_level))
    made = _made_by_gymnasium(subject) if subject.installed else ""
    return f"gymnasium.utils.env_checker.check_env with warnings as errors{made}"


def _check_by_gymnasium(subject: Subject, env: TextEnv) -> None:
    """Run Gymnasium's checker; each of its many calls has a deadline of its own."""
    from gymnasium.utils.env_checker import check_env

    def begin() -> None:
        subject.doing = "Gymnasium's check_env"
        subject.watch(subject.doing)

    def announced(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            doing = f"{method.__name__} called by Gymnasium's check_env"
            try:
                return subject.call(doing, functools.partial(method, *args, **kwargs))
            finally:
                begin()

        return call

    for name in ("reset", "step"):
        setattr(env, name, announced(getattr(env, name)))
    begin()
    # The checker cannot know that a text environment has no rendering to check.
    check_env(env, skip_render_check=True)
    subject.doing = ""


def check_ending(episode: Episode, level: int) -> None:
    """The last `info` holds what the harness reads, and is consistent."""
    info, feedback = episode.infos[-1], episode.feedback
    keys = {"task_id", "split", "feedback_level", "success", "score", "stop_reason"}
    require(keys <= set(info), f"the last info lacks {sorted(keys - set(info))}")
    require(info["feedback_level"] == level, "info['feedback_level'] is not the level asked for")
    require(episode.rewards[-1] == feedback.reward, "the reward differs from the feedback's")
    for key in ("success", "score"):
        require(
            info[key] == getattr(feedback, key), f"info[{key!r}] differs from the feedback's {key}"
        )


def _made_by_gymnasium(subject: Subject) -> str:
    register_envs()
    name = gym_id(subject.name)
    env = subject.call(
        f"gymnasium.make({name!r})",
        lambda: gym.make(name, disable_env_checker=True, **subject.options),
    )
    require(isinstance(env.unwrapped, TextEnv), f"{name} is not a resd_bench.env.TextEnv")
    return f"; gymnasium.make({name!r})"


def seeded(subject: Subject) -> str:
    """The same seed gives the same episode in another instance; different seeds differ."""
    first, second = (_episodes(subject, noise) for noise in (1, 2))
    for seed, (a, b) in enumerate(zip(first, second, strict=True)):
        require(a == b, f"two environments with seed {seed} gave {_difference(a, b)}")
    tasks = len(subject.tasks(subject.env(subject.dialects[0]), "train"))
    distinct = len({task_id for task_id, _, _ in first})
    require(
        distinct > 1 or tasks < 2,
        f"{len(SEEDS)} seeds all gave task {first[0][0]!r} of {tasks}: the seed is ignored",
    )
    return f"{len(SEEDS)} seeds twice, equal; {distinct} different tasks among them"


_Played = tuple[str, tuple[str, ...], Feedback]


def _episodes(subject: Subject, noise: int) -> list[_Played]:
    """An episode for each seed in a fresh environment, as task, observations and feedback."""
    kept = random.getstate(), np.random.get_state()
    try:
        # Disturbing the global generators exposes an environment that draws from them.
        random.seed(noise)
        np.random.seed(noise)
        return [_episode(subject, subject.fresh(subject.dialects[0]), seed) for seed in SEEDS]
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])


def _episode(subject: Subject, env: TextEnv, seed: int) -> _Played:
    observation, info = subject.call(f"reset(seed={seed})", lambda: env.reset(seed=seed))
    observations, task = [observation], Task(str(info["task_id"]), "train", observation)
    for turn in range(turns_of(env)):
        observation, _, over, cut, info = subject.step(env, task, str(turn))
        observations.append(observation)
        if over or cut:
            break
    return task.id, tuple(observations), verdict_of(info)


def _difference(a: _Played, b: _Played) -> str:
    if a[0] != b[0]:
        return f"the tasks {a[0]!r} and {b[0]!r}"
    for x, y in zip(a[1], b[1], strict=False):
        if x != y:
            return f"the observations {excerpt(x)} and {excerpt(y)}"
    return "different feedback"


def panel(subject: Subject) -> str:
    """The same tasks in every process, whatever its hash seed."""
    here = hash_line(subject.env, subject.dialects)
    again = hash_line(subject.fresh, subject.dialects)
    require(here == again, "two environments in one process have different tasks")
    if not subject.installed:
        raise Skipped("not installed, so no other process can make it; equal in this one")
    command = panel_command(subject.name, subject.options)
    subject.watch(f"hashing the tasks in {_PROCESSES} other processes", starts_processes=True)
    others = start_others(command, _PROCESSES)
    for seed, output in enumerate(outputs_of(others, subject.deadline)):
        require(
            output == here,
            f"PYTHONHASHSEED={seed} gives other tasks: {output}, here {here}",
        )
    return f"{here.split()[0][:16]} in {_PROCESSES + 1} processes with different hash seeds"


def splits(subject: Subject) -> str:
    """The splits are disjoint by content, ids unique, and training and test tasks exist."""
    sizes: list[str] = []
    for dialect in subject.dialects:
        env = subject.env(dialect)
        tasks = {split: subject.tasks(env, split) for split in SPLITS}
        for split in ("train", "test"):
            require(bool(tasks[split]), f"there are no {split} tasks")
        ids = [task.id for split in SPLITS for task in tasks[split]]
        require(len(ids) == len(set(ids)), "task ids are not unique")
        for split in SPLITS:
            require(
                all(task.split == split for task in tasks[split]),
                f"a task of {split} has another split",
            )
        contents = {split: {content_hash(task) for task in tasks[split]} for split in SPLITS}
        for a, b in combinations(SPLITS, 2):
            both = contents[a] & contents[b]
            require(not both, f"{len(both)} tasks are in more than one split: in both {a} and {b}")
        sizes.append(", ".join(f"{split} {len(tasks[split])}" for split in SPLITS))
    return " / ".join(dict.fromkeys(sizes)) + ", no content in two"


def any_text(subject: Subject) -> str:
    """Every string is a legal action and gets a verdict, with feedback of the allowed length."""
    for dialect in subject.dialects:
        env = subject.env(dialect)
        for task in subject.spread(env, most=1):
            for action in ODD_TEXTS.values():
                length = len(subject.play(env, task, [action]).feedback.text)
                require(
                    length <= Feedback.MAX_CHARS,
                    f"feedback of {length} characters to {excerpt(action)}; at most "
                    f"{Feedback.MAX_CHARS} are allowed",
                )
    return f"answered: {', '.join(ODD_TEXTS)}"


def pure(subject: Subject) -> str:
    """Verifying leaves the task unchanged and gives the same verdict again, in any instance."""
    seen = 0
    for dialect in subject.dialects:
        env, other = subject.env(dialect), subject.fresh(dialect)
        for task in subject.in_time(subject.spread(env, most=6), 0.5):
            before = copy.deepcopy(task)
            answers = [*failing(task), *_solution(subject, env, task)]
            firsts = [subject.play(env, task, [answer]) for answer in answers]
            for answer, first in zip(reversed(answers), reversed(firsts), strict=True):
                again = subject.play(other, task, [answer])
                require(
                    first.feedback == again.feedback and first.observations == again.observations,
                    f"the same answer {excerpt(answer)} to {task.id} gave different feedback",
                )
                seen += 1
            require(
                _unchanged(before, task) and _unchanged(before, env.find(task.id, task.split)),
                f"verifying answers changed the data of task {task.id}",
            )
    return f"{seen} answers verified twice by two instances in different order, tasks unchanged"


def _unchanged(before: Task, now: Task) -> bool:
    """Whether verifying left `now` equal to the copy made before."""
    if content_hash(before) != content_hash(now):
        return False
    # Data without an equality of its own never equals its copy; its text has been compared.
    return dict(before.data) == dict(now.data) or copy.deepcopy(before.data) != before.data


def _solution(subject: Subject, env: TextEnv, task: Task) -> list[str]:
    try:
        return [subject.oracle(env, task)]
    except NotImplementedError:
        return []


def reward(subject: Subject) -> str:
    """The reward is 0 or 1 and comes only at the end; the score is in [0, 1]."""
    steps, scores = 0, set[float]()
    for dialect in subject.dialects:
        env = subject.env(dialect)
        for task in subject.in_time(subject.spread(env, most=8), 0.5):
            for answer in failing(task):
                episode = subject.play(env, task, [answer])
                _check_reward(task, episode)
                steps += len(episode.rewards)
                scores.add(episode.feedback.score)
            if _solution(subject, env, task):
                _check_reward(task, subject.follow_oracle(env, task))
    return f"{steps} steps of wrong answers; scores {min(scores):.3g} to {max(scores):.3g}"


def _check_reward(task: Task, episode: Episode) -> None:
    feedback = episode.feedback
    early = [r for r in episode.rewards[:-1] if r != 0]
    require(not early, f"dense reward: {early[:1]} before the end of {task.id}")
    require(
        feedback.reward in (0, 1),
        f"dense reward: {feedback.reward} on {task.id}; only 0 and 1 are allowed at the end",
    )
    require(0 <= feedback.score <= 1, f"score {feedback.score} of {task.id} is not in [0, 1]")
    require(
        feedback.success == (feedback.reward == 1),
        f"reward {feedback.reward} with success {feedback.success} on {task.id}",
    )
    require(
        not feedback.success or feedback.score == 1,
        f"score {feedback.score} of a success on {task.id}; a success passes every case",
    )


def ladder(subject: Subject) -> str:
    """Each level of feedback says at least what the one below it says; level 0 says nothing."""
    longest = [0] * 6
    for dialect in subject.dialects:
        env = subject.env(dialect)
        for task in subject.in_time(subject.spread(env, most=4), 0.5):
            for answer in failing(task)[:4]:
                told = _told(subject, dialect, task, answer)
                if told[DEFAULT_LEVEL].success:
                    continue
                _check_ladder(task, [feedback.text for feedback in told])
                for level, feedback in enumerate(told):
                    _check_hidden(level, feedback)
                    longest[level] = max(longest[level], len(feedback.text))
    return f"at most {' '.join(map(str, longest))} characters at levels 0 to 5"


def _told(subject: Subject, dialect: Dialect, task: Task, answer: str) -> list[Feedback]:
    return [
        subject.play(subject.env(dialect, level), task, [answer]).feedback for level in range(6)
    ]


def _check_ladder(task: Task, texts: list[str]) -> None:
    require(texts[0] == "", f"level 0 says {excerpt(texts[0])} on {task.id}; it must say nothing")
    require(texts[1] != "", f"level 1 does not say that the answer to {task.id} failed")
    for level, (less, more) in enumerate(pairwise(texts)):
        require(len(more) <= Feedback.MAX_CHARS, f"level {level + 1} has {len(more)} characters")
        # Level 2 replaces the single word of level 1; above that, nothing may be lost.
        kept = len(more) == Feedback.MAX_CHARS or all(line in more for line in less.splitlines())
        require(
            kept if level > 1 else len(less) <= len(more),
            f"level {level + 1} leaves out what level {level} says on {task.id}: "
            f"{excerpt(less, 80)}, then {excerpt(more, 80)}",
        )


def _check_hidden(level: int, feedback: Feedback) -> None:
    """Check that the parts of the verdict that its level must not show are empty."""
    require(level >= 5 or not feedback.solution, f"info['feedback'] shows a solution at {level}")
    for case in feedback.cases:
        require(level >= 4 or not case.expected, f"a case shows what is expected at level {level}")
        require(level >= 3 or not case.detail, f"a case shows its detail at level {level}")


def oracle(subject: Subject) -> str:
    """The oracle solves every task that is tried, in each dialect."""
    counts = []
    for dialect in subject.dialects:
        env = subject.env(dialect)
        tasks, solved = subject.spread(env), 0
        for task in subject.in_time(tasks):
            try:
                feedback = subject.follow_oracle(env, task).feedback
            except NotImplementedError as error:
                raise Skipped(f"no oracle: {error}") from None
            require(
                feedback.success,
                f"the oracle's answer does not succeed on {task.id}: "
                f"{feedback.text or feedback.kind}",
            )
            require(feedback.text == "", f"the feedback on a success is not empty: {task.id}")
            solved += 1
        sample = "" if solved == len(tasks) else ", evenly spread"
        counts.append(f"{solved} of {len(tasks)} tasks solved ({dialect}{sample})")
    return "; ".join(counts)


def reasoning(subject: Subject) -> str:
    """Reasoning is not graded, finished or not; feedback on a truncated answer says so."""
    seen = 0
    for dialect in subject.dialects:
        env = subject.env(dialect)
        for task in subject.in_time(subject.spread(env, most=4), 0.5):
            wrong = failing(task)[2]
            alone = subject.play(env, task, [wrong]).feedback
            for right in _solution(subject, env, task):
                for said in (
                    f"<think>{right}</think>\n{wrong}",
                    f"{right}\n</think>\n{wrong}",
                    f"{wrong}<think>{right}",
                ):
                    graded = subject.play(env, task, [said]).feedback
                    require(
                        (graded.success, graded.kind) == (alone.success, alone.kind),
                        f"a right draft in the reasoning changes the verdict on {task.id}",
                    )
                    seen += 1
            cut = subject.play(env, task, [Answer(wrong, Stop.LENGTH)]).feedback
            require(
                cut.success or cut.kind == TRUNCATED,
                f"feedback on a truncated answer to {task.id} says {cut.kind!r}, not {TRUNCATED!r}",
            )
    return f"{seen} right drafts in the reasoning of wrong answers made no difference"


def floor(subject: Subject) -> str:
    """Uninformed policies do not succeed more often than the environment declares."""
    found: dict[str, list[bool]] = {}
    for dialect in subject.dialects:
        env = subject.env(dialect)
        for task in subject.in_time(subject.spread(env, most=24), 0.5):
            for policy, answers in policies(task).items():
                for answer in answers:
                    success = subject.play(env, task, [answer]).feedback.success
                    found.setdefault(policy, []).append(success)
                    require(
                        not success or env.chance > RARE,
                        f"the answer {excerpt(answer)} of the {policy} policy counts as a success "
                        f"on {task.id}",
                    )
    rates = {policy: sum(hits) / len(hits) for policy, hits in found.items()}
    chance = subject.env(subject.dialects[0]).chance
    for policy, rate in rates.items():
        # Not all tasks were tried; three standard errors are allowed for those that were.
        allowed = chance + 3 * math.sqrt(chance * (1 - chance) / len(found[policy]))
        require(
            rate <= allowed, f"the {policy} policy succeeds in {rate:.1%}; declared: {chance:.1%}"
        )
    return ", ".join(f"{policy} {rates[policy]:.0%} of {len(found[policy])}" for policy in rates)


def runaway(subject: Subject) -> str:
    """Answers that are programs that never end get a verdict too."""
    env = subject.env(subject.dialects[0])
    for task in subject.spread(env, most=1):
        for answer in RUNAWAY:
            require(
                not subject.play(env, task, [answer]).feedback.success or env.chance > RARE,
                f"the program {excerpt(answer)} counts as a success on {task.id}",
            )
    seconds, doing = subject.slowest
    return f"slowest call {seconds:.2f} s: {doing}"


def budget(subject: Subject) -> str:
    """No answer keeps the verifier busy for longer than declared; that is below the deadline."""
    env = subject.env(subject.dialects[0])
    declared = env.verify_seconds
    if declared is None:
        raise Skipped(
            "no verify_seconds declared: an answer that outlasts the harness is not a failure"
        )
    require(
        0 < declared < DEADLINE,
        f"verify_seconds = {declared:g}: give more than 0 and less than {DEADLINE:g}, the default "
        "of step_seconds",
    )
    before, subject.slowest = subject.slowest, (0.0, "nothing")
    for task in subject.spread(env, most=1):
        for answer in (*RUNAWAY, *outlasting(task)):
            subject.play(env, task, [answer])
    (seconds, doing), subject.slowest = subject.slowest, max(before, subject.slowest)
    require(seconds <= declared, f"{doing} took {seconds:.1f} s; declared: {declared:g} s")
    return f"{declared:g} s declared, at most {seconds:.2f} s taken; the deadline is {DEADLINE:g} s"
