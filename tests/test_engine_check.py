"""`engines check` finds what is broken in an engine, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from resd_bench.check import check_engine, failures, property_names
from resd_bench.check.engine_properties import ENGINE_PROPERTIES
from resd_bench.check.engine_subject import EngineSubject, expected_logprobs
from resd_bench.check.supervisor import run_property
from resd_bench.cli import main
from resd_bench.errors import UsageError
from resd_bench.policy.engines import registry, server
from resd_bench.policy.engines.base import Generated
from resd_bench.policy.engines.hf import HfEngine
from resd_bench.policy.engines.registry import EngineSetup, EngineSpec
from resd_bench.testing import check_engine as assert_engine
from resd_bench.types import Sampling, Stop
from tests.policy import tiny
from tests.policy.engines.test_server_engine import TinyServer
from tests.policy.engines.test_server_engine import server as tiny_server

served = tiny_server

Batch = list[list[Generated]]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("name", ["fast", "hf"])
def test_our_engines_pass_every_property(name: str, family: str) -> None:
    spec = registry.find_engine(name)
    assert spec is not None
    subject = EngineSubject(name, spec, tiny.model(family))
    verdicts = [run_property(one, prove, subject) for one, prove in ENGINE_PROPERTIES.items()]
    assert failures(verdicts) == ""
    assert {verdict.state for verdict in verdicts} == {"pass"}


@pytest.mark.slow
def test_a_server_of_the_model_passes_and_its_weights_are_not_examined(served: TinyServer) -> None:
    subject = EngineSubject(
        "openai", server.ENGINE, tiny.model(), {"server": served.url, "server_model": "tiny"}
    )
    verdicts = [run_property(one, prove, subject) for one, prove in ENGINE_PROPERTIES.items()]
    assert failures(verdicts) == ""
    assert [verdict.name for verdict in verdicts if verdict.state == "skip"] == ["weights"]


class Broken(HfEngine):
    """An engine with one fault; without it, `HfEngine` on a model of its own choice."""

    def sound(self, prompts: Any, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        """What `HfEngine` gives."""
        return super().generate(prompts, n=n, sampling=sampling, numbers=numbers)


def each(made: Batch, change: Callable[[Generated], Generated]) -> Batch:
    return [[change(one) for one in group] for group in made]


class EchoesThePrompt(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        made = self.sound(prompts, n, sampling, numbers)
        return [
            [
                Generated(
                    (*prompt, *one.token_ids)[: sampling.max_new_tokens],
                    (*[-1.0] * len(prompt), *one.logprobs)[: sampling.max_new_tokens],
                    one.stop,
                )
                for one in group
            ]
            for prompt, group in zip(prompts, made, strict=True)
        ]


class PadsAfterTheEnd(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        def padded(one: Generated) -> Generated:
            short = sampling.max_new_tokens - len(one.token_ids)
            ids, logprobs = one.token_ids + (0,) * short, one.logprobs + (0.0,) * short
            return Generated(ids, logprobs, one.stop)

        return each(self.sound(prompts, n, sampling, numbers), padded)


class LeavesTheVocabulary(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        def beyond(one: Generated) -> Generated:
            return replace(one, token_ids=(260, *one.token_ids[1:]))

        return each(self.sound(prompts, n, sampling, numbers), beyond)


class GivesOneSampleTooFew(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        return self.sound(prompts, max(1, n - 1), sampling, numbers)


class LosesALogprob(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        made = self.sound(prompts, n, sampling, numbers)
        return each(made, lambda one: replace(one, logprobs=one.logprobs[1:]))


class SamplesWhenGreedyIsAsked(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        warm = replace(sampling, temperature=sampling.temperature or 1.0)
        return self.sound(prompts, n, warm, numbers)


class TellsRawLogprobs(Broken):
    """As vLLM does by default: before temperature and top-p."""

    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        subject = EngineSubject("", model=self.model)

        def raw(prompt: Sequence[int], one: Generated) -> Generated:
            logits = subject.logits(prompt, one.token_ids)
            ids = torch.tensor(one.token_ids)[:, None]
            told = expected_logprobs(logits, Sampling()).gather(-1, ids)[:, 0].tolist()
            return replace(one, logprobs=tuple(told))

        made = self.sound(prompts, n, sampling, numbers)
        return [
            [raw(prompt, one) for one in group] for prompt, group in zip(prompts, made, strict=True)
        ]


class IgnoresTopP(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        return self.sound(prompts, n, replace(sampling, top_p=1.0), numbers)


class TakesTheLikelier(Broken):
    """Of two draws it keeps the likelier one, and tells its log-probability truly."""

    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        one = self.sound(prompts, n, sampling, numbers)
        other = self.sound(prompts, n, replace(sampling, seed=sampling.seed + 99), numbers)
        return [
            [max(pair, key=lambda made: made.logprobs[0]) for pair in zip(*groups, strict=True)]
            for groups in zip(one, other, strict=True)
        ]


class ReusesItsUniform(Broken):
    """Each sample has one random number, which chooses all of its tokens."""

    def _decode(self, prompts: Any, sampling: Sampling, u: torch.Tensor) -> list[Generated]:
        return super()._decode(prompts, sampling, u[:, :1].expand_as(u))


class NeverSaysEos(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        made = self.sound(prompts, n, sampling, numbers)
        return each(made, lambda one: replace(one, stop=Stop.LENGTH))


class StopsEarly(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        fewer = replace(sampling, max_new_tokens=min(8, sampling.max_new_tokens))
        return self.sound(prompts, n, fewer, numbers)


class IgnoresItsSeed(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        return self.sound(prompts, n, replace(sampling, seed=0), numbers)


class DrawsAnewEachTime(Broken):
    calls = 0

    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        self.calls += 1
        return self.sound(prompts, n, replace(sampling, seed=self.calls), numbers)


class IgnoresNumbers(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        return self.sound(prompts, n, sampling)


class DependsOnTheBatch(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        seed = sampling.seed + 1000 * len(prompts)
        return self.sound(prompts, n, replace(sampling, seed=seed), numbers)


class DependsOnTheCount(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        return self.sound(prompts, n, replace(sampling, seed=sampling.seed + 1000 * n), numbers)


class RepeatsItself(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        return [group * n for group in self.sound(prompts, 1, sampling, numbers)]


class MovesTheGlobalGenerator(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        np.random.random()
        return self.sound(prompts, n, sampling, numbers)


class RemembersAnotherBeginning(Broken):
    """What it takes for the beginning of a longer prompt was another one's."""

    first: Any = None

    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        seen = [prompt for prompt in prompts if self.first and len(prompt) > len(self.first)]
        self.first = self.first or list(prompts[-1])
        swapped = [
            [*self.first, *prompt[len(self.first) :]] if prompt in seen else prompt
            for prompt in prompts
        ]
        return self.sound(swapped, n, sampling, numbers)


