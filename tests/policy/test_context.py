"""At the limit of the context everything fits; one token more is shed, dropped or named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from resd_bench.env import Reply, TextEnv
from resd_bench.errors import UsageError
from resd_bench.jobs.summary import train_metrics
from resd_bench.objective import TokenBatch
from resd_bench.parsing import visible_answer
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines.base import Generated
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.types import (
    Completion,
    Example,
    Feedback,
    Messages,
    Sampling,
    Split,
    Stop,
    Task,
    user,
)
from tests.policy import families

NEW = 5
SAMPLING = Sampling(max_new_tokens=NEW)


def policy(limit: int, engine: Any = "auto", name: str = "qwen3", **options: Any) -> LMPolicy:
    model = families.model(name, max_position_embeddings=limit)
    config = PolicyConfig(learning_rate=0.01, warmup_updates=0, engine=engine, **options)
    return LMPolicy(model, families.tokenizer(name), config)


def prompt_of(subject: LMPolicy, tokens: int) -> Messages:
    """A chat of exactly this many tokens."""
    bare = len(subject.codec.prompt_ids(user("")))
    chat = user("7" * (tokens - bare))
    assert len(subject.codec.prompt_ids(chat)) == tokens
    return chat


def likelihood(batch: TokenBatch) -> Tensor:
    found = batch.student_logits.log_softmax(-1).gather(-1, batch.token_ids[..., None])[..., 0]
    return -(found * batch.mask).sum(-1)


@pytest.mark.parametrize("engine", ["fast", "hf"])
def test_a_prompt_at_exactly_the_limit_is_answered_and_one_token_more_is_not(engine: str) -> None:
    subject = policy(60, engine)
    fits, exceeds = prompt_of(subject, 60 - NEW), prompt_of(subject, 61 - NEW)
    wide = policy(100, engine)
    (made,), (missed,) = subject.sample([fits, exceeds], n=1, sampling=SAMPLING, purpose="rollout")
    assert missed == Completion("", stop=Stop.LENGTH)
    (expected,) = wide.sample([fits], n=1, sampling=SAMPLING, purpose="rollout")
    assert made == expected[0]
    assert 1 <= len(made.token_ids) <= NEW
    metrics = subject.update([], likelihood, batch_size=1)
    assert metrics["policy/overlong_prompts"] == 1


def test_where_no_first_prompt_fits_the_limit_and_the_flag_are_named() -> None:
    subject = policy(60)
    chat = prompt_of(subject, 61 - NEW)
    with pytest.raises(UsageError, match=r"55 tokens that 5 .* of 60 .*has 56.*--max-new-tokens"):
        subject.sample([chat], n=1, sampling=SAMPLING, purpose="rollout")
    subject.sample([prompt_of(subject, 50)], n=1, sampling=SAMPLING, purpose="rollout")
    ((late,),) = subject.sample([chat], n=1, sampling=SAMPLING, purpose="reflection")
    assert late.stop is Stop.LENGTH
    assert subject.sample([], n=1, sampling=SAMPLING, purpose="rollout") == []


def test_an_answer_that_leaves_no_room_for_any_prompt_is_named() -> None:
    with pytest.raises(UsageError, match=r"60 new tokens .* context of 60 .*--max-new-tokens"):
        policy(60).sample([], n=1, sampling=Sampling(max_new_tokens=60), purpose="rollout")


def test_an_example_at_exactly_the_limit_is_trained_and_one_token_more_is_not() -> None:
    subject = policy(60)
    answer = Completion("", tuple(range(5, 15)))
    fits = Example(prompt_of(subject, 50), answer)
    exceeds = Example(prompt_of(subject, 51), answer)
    metrics = subject.update([fits, exceeds], likelihood, batch_size=2)
    assert metrics["policy/examples"] == 1
    assert metrics["policy/overlong_examples"] == 1
    assert metrics["policy/tokens"] == 60


def kept(subject: LMPolicy, example: Example) -> tuple[int, int, Any]:
    """Length of the teacher's prompt that was used, its number, and the metrics of an update."""
    row, number = subject.row(example)
    assert row.teacher_prompt is not None
    return len(row.teacher_prompt), number, subject.update([example], _teach, batch_size=1)


def _teach(batch: TokenBatch) -> Tensor:
    assert batch.teacher_logits is not None
    return (batch.student_logits - batch.teacher_logits).square().mean((-1, -2))


