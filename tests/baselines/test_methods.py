"""The methods as agents: what they ask, what they train on, what they remember."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest

from resd_baselines.ace import ACE
from resd_baselines.base import BASE, make_examples, scored_attempts
from resd_baselines.grpo import DAPO, DR_GRPO, GRPO
from resd_baselines.hero import HERO
from resd_baselines.opsd import OPSD
from resd_baselines.playbook import MISTAKES
from resd_baselines.prompts import PACK
from resd_baselines.resd import RESD, RESDAgent
from resd_baselines.rlcsd import RLCSD
from resd_baselines.rlsd import RLSD
from resd_baselines.self_distillation import SDPO, SDPO_SS
from resd_baselines.sft import SFT
from resd_bench import errors, plugins
from resd_bench.agent import MethodSpec
from resd_bench.config import method_config
from resd_bench.options import field_help
from resd_bench.testing import ScriptedPolicy, check_agent
from resd_bench.types import (
    Completion,
    Dialect,
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

SPECS = (BASE, RESD, SDPO, SDPO_SS, SFT, GRPO, DR_GRPO, DAPO, RLSD, RLCSD, OPSD, ACE, HERO)
BY_NAME = {spec.name: spec for spec in SPECS}
EVERY_METHOD = pytest.mark.parametrize("spec", SPECS, ids=list(BY_NAME))


def compact_model(prompt: str, seed: int, j: int) -> str:
    """Answers each compact prompt in its form."""
    if prompt.endswith("<reflect>"):
        return "cause: it stops early\nlesson: keep going\nharmful: 1"
    if prompt.endswith("<lesson>"):
        return "add: keep going"
    return "helpful: 1"


def full_model(prompt: str, seed: int, j: int) -> str:
    """Answers every full prompt with all the fields that any asks for."""
    add = {"type": "ADD", "section": "others", "content": "keep going"}
    fields = {"key_insight": "keep going", "bullet_tags": [{"id": "misc-00001", "tag": "helpful"}]}
    return "hm</think>" + json.dumps({"reasoning": "r", "operations": [add], **fields})


MODELS: dict[Dialect, Callable[[str, int, int], str]] = {
    "compact": compact_model,
    "full": full_model,
}


def make(
    spec: MethodSpec, dialect: Dialect = "compact", **options: Any
) -> tuple[ScriptedPolicy, Any]:
    policy = ScriptedPolicy(MODELS[dialect], dialect)
    return policy, spec.build(policy, spec.config(**options))


def step(update: int = 0) -> Step:
    return Step(update, 0, update, Sampling(seed=100 + update, max_new_tokens=500), seed=update)


def attempt(
    task_id: str, success: bool, *, text: str = "", feedback: str = "too short", reward: float = -1
) -> Trajectory:
    words = text or ("good" if success else "bad")
    said = "" if success else feedback
    verdict = Feedback(float(success) if reward < 0 else reward, success, float(success), text=said)
    task = Task(task_id, "train", f"question {task_id}", {"gold": "secret"})
    completion = Completion(words, tuple(map(ord, words)), (-0.5,) * len(words))
    return Trajectory(task, (Turn(user(task.prompt), completion),), verdict)


def group(*trajectories: Trajectory) -> Group:
    return Group(trajectories[0].task, trajectories)


def singles(*outcomes: bool) -> list[Group]:
    return [group(attempt(f"t{i}", outcome)) for i, outcome in enumerate(outcomes)]


def teacher_texts(policy: ScriptedPolicy) -> list[str]:
    return [e.teacher_messages[-1].content for e in policy.updates[-1] if e.teacher_messages]


@EVERY_METHOD
def test_a_method_keeps_the_contract(spec: MethodSpec) -> None:
    check_agent(spec)
    assert plugins.method(spec.name) is spec


@EVERY_METHOD
def test_every_option_has_help_and_every_preset_is_valid(spec: MethodSpec) -> None:
    assert set(field_help(spec.config)) == {f.name for f in fields(spec.config)}
    for options in spec.presets.values():
        method_config(spec.config, options, spec.name)


@EVERY_METHOD
def test_the_same_seed_makes_the_same_calls_and_state_goes_on_where_it_was(
    spec: MethodSpec,
) -> None:
    batches = [
        singles(False, True, False),
        singles(True, False, False),
        singles(False, False, True),
    ]
    policy, agent = make(spec)
    for number, groups in enumerate(batches[:2]):
        agent.learn(groups, step(number))
    again, restored = make(spec)
    restored.load_state_dict(json.loads(json.dumps(agent.state_dict())))
    policy.calls.clear()
    assert restored.learn(batches[2], step(2)) == agent.learn(batches[2], step(2))
    assert restored.context() == agent.context()
    assert again.calls == policy.calls
    assert again.updates[-1:] == policy.updates[2:]
    assert restored.state_dict() == agent.state_dict()
    json.dumps(agent.context())


@EVERY_METHOD
def test_attempts_the_environment_broke_are_not_learned_from(spec: MethodSpec) -> None:
    policy, agent = make(spec)
    broken = replace(attempt("t0", True), stop=Stop.ERROR)
    metrics = agent.learn([group(broken), group(replace(broken, turns=()))], step())
    assert metrics["signal/attempts"] == 0
    assert not any(policy.updates)
    assert not any(call.prompts for call in policy.calls)


@EVERY_METHOD
def test_no_prompt_or_example_shows_what_the_verifier_needs(spec: MethodSpec) -> None:
    policy, agent = make(spec)
    agent.learn(singles(True, False), step())
    assert "secret" not in repr(policy.calls) + repr(policy.updates) + repr(agent.context())


def test_the_base_model_learns_nothing() -> None:
    policy, agent = make(BASE)
    assert agent.learn(singles(True, False), step())["signal/success_rate"] == 0.5
    assert policy.updates == [()]
    assert not policy.calls


@pytest.mark.parametrize("dialect", MODELS)
def test_the_first_teacher_prompt_of_resd_already_holds_the_new_lesson(dialect: Dialect) -> None:
    policy, agent = make(RESD, dialect)
    metrics = agent.learn(singles(False), step())
    (text,) = teacher_texts(policy)
    places = [text.index(part) for part in ("question t0", "keep going", "bad", "too short")]
    assert places == sorted(places)
    assert text.count("keep going") > 1, "the playbook and the reflection both say it"
    assert "hm" not in text.replace("them", ""), "thinking is not shown"
    assert metrics["resd/entries"] == 1
    assert metrics["signal/examples"] == 1


def test_text_of_the_method_is_charged_as_reflection_with_seeds_of_its_own() -> None:
    policy, agent = make(RESD)
    agent.learn(singles(False, True), step())
    assert {call.purpose for call in policy.calls} == {"reflection"}
    assert len({call.sampling.seed for call in policy.calls}) == 3
    assert {call.sampling.max_new_tokens for call in policy.calls} == {500}


def test_the_solution_buffer_helps_a_later_failure_at_the_same_task() -> None:
    policy, agent = make(RESD)
    agent.learn([group(attempt("t", True, text="plan</think>winning"))], step(0))
    agent.learn([group(attempt("t", False))], step(1))
    (text,) = teacher_texts(policy)
    assert "<solution>\nwinning\n" in text
    assert "too short" in text, "the paper keeps feedback beside a solution"
    policy, agent = make(RESD, use_solution_buffer=False)
    agent.learn([group(attempt("t", True))], step(0))
    agent.learn([group(attempt("t", False))], step(1))
    assert "<solution>" not in teacher_texts(policy)[0]


def test_the_release_drops_feedback_beside_a_solution_and_freezes_the_teacher() -> None:
    policy, agent = make(RESD, **RESD.presets["release"])
    agent.learn([group(attempt("t", True), attempt("t", False))], step())
    own, peer = teacher_texts(policy)
    assert "<solution>" in own
    assert "<solution>\ngood" in peer
    assert "too short" not in peer
    assert policy.teacher == ("frozen", 1e-4)


def test_ablations_remove_their_section_and_nothing_else() -> None:
    sections = {
        "use_reflection": "<reflection>",
        "use_playbook": "<playbook>",
        "use_feedback": "<feedback>",
        "use_previous_trial": "<attempt>",
    }
    for option, gone in sections.items():
        policy, agent = make(RESD, "compact", **{option: False})
        agent.learn(singles(False), step())
        (text,) = teacher_texts(policy)
        assert [s for s in sections.values() if s not in text] == [gone]


def test_without_reflection_and_playbook_resd_generates_no_text() -> None:
    policy, agent = make(RESD, use_reflection=False, use_playbook=False)
    agent.learn(singles(False, True), step())
    assert not policy.calls
    assert len(teacher_texts(policy)) == 2


def test_the_playbook_alone_gives_no_example() -> None:
    policy, agent = make(RESD, use_reflection=False, use_feedback=False)
    metrics = agent.learn(singles(False), step())
    assert metrics["resd/entries"] == 1
    assert policy.updates == [()]
    assert metrics["signal/examples"] == 0


def test_success_rate_weights_go_with_the_examples() -> None:
    policy, agent = make(RESD)
    agent.learn(singles(True, False, False, False), step())
    assert [example.weight for example in policy.updates[-1]] == pytest.approx(
        [2.0, 2 / 3, 2 / 3, 2 / 3]
    )
    policy, agent = make(RESD, success_rate_weighting=False)
    agent.learn(singles(True, False), step())
    assert {e.weight for e in policy.updates[-1]} == {1.0}


def test_the_context_of_resd_tells_births_tags_and_evictions() -> None:
    _, agent = make(RESD)
    assert isinstance(agent, RESDAgent)
    agent.learn(singles(False), step(0))
    agent.learn(singles(False), step(1))
    context = agent.context()
    (entry,) = context["playbook"]
    assert (entry["id"], entry["section"], entry["born"]) == ("err-00001", MISTAKES, 0)
    assert (entry["harmful"], entry["last_used"]) == (1, 1)
    assert context["reflections"][0]["tags"] == {"err-00001": "harmful"}
    assert context["curations"][0]["parsed"]
    for number in (2, 3, 4):
        agent.learn(singles(False), step(number))
    assert agent.context()["evicted"] == ["err-00001"]
    assert agent.context()["playbook"][0]["born"] == 4


@pytest.mark.parametrize("dialect", MODELS)
@pytest.mark.parametrize("text", ["", "{" * 10_000, "\ud800", "nothing", "[" * 50_000, "null"])
def test_hostile_answers_of_the_model_are_survived_and_counted(dialect: Dialect, text: str) -> None:
    policy = ScriptedPolicy(lambda prompt, seed, j: text, dialect)
    agent = RESD.build(policy, RESD.config())
    for number in range(5):
        groups = [group(attempt("t", False, text=text or "x")), group(attempt("u", True))]
        metrics = agent.learn(groups, step(number))
    assert metrics["resd/unparsed_reflections"] == 1
    json.dumps(agent.context())
    json.dumps(agent.state_dict())


def test_sdpo_skips_its_own_successes_and_sdpo_ss_does_not() -> None:
    groups = [group(attempt("a", False), attempt("a", True)), *singles(True, False)]
    policy, agent = make(SDPO)
    assert agent.learn(groups, step())["signal/examples"] == 0.5
    peer, lone = teacher_texts(policy)
    assert "<solution>\ngood" in peer
    assert "too short" not in peer
    assert "<feedback>\ntoo short" in lone
    assert "<attempt>" not in lone
    policy, agent = make(SDPO_SS)
    assert agent.learn(groups, step())["signal/examples"] == 1


def test_sft_imitates_the_latest_success_of_each_task() -> None:
    policy, agent = make(SFT, buffer_size=2)
    agent.learn(singles(False), step(0))
    assert not policy.updates[-1]
    for name, text in (("a", "one"), ("b", "two"), ("a", "three"), ("c", "four")):
        agent.learn([group(attempt(name, True, text=text))], step(1))
    texts = [example.completion.text for example in policy.updates[-1]]
    assert texts == ["three", "four"]
    agent.learn(singles(False), step(2))
    assert len(policy.updates[-1]) == 2


def test_grpo_trains_on_mixed_groups_alone() -> None:
    policy, agent = make(GRPO)
    mixed = group(attempt("a", True), attempt("a", False))
    equal = group(*(attempt("b", False, reward=0.7) for _ in range(7)))
    metrics = agent.learn([mixed, equal], step())
    assert [round(e.advantage, 3) for e in policy.updates[-1]] == [0.707, -0.707]
    assert metrics["grpo/mixed_groups"] == 1
    assert metrics["signal/examples"] == pytest.approx(2 / 9)


def two_turns(success: bool) -> Trajectory:
    first = (Message("system", "be brief"), Message("user", "open the door"))
    said = (*first, Message("assistant", "hm</think>push"), Message("user", "it is locked"))
    turns = (
        Turn(first, Completion("hm</think>push", (1,), (-0.1,))),
        Turn(said, Completion("unlock", (2,), (-0.1,))),
    )
    verdict = Feedback(float(success), success, float(success), text="" if success else "no key")
    return Trajectory(Task("door", "train", "open the door"), turns, verdict)


def test_each_turn_of_an_episode_is_an_example_and_prompts_show_a_transcript() -> None:
    trajectory = two_turns(False)
    assert PACK.attempt(trajectory.turns) == "> push\nit is locked\n> unlock"
    (only,) = scored_attempts([group(trajectory)])
    assert only.prompt == "open the door"
    policy, agent = make(RESD)
    agent.learn([group(trajectory)], step())
    examples = policy.updates[-1]
    assert [example.completion.text for example in examples] == ["hm</think>push", "unlock"]
    for example, turn in zip(examples, trajectory.turns, strict=True):
        assert example.messages == turn.messages
        assert example.teacher_messages is not None
        assert example.teacher_messages[0] == Message("system", "be brief")
        assert "> push\nit is locked\n> unlock" in example.teacher_messages[1].content
        assert example.teacher_messages[2:] == turn.messages[2:]


def test_a_teacher_is_given_as_a_text_or_as_a_conversation_for_each_turn() -> None:
    trajectory = two_turns(False)
    (only,) = scored_attempts([group(trajectory)])
    system, _, *later = trajectory.turns[1].messages
    whole = (user("short"), user("shorter"))
    first, second = make_examples(only, teachers=["the key is below", whole], weight=0.5)
    text = Message("user", "the key is below")
    assert first.teacher_messages == (system, text)
    assert second.teacher_messages == (system, text, *later)
    assert (first.shorter_teachers, second.shorter_teachers) == ((whole[0],), (whole[1],))
    assert (first.weight, second.weight) == (0.5, 0.5)
    assert [e.messages for e in (first, second)] == [t.messages for t in trajectory.turns]


def test_a_teacher_without_a_prompt_gives_no_example_and_no_teacher_gives_one_per_turn() -> None:
    (only,) = scored_attempts([group(two_turns(False))])
    assert make_examples(only, teachers=[]) == []
    assert [e.teacher_messages for e in make_examples(only, advantage=1.0)] == [None, None]
    with pytest.raises(ValueError, match="argument"):
        make_examples(only, teachers=["text", (user("of one turn"),)])
    with pytest.raises(ValueError, match="argument"):
        make_examples(only, teachers=[(user("of one turn"),)])


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (RESD, {"mixture": 1.0}),
        (RESD, {"top_k": 0}),
        (SDPO, {"clip_low": 0.0}),
        (SFT, {"buffer_size": 0}),
    ],
)
def test_impossible_options_are_refused(spec: MethodSpec, options: dict[str, Any]) -> None:
    with pytest.raises(errors.UsageError, match=next(iter(options))):
        method_config(spec.config, options, spec.name)


def test_all_methods_answer_with_their_policy() -> None:
    prompts: Sequence[tuple[Message, ...]] = [user("hello")]
    for spec in SPECS:
        policy, agent = make(spec)
        agent.act(prompts, n=2, sampling=Sampling(), purpose="evaluation")
        assert policy.calls[-1].n == 2
        assert policy.ledger.sampled_tokens == 0