class KeepsTheFirstWeights(Broken):
    def __init__(self, model: Any, *args: Any) -> None:
        super().__init__(copy.deepcopy(model), *args)


class ForgetsToSync(KeepsTheFirstWeights):
    def sync_weights(self) -> None:
        pass


class ServesAnything(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        try:
            return self.sound(prompts, n, sampling, numbers)
        except UsageError:
            return [[Generated((1,), (-1.0,), Stop.EOS)] * n for _ in prompts]


class CutsItsContextShort(Broken):
    def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Batch:
        if any(len(prompt) + sampling.max_new_tokens > 250 for prompt in prompts):
            raise UsageError("too long")
        return self.sound(prompts, n, sampling, numbers)


BROKEN: list[tuple[Any, str, str]] = [
    (EchoesThePrompt, "token ids", "the continuation contains the prompt"),
    (PadsAfterTheEnd, "token ids", "tokens are given after the stop token"),
    (LeavesTheVocabulary, "token ids", r"[260] are not ids of a vocabulary of 260"),
    (LosesALogprob, "token ids", "logprobs of"),
    (GivesOneSampleTooFew, "token ids", "continuations of 6 prompts with n = 3"),
    (SamplesWhenGreedyIsAsked, "greedy", "less likely than the best"),
    (TellsRawLogprobs, "logprobs", "from those of transformers at temperature 0.7 and top-p 1"),
    (IgnoresTopP, "logprobs", "outside the nucleus was drawn at temperature 1.4 and top-p 0.8"),
    (TakesTheLikelier, "frequencies", "the first of 1000 draws is not distributed"),
    (ReusesItsUniform, "frequencies", "the second of"),
    (NeverSaysEos, "stops", "whose last token ends a turn says"),
    (StopsEarly, "stops", "ended after 8 of 24 tokens without a reason"),
    (IgnoresItsSeed, "streams", "another seed gave the same samples"),
    (DrawsAnewEachTime, "streams", "the same seed gave other samples"),
    (IgnoresNumbers, "streams", "depend on the order of the prompts"),
    (DependsOnTheBatch, "streams", "depends on what is decoded with it"),
    (DependsOnTheCount, "streams", "depend on how many there are"),
    (RepeatsItself, "streams", "of 4 samples of one prompt are repetitions"),
    (MovesTheGlobalGenerator, "streams", "a global random generator was advanced"),
    (RemembersAnotherBeginning, "turns", "a later turn is not answered as it is from scratch"),
    (KeepsTheFirstWeights, "weights", "it samples with the old weights"),
    (ForgetsToSync, "weights", "it samples with the old weights"),
    (ServesAnything, "context", "was served but should have been refused: n = 0"),
    (CutsItsContextShort, "context", "too long"),
]


def spec_of(kind: Any) -> EngineSpec:
    def build(setup: EngineSetup) -> Any:
        return kind(setup.model, setup.stop_ids, setup.pad_id)

    weights: registry.Weights = "copy" if hasattr(kind, "sync_weights") else "trainer"
    return EngineSpec("broken", "an engine with a fault", build, weights=weights)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "message"), BROKEN)