def test_the_first_teacher_prompt_that_fits_is_used_and_what_it_shed_is_counted() -> None:
    subject = policy(60)
    subject.use_teacher("frozen", 0.0)
    answer = Completion("", tuple(range(5, 15)))
    longer = [prompt_of(subject, n) for n in (50, 51, 52)]
    shortest = prompt_of(subject, 40)
    whole = Example(user("a"), answer, longer[0], shorter_teachers=(shortest,))
    length, shed, metrics = kept(subject, whole)
    assert (length, shed) == (50, 0)
    assert metrics["policy/shortened_teacher_prompts"] == 0
    cut = replace(whole, teacher_messages=longer[2], shorter_teachers=(longer[1], shortest))
    length, shed, metrics = kept(subject, cut)
    assert (length, shed) == (40, 2)
    assert metrics["policy/shortened_teacher_prompts"] == 1
    assert metrics["policy/shed_sections"] == 2
    assert metrics["policy/examples"] == 1


def test_an_example_whose_shortest_teacher_prompt_does_not_fit_is_dropped_and_counted() -> None:
    subject = policy(60)
    subject.use_teacher("frozen", 0.0)
    hopeless = Example(
        user("a"),
        Completion("", tuple(range(5, 15))),
        prompt_of(subject, 58),
        shorter_teachers=(prompt_of(subject, 51),),
    )
    metrics = subject.update([hopeless], _teach, batch_size=1)
    assert metrics["policy/overlong_examples"] == 1
    assert metrics["policy/shortened_teacher_prompts"] == 0


def test_truncation_and_unclosed_thinking_are_counted_until_the_next_update() -> None:
    subject = policy(100, name="qwen3-thinking")
    (group,) = subject.sample([user("a")], n=3, sampling=SAMPLING, purpose="rollout")
    cut = [one for one in group if one.stop is Stop.LENGTH]
    open_ended = sum(subject.codec.left_thinking(one.text) for one in cut)
    assert cut
    state = subject.state_dict()
    metrics = subject.update([], likelihood, batch_size=1)
    assert metrics["policy/truncated_completions"] == len(cut)
    assert metrics["policy/unclosed_thinking"] == open_ended > 0
    again = policy(100, name="qwen3-thinking")
    again.load_state_dict(state)
    metrics = again.update([], likelihood, batch_size=1)
    assert metrics["policy/truncated_completions"] == len(cut)
    subject.sample([user("a")], n=3, sampling=SAMPLING, purpose="evaluation")
    assert subject.update([], likelihood, batch_size=1)["policy/truncated_completions"] == 0


def test_an_answer_says_itself_what_of_it_is_thinking_where_the_template_opened_it() -> None:
    (group,) = policy(100, name="qwen3-thinking").sample(
        [user("a")], n=3, sampling=SAMPLING, purpose="rollout"
    )
    assert all(one.text.startswith("<think>") for one in group)
    unfinished = [one for one in group if "</think>" not in one.text]
    assert unfinished
    assert not any(visible_answer(one.text) for one in unfinished)


class Silence(TextEnv):
    """Goes on as long as something is said; saying nothing wins."""

    name = "silence"
    max_turns = 20

    def tasks(self, split: Split) -> Sequence[Task]:
        return [Task(f"{split}-{n}", split, "7" * length) for n, length in enumerate((1, 100))]

    def reply(self, task: Task, action: str) -> Reply:
        return Reply("7" * 8) if action else Reply(feedback=Feedback(1.0, True, 1.0))


@pytest.mark.parametrize("engine", ["fast", "hf"])
def test_no_turn_is_taken_that_the_context_has_no_room_for(engine: str) -> None:
    subject = policy(90, engine)
    groups = roll_out(
        subject.sample,
        EnvPool(Silence),
        Silence().tasks("train"),
        n=1,
        sampling=SAMPLING,
        purpose="rollout",
        ledger=subject.ledger,
        seed=0,
    )
    grows, overlong = (group.trajectories[0] for group in groups)
    for attempt in (grows, overlong):
        assert (attempt.stop, attempt.feedback.success) == (Stop.LENGTH, False)
        assert (attempt.feedback.reward, attempt.feedback.kind) == (0.0, "truncated")
        assert attempt.unanswered
        assert all(turn.completion.token_ids for turn in attempt.turns)
    assert 1 <= len(grows.turns) < Silence.max_turns
    assert not overlong.turns
    assert subject.ledger.env_steps == len(grows.turns)
    metrics = train_metrics(groups)
    assert (metrics["train/truncated"], metrics["train/unanswered"]) == (1.0, 1.0)


def test_an_answer_without_a_token_was_not_sampled_whatever_the_template_opens() -> None:
    subject = policy(100, name="qwen3-thinking")
    made = subject._completion(Generated((), (), Stop.LENGTH))
    assert not made.sampled
    assert subject._completion(Generated((), (), Stop.EOS)).sampled
