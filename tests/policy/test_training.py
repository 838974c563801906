"""The optimiser step and the policy around it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from resd_bench.budget import Ledger
from resd_bench.errors import UsageError
from resd_bench.objective import TokenBatch
from resd_bench.policy import trainer
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.micro_batches import BatchLimits, TokenizedExample, micro_batches
from resd_bench.types import Completion, Example, Sampling, Stop, user
from tests.policy import tiny

WIDE = BatchLimits(1 << 20, 1 << 30)


def row(prompt: int, response: int, teacher: int | None = None, seed: int = 0) -> TokenizedExample:
    lengths = [prompt, response, teacher or 1]
    p, r, t = tiny.prompts(lengths, seed=seed)
    return TokenizedExample(p, r, None if teacher is None else t, [], 0.5, 1.0 + seed)


def rows() -> list[TokenizedExample]:
    shapes = [(5, 3), (20, 1), (2, 17), (9, 9), (40, 6), (1, 1)]
    return [row(p, r, teacher=p + 7, seed=i) for i, (p, r) in enumerate(shapes)]


def reverse_kl(batch: TokenBatch) -> Tensor:
    """Mean over tokens of KL(student || teacher), weighted."""
    assert batch.teacher_logits is not None
    p, q = batch.student_logits.log_softmax(-1), batch.teacher_logits.log_softmax(-1)
    per_token = (p.exp() * (p - q)).sum(-1) * batch.mask
    return batch.weights * per_token.sum(-1) / batch.mask.sum(-1).clamp(min=1)


def likelihood(batch: TokenBatch) -> Tensor:
    """Mean negative log-likelihood, weighted."""
    logprobs = batch.student_logits.log_softmax(-1).gather(-1, batch.token_ids[..., None])[..., 0]
    return batch.weights * -(logprobs * batch.mask).sum(-1) / batch.mask.sum(-1).clamp(min=1)


def gradient(
    model: Any, batches: list[list[TokenizedExample]], teacher: Any
) -> tuple[float, Tensor]:
    model.zero_grad()
    loss = trainer.accumulate(
        batches, lambda b: trainer.token_batch(model, teacher, b), reverse_kl, batch_size=8
    )
    return loss, torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_response_logits_equal_a_plain_forward_pass(family: str) -> None:
    model = tiny.model(family)
    made = trainer.response_logits(model, [r.prompt for r in rows()], [r.response for r in rows()])
    for one, logits in zip(rows(), made, strict=True):
        whole = model(torch.tensor([[*one.prompt, *one.response]])).logits[0]
        expected = whole[len(one.prompt) - 1 : -1]
        torch.testing.assert_close(logits[: len(one.response)], expected, atol=2e-5, rtol=1e-5)
    assert made.dtype == torch.float32


def test_rescaled_logits_take_the_whole_forward_pass() -> None:
    model = tiny.model()
    plain = trainer.response_logits(model, [[5, 6]], [[7, 8]])
    model.config.logit_scale = 1.0
    torch.testing.assert_close(trainer.response_logits(model, [[5, 6]], [[7, 8]]), plain)


@pytest.mark.parametrize("tokens", [1, 60, 200])
def test_micro_batched_gradients_equal_those_of_one_batch(tokens: int) -> None:
    model, teacher = tiny.model(initializer_range=0.1), tiny.model(seed=1, initializer_range=0.1)
    model, teacher = model.double(), teacher.double()
    whole, expected = gradient(model, [rows()], teacher)
    split = list(micro_batches(rows(), 260, BatchLimits(tokens, 1 << 30)))
    assert len(split) > 1
    loss, found = gradient(model, split, teacher)
    assert loss == pytest.approx(whole, rel=1e-6)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_padding_never_changes_a_loss() -> None:
    model, teacher = tiny.model(), tiny.model(seed=1)
    together = reverse_kl(trainer.token_batch(model, teacher, rows()))
    for one, loss in zip(rows(), together, strict=True):
        alone = reverse_kl(trainer.token_batch(model, teacher, [one]))
        torch.testing.assert_close(alone[0], loss, atol=1e-4, rtol=1e-5)


def test_unknown_behaviour_is_nan_and_padding_is_not() -> None:
    known = TokenizedExample([5], [6, 7], None, [-1.0, -2.0], 0.0, 1.0)
    unknown = TokenizedExample([5], [6], None, [], 0.0, 1.0)
    batch = trainer.token_batch(tiny.model(), None, [known, unknown])
    assert batch.behaviour_logprobs[0].tolist() == [-1.0, -2.0]
    assert bool(batch.behaviour_logprobs[1, 0].isnan())
    assert float(batch.behaviour_logprobs[1, 1]) == 0.0
    assert batch.mask.tolist() == [[1.0, 1.0], [1.0, 0.0]]
    assert batch.teacher_logits is None


def test_only_the_students_weights_get_a_gradient() -> None:
    model, teacher = tiny.model(), tiny.model(seed=1)
    gradient(model, [rows()], teacher)
    assert all(p.grad is None for p in teacher.parameters())


def test_warm_up_counts_from_zero_as_in_the_release() -> None:
    rates = [trainer.warmed_up(2.0, n, 10, True) for n in range(13)]
    assert rates == pytest.approx([0.2 * min(n, 10) for n in range(13)])
    assert trainer.warmed_up(2.0, 0, 10, False) == pytest.approx(0.2)
    assert trainer.warmed_up(2.0, 0, 0, True) == 2.0


def step(model: Any, objective: Any, clip: float = 1.0, rate: float = 0.01) -> trainer.UpdateResult:
    return trainer.train_step(
        model,
        tiny.model(seed=1),
        trainer.make_optimiser(model, 0.01),
        rows(),
        objective,
        batch_size=8,
        learning_rate=rate,
        grad_clip=clip,
        limits=WIDE,
    )


def test_a_step_is_that_of_adamw_on_the_clipped_gradient() -> None:
    model, reference = tiny.model(), tiny.model()
    result = step(model, reverse_kl)
    _, flat = gradient(reference, [rows()], tiny.model(seed=1))
    assert result.grad_norm == pytest.approx(float(flat.norm()), rel=1e-4)
    torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
    torch.optim.AdamW(reference.parameters(), lr=0.01, weight_decay=0.01).step()
    for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4)


def test_a_step_without_finite_gradient_is_skipped() -> None:
    model, before = tiny.model(), tiny.model()
    result = step(model, lambda batch: reverse_kl(batch) * float("nan"))
    assert not result.stepped
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True)
    )


def test_an_objective_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="objective"):
        step(tiny.model(), lambda batch: reverse_kl(batch).sum())


def test_autocast_leaves_weights_and_logits_in_float32() -> None:
    model, plain = tiny.model(), tiny.model()
    losses, seen = [], []

    def objective(batch: TokenBatch) -> Tensor:
        seen.append(batch.student_logits.dtype)
        return likelihood(batch)

    for one, cast in ((model, True), (plain, False)):
        result = trainer.train_step(
            one, None, trainer.make_optimiser(one, 0.0), [row(9, 5)], objective,
            batch_size=1, learning_rate=0.0, grad_clip=1.0, limits=WIDE, autocast=cast,
        )  # fmt: skip
        losses.append(result.loss)
    assert seen == [torch.float32] * 2
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert model.dtype == torch.float32


# The policy


def policy(**options: Any) -> LMPolicy:
    config = PolicyConfig(**({"learning_rate": 0.01, "warmup_updates": 2} | options))
    return LMPolicy(tiny.model(initializer_range=0.1), tiny.tokenizer(), config)


def example(text: str = "abc", answer: str = "xy", teacher: str | None = "hint") -> Example:
    ids = (*tiny.tokenizer().encode(answer, add_special_tokens=False), 1)
    context = None if teacher is None else user(teacher + text)
    return Example(user(text), Completion(answer, ids), context)


BATCH = [example("abc", "xy"), example("a longer one", "z"), example("q", "answer")]


def weights(of: Any) -> list[Tensor]:
    return [p.detach().clone() for p in of.parameters()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_first_update_of_a_run_has_learning_rate_zero() -> None:
    subject = policy()
    before = weights(subject.model)
    first = subject.update([example(teacher=None)], likelihood, batch_size=1)
    assert first["policy/lr"] == 0.0
    assert same(before, weights(subject.model))
    assert subject.update([example(teacher=None)], likelihood, batch_size=1)["policy/lr"] == 0.005
    assert not same(before, weights(subject.model))


def test_an_update_without_examples_trains_nothing_and_counts() -> None:
    subject = policy(warmup_updates=0)
    before = weights(subject.model)
    metrics = subject.update([], likelihood, batch_size=4)
    assert metrics["policy/loss"] == 0.0
    assert subject.updates == subject.ledger.updates == 1
    assert same(before, weights(subject.model))
    assert not subject.optimiser.state


def test_empty_completions_are_left_out_and_counted() -> None:
    silent = Example(user("abc"), Completion("", stop=Stop.LENGTH))
    alone, beside = policy(warmup_updates=0), policy(warmup_updates=0)
    alone.update([example(teacher=None)], likelihood, batch_size=2)
    metrics = beside.update([silent, example(teacher=None)], likelihood, batch_size=2)
    assert metrics["policy/empty_examples"] == 1
    assert metrics["policy/examples"] == 1
    assert same(weights(alone.model), weights(beside.model))


def test_examples_beyond_the_context_are_dropped_and_counted() -> None:
    subject = policy(context_limit=40)
    subject.use_teacher("frozen", 0.0)
    batch = [example(), example("a" * 60), example(teacher="h" * 60)]
    metrics = subject.update(batch, reverse_kl, batch_size=3)
    assert metrics["policy/overlong_examples"] == 2
    assert metrics["policy/examples"] == 1


def test_the_loss_divides_by_the_batch_size_given() -> None:
    one = policy().update([example(teacher=None)], likelihood, batch_size=1)
    four = policy().update([example(teacher=None)], likelihood, batch_size=4)
    assert one["policy/loss"] == pytest.approx(4 * four["policy/loss"])


def test_the_moving_teacher_averages_exponentially_and_the_frozen_one_stays() -> None:
    moving, frozen = policy(warmup_updates=0), policy(warmup_updates=0)
    moving.use_teacher("ema", 0.1)
    frozen.use_teacher("frozen", 0.1)
    expected = weights(moving.model)
    start = weights(frozen.model)
    for _ in range(3):
        moving.update(BATCH, reverse_kl, batch_size=3)
        frozen.update(BATCH, reverse_kl, batch_size=3)
        expected = [0.9 * e + 0.1 * w for e, w in zip(expected, weights(moving.model), strict=True)]
    assert moving.teacher is not None
    assert frozen.teacher is not None
    for mine, theirs in zip(moving.teacher.model.parameters(), expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)
    assert same(start, weights(frozen.teacher.model))
    assert not same(start, weights(frozen.model))


def test_a_small_step_of_the_teacher_is_not_lost_in_bfloat16() -> None:
    model = tiny.model().to(torch.bfloat16)
    subject = LMPolicy(model, tiny.tokenizer(), PolicyConfig())
    subject.use_teacher("ema", 1e-4)
    assert subject.teacher is not None
    before = weights(subject.teacher.model)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5)
    subject.teacher.follow(model)
    assert all((b != a).any() for a, b in zip(before, weights(subject.teacher.model), strict=True))
    assert subject.teacher.model.dtype == torch.float32


def test_the_teacher_stays_where_a_step_was_skipped() -> None:
    subject = policy(warmup_updates=0)
    subject.use_teacher("ema", 0.5)
    with torch.no_grad():
        next(subject.model.parameters()).add_(0.1)
    assert subject.teacher is not None
    before = weights(subject.teacher.model)
    subject.update(BATCH, lambda b: reverse_kl(b) * float("inf"), batch_size=3)
    assert subject.skipped_steps == 1
    assert same(before, weights(subject.teacher.model))


def test_a_rate_outside_its_range_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="EMA rate 0"):
        policy().use_teacher("ema", 0.0)


def test_privileged_context_without_a_teacher_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="use_teacher"):
        policy().update([example()], reverse_kl, batch_size=1)


def test_a_restored_policy_goes_on_bit_for_bit() -> None:
    first = policy()
    first.use_teacher("ema", 0.05)
    for _ in range(2):
        first.update(BATCH, reverse_kl, batch_size=3)
    saved = copy.deepcopy(first.state_dict())
    for _ in range(2):
        last = first.update(BATCH, reverse_kl, batch_size=3)
    second = LMPolicy(tiny.model(seed=9), tiny.tokenizer(), first.config)
    second.load_state_dict(saved)
    for _ in range(2):
        again = second.update(BATCH, reverse_kl, batch_size=3)
    assert again == last
    assert first.teacher is not None
    assert second.teacher is not None
    assert same(weights(first.model), weights(second.model))
    assert same(weights(first.teacher.model), weights(second.teacher.model))
    assert first.updates == second.updates == 4


def test_a_state_survives_being_written_and_is_not_moved_by_training(tmp_path: Any) -> None:
    subject = policy(warmup_updates=0)
    subject.use_teacher("frozen", 0.0)
    subject.update(BATCH, reverse_kl, batch_size=3)
    state = subject.state_dict()
    torch.save(state, tmp_path / "state.pt")
    kept = weights(subject.model)
    subject.update(BATCH, reverse_kl, batch_size=3)
    subject.load_state_dict(state)
    assert same(kept, weights(subject.model))
    subject.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert same(kept, weights(subject.model))


def test_the_state_of_another_model_is_refused() -> None:
    other = LMPolicy(tiny.model("llama"), tiny.tokenizer())
    with pytest.raises(ValueError, match="another model"):
        policy().load_state_dict(other.state_dict())


def test_the_same_seed_gives_the_same_run() -> None:
    ends = []
    for _ in range(2):
        subject = policy(warmup_updates=0)
        prompts = [user("abc"), user("something longer")]
        for seed in range(2):
            sampling = Sampling(max_new_tokens=12, seed=seed)
            made = subject.sample(prompts, n=2, sampling=sampling, purpose="rollout")
            batch = [Example(p, c) for p, group in zip(prompts, made, strict=True) for c in group]
            subject.update(batch, likelihood, batch_size=4)
        ends.append(weights(subject.model))
    assert same(*ends)


def test_samples_are_charged_under_their_purpose() -> None:
    subject = policy()
    prompts = [user("abc"), user("something longer")]
    lengths = [len(subject.codec.prompt_ids(p)) for p in prompts]
    sampling = Sampling(max_new_tokens=9)
    made = subject.sample(prompts, n=3, sampling=sampling, purpose="rollout")
    new = sum(len(c.token_ids) for group in made for c in group)
    assert subject.ledger.sampled_tokens == new
    assert subject.ledger.flops == 2.0 * subject.parameters * (sum(lengths) + new)
    subject.sample(prompts, n=1, sampling=sampling, purpose="reflection")
    spent = copy.copy(subject.ledger)
    assert spent.reflection_tokens > 0
    subject.sample(prompts, n=1, sampling=sampling, purpose="evaluation")
    assert subject.ledger.evaluation_tokens > 0
    assert subject.ledger.flops == spent.flops
    assert subject.ledger.generated_tokens == spent.generated_tokens


def test_training_is_charged_by_tokens_read() -> None:
    subject = policy()
    subject.use_teacher("frozen", 0.0)
    subject.update([example()], reverse_kl, batch_size=1)
    prompt = len(subject.codec.prompt_ids(user("abc"))) + 3
    context = len(subject.codec.prompt_ids(user("hintabc"))) + 3
    expected = Ledger(updates=1, trained_tokens=prompt, scored_tokens=context)
    expected.flops = subject.parameters * (6.0 * prompt + 2.0 * context)
    assert subject.ledger == expected


def test_the_text_of_a_completion_is_its_tokens() -> None:
    subject = policy()
    sampling = Sampling(max_new_tokens=9)
    (made,) = subject.sample([user("abc")], n=4, sampling=sampling, purpose="rollout")
    for one in made:
        assert one.text == subject.codec.decode(one.token_ids)
        assert len(one.logprobs) == len(one.token_ids)


def test_sampled_logprobs_are_those_that_training_sees() -> None:
    subject = policy()
    sampling = Sampling(max_new_tokens=9)
    (made,) = subject.sample([user("abc")], n=4, sampling=sampling, purpose="rollout")
    seen: list[Tensor] = []

    def objective(batch: TokenBatch) -> Tensor:
        found = batch.student_logits.log_softmax(-1).gather(-1, batch.token_ids[..., None])[..., 0]
        seen.append(((found - batch.behaviour_logprobs) * batch.mask).detach())
        return likelihood(batch)

    subject.update([Example(user("abc"), one) for one in made], objective, batch_size=4)
    assert float(torch.cat(seen).abs().max()) < 1e-4


def test_an_overlong_prompt_is_answered_by_silence_and_leaves_the_others_alone() -> None:
    sampling = Sampling(max_new_tokens=20, seed=3)
    prompts = [user("a" * 50), user("b"), user("c")]
    short, wide = policy(context_limit=60), policy()
    cut = short.sample(prompts, n=2, sampling=sampling, purpose="rollout")
    full = wide.sample(prompts, n=2, sampling=sampling, purpose="rollout")
    assert cut[0] == [Completion("", stop=Stop.LENGTH)] * 2
    assert [[c.token_ids for c in g] for g in cut[1:]] == [
        [c.token_ids for c in g] for g in full[1:]
    ]
    assert short.update([], likelihood, batch_size=1)["policy/overlong_prompts"] == 1
    assert short.update([], likelihood, batch_size=1)["policy/overlong_prompts"] == 0
    with pytest.raises(UsageError, match="--max-new-tokens"):
        short.sample(prompts, n=1, sampling=Sampling(max_new_tokens=60), purpose="rollout")


def test_the_engine_follows_the_model_and_the_wish() -> None:
    assert type(policy().engine).__name__ == "FastEngine"
    assert type(policy(engine="hf").engine).__name__ == "HfEngine"
    windowed = tiny.model(use_sliding_window=True, sliding_window=4, max_window_layers=0)
    assert type(LMPolicy(windowed, tiny.tokenizer()).engine).__name__ == "HfEngine"
    with pytest.raises(UsageError, match="--engine hf"):
        LMPolicy(windowed, tiny.tokenizer(), PolicyConfig(engine="fast"))


def test_the_dialect_is_the_one_the_model_names() -> None:
    model = tiny.model()
    assert LMPolicy(model, tiny.tokenizer()).dialect == "full"
    model.config.resd_dialect = "compact"
    assert LMPolicy(model, tiny.tokenizer()).dialect == "compact"
    assert LMPolicy(model, tiny.tokenizer(), PolicyConfig(dialect="full")).dialect == "full"