def test_each_fault_is_found_by_the_property_it_breaks(kind: Any, name: str, message: str) -> None:
    subject = EngineSubject("broken", spec_of(kind), tiny.model())
    verdict = run_property(name, ENGINE_PROPERTIES[name], subject)
    assert verdict.failed
    assert message in verdict.evidence


def test_a_plugins_own_test_raises_what_is_broken() -> None:
    with pytest.raises(AssertionError, match="the continuation contains the prompt"):
        assert_engine(spec_of(EchoesThePrompt), tiny.model())
    assert_engine(registry.choose_engine("fast", tiny.model()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "other"}, "installed as broken, named other"),
        ({"summary": " "}, "summary for `engines list` is empty"),
        ({"options": ("tempo",)}, "options that no setting has: tempo"),
        ({"required": ("server",)}, "required, but not among the options: server"),
        ({"supports": lambda model: False}, "give a --model it serves"),
        ({"weights": "copy"}, "its weights are 'copy', and it has no sync_weights"),
    ],
)
def test_a_specification_that_is_not_true_is_found(change: dict[str, Any], message: str) -> None:
    subject = EngineSubject("broken", replace(spec_of(Broken), **change), tiny.model())
    verdict = run_property("spec", ENGINE_PROPERTIES["spec"], subject)
    assert verdict.failed
    assert message in verdict.evidence


def test_every_property_is_seen_to_fail() -> None:
    assert {name for _, name, _ in BROKEN} | {"spec"} == set(ENGINE_PROPERTIES)


@pytest.mark.slow
def test_an_installed_engine_is_examined_in_a_process_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    verdicts = list(check_engine("fast", only=["spec", "greedy", "deadline"]))
    assert [verdict.name for verdict in verdicts] == ["spec", "greedy", "deadline"]
    assert failures(verdicts) == ""
    assert property_names("engine") == [*ENGINE_PROPERTIES, "deadline"]
    assert main(["engines", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("fast", "hf", "vllm", "openai", "elsewhere"))
    assert main(["engines", "check", "fats"]) == 2
    assert "Did you mean 'fast'" in capsys.readouterr().err


@pytest.mark.slow
def test_an_engine_that_cannot_be_built_says_why_once() -> None:
    verdicts = list(check_engine("openai", options={"server": "http://127.0.0.1:9/v1"}))
    assert [verdict.name for verdict in verdicts if verdict.failed] == ["spec"]
    assert "no server answers at http://127.0.0.1:9/v1" in failures(verdicts)
