"""The properties of a method, each a function that proves it or raises `PropertyFailed`.

A scripted policy takes the place of the language model, so nothing here says whether a method
learns. Run with `python -m`, this prints a digest of what a method does, to compare processes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from resd_bench import plugins
from resd_bench.agent import Agent, Collects, MethodSpec, SeesReferences, State
from resd_bench.check.adversarial_answers import ODD_TEXTS
from resd_bench.check.env_subject import Called, Watch, not_watched, outputs_of, start_others
from resd_bench.check.result import PropertyFailed, require
from resd_bench.check.scripted import Script, ScriptedPolicy
from resd_bench.config import method_config
from resd_bench.errors import UsageError
from resd_bench.options import field_help
from resd_bench.records.recorder import plain
from resd_bench.types import (
    CaseResult,
    Completion,
    Example,
    Feedback,
    Group,
    Message,
    Sampling,
    Step,
    Stop,
    Task,
    Trajectory,
    Turn,
    user,
)

_PROCESSES = 2
_LONGEST = 20_000
"""Maximum length, in characters, of a hostile text; models stop at their token limit."""

ODD = [text[:_LONGEST] for text in ODD_TEXTS.values()]

_T = TypeVar("_T")


class Sealed(Mapping[str, Any]):
    """Task data that a method must not read: it holds the gold answer."""

    def _refuse(self, *_: object) -> NoReturn:
        raise PropertyFailed(
            "the method read task.data, which holds gold that only the verifier may see"
        )

    __getitem__ = __iter__ = __len__ = __contains__ = __eq__ = _refuse
    __hash__ = None  # type: ignore[assignment]


def _scripted(prompt: str, seed: int, j: int) -> str:
    return f"answer {(len(prompt) + seed + j) % 7}"


def _odd(prompt: str, seed: int, j: int) -> str:
    return ODD[(len(prompt) + seed + j) % len(ODD)]


@dataclass
class MethodSubject(Called):
    """A method under test; calls are named and timed like those of an environment."""

    name: str
    spec: MethodSpec | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    installed: bool = False
    seconds: float = 0.0
    deadline: float = 300.0
    watch: Watch = not_watched
    doing: str = ""
    slowest: tuple[float, str] = (0.0, "nothing")

    def loaded(self) -> MethodSpec:
        """The method itself."""
        if self.spec is None:
            self.spec = self.call("importing it", lambda: plugins.method(self.name))
        return self.spec

    def agent(self, script: Script = _scripted) -> tuple[ScriptedPolicy, Agent]:
        """A fresh agent, and the policy it was given, which answers by `script`."""
        spec = self.loaded()
        policy = ScriptedPolicy(script)
        agent: Agent = self.call(
            "building the agent", lambda: spec.build(policy, spec.config(**self.options))
        )
        if isinstance(agent, SeesReferences):
            agent.use_references(_reference if spec.sees_reference else _no_reference)
        elif spec.sees_reference:
            raise PropertyFailed("it says that it sees references and has no use_references()")
        return policy, agent

    def learn(
        self, agent: Agent, given: Sequence[Group], update: int, *, alone: bool = False
    ) -> dict[str, float]:
        """One update; `alone` gives an agent that asks for more rollouts none."""
        chosen = given
        if isinstance(agent, Collects):
            tasks = () if alone else [_task(number) for number in range(12)]
            more = ScriptedRollouts(agent, len(given[0].trajectories), update, tasks)
            chosen = self.call(
                f"collect, update {update}", lambda: agent.collect(given, step(update), more)
            )
        return self.call(f"learn, update {update}", lambda: agent.learn(chosen, step(update)))


@dataclass
class ScriptedRollouts:
    """Extra rollouts of the agent: answers that succeed if their length is even."""

    agent: Agent
    n: int
    update: int
    tasks: Sequence[Task]

    def play(self, tasks: Sequence[Task]) -> list[Group]:
        """Ask the agent for an answer to each task; [] where there are no tasks at all."""
        if not self.tasks:
            return []
        sampling = Sampling(max_new_tokens=64, seed=self.update)
        prompts = [user(task.prompt) for task in tasks]
        made = self.agent.act(prompts, n=self.n, sampling=sampling, purpose="rollout")
        return [
            Group(task, tuple(_judged(task, one) for one in answers))
            for task, answers in zip(tasks, made, strict=True)
        ]


def _judged(task: Task, said: Completion) -> Trajectory:
    right = len(said.text) % 2 == 0
    verdict = Feedback(float(right), right, float(right), text="" if right else "odd")
    return Trajectory(task, (Turn(user(task.prompt), said),), verdict)


def _task(number: int) -> Task:
    return Task(f"t{number}", "train", f"question {number}", Sealed())


def _no_reference(task: Task) -> str:
    return ""


def _reference(task: Task) -> str:
    return f"reference of {task.id}"


def step(update: int) -> Step:
    """The `Step` of update number `update`, with two inner updates per batch."""
    return Step(update, update // 2, update % 2, Sampling(max_new_tokens=64, seed=update), update)


def groups(n: int, stop: Stop = Stop.EOS, texts: Sequence[str] = ("attempt",)) -> list[Group]:
    """Four tasks with `n` attempts each, of which every second one succeeds."""
    return [
        Group(task, tuple(_attempt(task, number, j, stop, texts) for j in range(n)))
        for number in range(4)
        for task in [_task(number)]
    ]


def _attempt(task: Task, number: int, j: int, stop: Stop, texts: Sequence[str]) -> Trajectory:
    right = (number + j) % 2 == 0 and stop is not Stop.ERROR
    words = f"{texts[(number + j) % len(texts)]} {number} {j}"
    ids = tuple(map(ord, words))
    completion = Completion(words, ids, (-0.5,) * len(ids))
    turns = [Turn(user(task.prompt), completion)]
    if number == 3:  # an episode of two turns
        more = (*user(task.prompt), Message("assistant", words), Message("user", "go on"))
        turns.append(Turn(more, completion))
    case = CaseResult("case", right, "pass" if right else "wrong_answer", words)
    told = "" if right else f"passed 0 of 1: wrong_answer\n{words}"[: Feedback.MAX_CHARS]
    kind = "" if right else "wrong_answer"
    feedback = Feedback(float(right), right, float(right), (case,), told, kind)
    error = "RuntimeError: the environment broke" if stop is Stop.ERROR else ""
    return Trajectory(task, tuple(turns), feedback, stop, error)


def options(subject: MethodSubject) -> str:
    """The options are a frozen dataclass with help, and the presets know them."""
    spec = subject.loaded()
    require(isinstance(spec, MethodSpec), f"the entry point is not a MethodSpec: {spec!r}")
    require(
        dataclasses.is_dataclass(spec.config) and spec.config.__dataclass_params__.frozen,  # type: ignore[attr-defined]
        f"{spec.config!r} is not a frozen dataclass",
    )
    require(bool(spec.summary.strip()), "the summary for `methods list` is empty")
    require(spec.group_size >= 1, f"group_size {spec.group_size} is not at least 1")
    names = [option.name for option in dataclasses.fields(spec.config)]
    bare = sorted(set(names) - _explained(spec.config, names))
    require(not bare, f"options without a docstring under the field: {', '.join(bare)}")
    for preset, values in spec.presets.items():
        try:
            method_config(spec.config, values, spec.name)
        except UsageError as error:
            raise PropertyFailed(f"preset {preset}: {error}") from None
    return f"{len(names)} options with help, {len(spec.presets)} presets"


def _explained(config: type, names: Sequence[str]) -> set[str]:
    try:
        return set(field_help(config))
    except OSError:
        # A class defined in a notebook may have no source to read.
        return set(names)


def answers(subject: MethodSubject) -> str:
    """`act` returns n completions per prompt, charged to the purpose it was asked for."""
    policy, agent = subject.agent()
    prompts = [user("question"), user(""), user("lone \ud800 and \x00")]
    for n in (1, 3):
        got = subject.call(
            f"act, {n} samples",
            lambda n=n: agent.act(prompts, n=n, sampling=Sampling(seed=1), purpose="evaluation"),  # type: ignore[misc]
        )
        sizes = [len(group) for group in got]
        require(
            sizes == [n] * len(prompts),
            f"act returned {sizes} completions for {len(prompts)} prompts with n = {n}",
        )
    require(policy.ledger.generated_tokens == 0, "evaluation was charged to the budget")
    require(policy.ledger.evaluation_tokens > 0, "evaluation was not counted")
    return f"n = 1 and 3 for {len(prompts)} prompts; evaluation is not charged"


def repeatable(subject: MethodSubject) -> str:
    """The same groups and seed give the same metrics and the same examples, in any process."""
    first, second = subject.agent(), subject.agent()
    size = subject.loaded().group_size
    for update in range(3):
        a = subject.learn(first[1], groups(size), update)
        b = subject.learn(second[1], groups(size), update)
        require(_same(a, b), f"the same groups and seed gave other metrics: {a}, then {b}")
        require(first[0].updates == second[0].updates, "the same groups gave other examples")
    count = sum(map(len, first[0].updates))
    if not subject.installed:
        return f"{count} examples of 3 updates, twice"
    return f"{count} examples of 3 updates, twice and in {_in_processes(subject)} processes"


def _same(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    return json.dumps(plain(a), sort_keys=True) == json.dumps(plain(b), sort_keys=True)


def digest(subject: MethodSubject) -> str:
    """SHA-256 of the examples and metrics of three updates."""
    policy, agent = subject.agent()
    size = subject.loaded().group_size
    metrics = [subject.learn(agent, groups(size), update) for update in range(3)]
    examples = [dataclasses.asdict(e) for update in policy.updates for e in update]
    text = json.dumps([plain(metrics), plain(examples)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _in_processes(subject: MethodSubject) -> int:
    command = [sys.executable, "-P", "-m", "resd_bench.check.method_properties", subject.name]
    command.append(json.dumps(dict(subject.options)))
    subject.watch(f"learning in {_PROCESSES} other processes", starts_processes=True)
    others = start_others(command, _PROCESSES)
    here = digest(subject)
    for seed, output in enumerate(outputs_of(others, subject.deadline)):
        require(output == here, f"PYTHONHASHSEED={seed} gives other examples or metrics")
    return _PROCESSES


def examples(subject: MethodSubject) -> str:
    """Examples are what was sampled: the same token ids, with one log-probability each."""
    policy, agent = subject.agent()
    batch = groups(subject.loaded().group_size)
    metrics = subject.learn(agent, batch, 0)
    bad = [name for name, value in metrics.items() if not isinstance(value, float | int)]
    require(not bad, f"metrics are numbers, but not {', '.join(bad)}")
    sampled = {t.completion for group in batch for a in group.trajectories for t in a.turns}
    made = [example for update in policy.updates for example in update]
    for example in made:
        require(isinstance(example, Example), f"an example is a {type(example).__name__}")
        require(
            example.completion in sampled,
            "an example trains on a completion that was not sampled in these groups",
        )
        require(bool(example.messages), "an example has no messages")
    return f"{len(made)} examples of {len(sampled)} sampled completions, {len(metrics)} metrics"


def saved(subject: MethodSubject) -> str:
    """`state_dict` survives a file and holds everything needed to resume."""
    _, agent = subject.agent()
    size = subject.loaded().group_size
    for update in range(3):
        subject.learn(agent, groups(size), update)
    state = _through_a_file(subject, agent)
    policy, restored = subject.agent()
    subject.call("load_state_dict", lambda: restored.load_state_dict(state))
    require(policy.count == 3, "state_dict leaves out the policy's own state")
    again = _through_a_file(subject, restored)
    require(
        _digest_of(again) == _digest_of(state), "state_dict after load_state_dict differs from it"
    )
    require(
        _same(subject.learn(restored, groups(size), 9), subject.learn(agent, groups(size), 9)),
        "a restored agent does not continue like the one that was saved",
    )
    written = subject.call("context()", restored.context)
    require(isinstance(written, Mapping), f"context() is a {type(written).__name__}, not a mapping")
    return (
        f"3 updates, {len(state)} entries, resumed identically; context of {len(written)} entries"
    )


def _through_a_file(subject: MethodSubject, agent: Agent) -> State:
    import torch

    buffer = io.BytesIO()
    torch.save(subject.call("state_dict()", agent.state_dict), buffer)
    buffer.seek(0)
    state: State = torch.load(buffer, weights_only=True)
    return state


def _digest_of(state: State) -> str:
    return json.dumps(plain(state), sort_keys=True)


def errors(subject: MethodSubject) -> str:
    """Attempts without a verdict are not trained on, and do no harm."""
    policy, agent = subject.agent()
    size = subject.loaded().group_size
    subject.learn(agent, groups(size, Stop.ERROR), 0, alone=True)
    learned = sum(map(len, policy.updates))
    require(learned == 0, f"{learned} examples were made from attempts that have no verdict")
    mixed = [*groups(size)[:2], *groups(size, Stop.ERROR)[2:]]
    subject.learn(agent, mixed, 1)
    return "no example from attempts whose environment failed; mixed batches learn"


def any_text(subject: MethodSubject) -> str:
    """Responses and feedback with any text are trained on, saved and shown."""
    _, agent = subject.agent(_odd)
    size = subject.loaded().group_size
    for update in range(len(ODD)):
        subject.learn(agent, groups(size, texts=ODD[update:] + ODD[:update]), update)
    state = _through_a_file(subject, agent)
    subject.call("load_state_dict", lambda: subject.agent()[1].load_state_dict(state))
    json.dumps(plain(subject.call("context()", agent.context)))
    return f"{', '.join(ODD_TEXTS)} (at most {_LONGEST} characters each)"


METHOD_PROPERTIES: Mapping[str, Callable[[MethodSubject], str]] = {
    "options": options,
    "act": answers,
    "repeatable": repeatable,
    "examples": examples,
    "saved": saved,
    "errors": errors,
    "any text": any_text,
}


if __name__ == "__main__":
    _, asked, given = sys.argv
    print(digest(MethodSubject(asked, options=json.loads(given))))
