"""Two processes do what one does: gradients, samples, states, and the record of a run.

They are started as a user would, by torchrun, once for all tests: DDP and FSDP, each with all
weights and with LoRA; with our own engine, and with vLLM where it is installed. Sums over processes
are rounded in another order, so numbers agree to a part in 10^5 or better; tokens, decisions and
episodes agree exactly.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resd_bench.distributed import torch_group
from resd_bench.distributed.join import join
from resd_bench.distributed.process_group import SINGLE_PROCESS, rank0_first
from resd_bench.errors import UsageError
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines.base import Generated
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.parallel import fsdp, shared_engine
from resd_bench.policy.parallel.shared_engine import SharedEngine
from resd_bench.policy.parallel.supported import check_sharded
from resd_bench.records.log_files import read_log
from resd_bench.records.recorder import LOGS, NullRecorder, Recorder, read_json
from resd_bench.types import Completion, Sampling, Stop, user
from tests.places import ROOT
from tests.policy import tiny, together

pytestmark = pytest.mark.slow


CLOCK = {"seconds", "evaluation_seconds"}
LAYOUTS = ["ddp", "fsdp", "lora", "fsdp-lora"]

needed = [name for name in ("accelerate", "peft") if importlib.util.find_spec(name) is None]
several = pytest.mark.skipif(
    bool(needed), reason=f"{' AND '.join(needed).upper()} ABSENT: pip install '.[lora]'"
)


needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None,
    reason="VLLM ABSENT: pip install '.[vllm]' (docs/engines.md)",
)


@pytest.fixture(scope="module", params=["auto", pytest.param("vllm", marks=needs_vllm)])
def engine(request: pytest.FixtureRequest) -> str:
    """The engine that samples."""
    return str(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, engine: str) -> Path:
    """What two processes found, by layout and rank."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("THIS TORCH HAS NO GLOO: processes cannot talk")
    made = tmp_path_factory.mktemp("two")
    start = {
        "plain": together.starting_state(engine=engine),
        "lora": together.starting_state(engine=engine, lora_rank=2),
    }
    torch.save(start, made / "alone.pt")
    with pytest.raises(together.Killed):  # for two processes to take up
        together.whole_run(made / "ddp", SINGLE_PROCESS, together.Killer(2), engine=engine)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc_per_node", "2", "-m", "tests.policy.together", str(made), engine],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return made


def flat(groups: list[list[Completion]]) -> list[Completion]:
    return [completion for group in groups for completion in group]


def found(folder: Path, layout: str, rank: int) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / f"{layout}-{rank}.pt", weights_only=False)
    return loaded


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, engine: str) -> Path:
    """The folder of a run of one process."""
    out = tmp_path_factory.mktemp("one")
    together.whole_run(out, SINGLE_PROCESS, engine=engine)
    return together.run_config(out, engine).folder()


@pytest.fixture(scope="module")
def alone(folder: Path, engine: str) -> dict[str, dict[str, Any]]:
    """What one process finds."""
    start = torch.load(folder / "alone.pt", weights_only=False)
    made = {
        "plain": together.findings(SINGLE_PROCESS, start["plain"], engine=engine),
        "lora": together.findings(SINGLE_PROCESS, start["lora"], engine=engine, lora_rank=2),
    }
    return {layout: made[together.kind(layout)] for layout in together.OPTIONS}


@several
@pytest.mark.parametrize("case", ["whole", "pieces", "one row"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_loss_and_gradients_of_two_processes_are_those_of_one(
    folder: Path, alone: dict[str, Any], layout: str, case: str
) -> None:
    expected = alone[layout][case]
    for rank in (0, 1):
        mine = found(folder, layout, rank)[case]
        assert mine["loss"] == pytest.approx(expected["loss"], rel=1e-6)
        assert mine["gradient"].keys() == expected["gradient"].keys()
        scale = max(float(g.abs().max()) for g in expected["gradient"].values())
        assert scale > 1e-3
        for name, gradient in expected["gradient"].items():
            torch.testing.assert_close(
                mine["gradient"][name], gradient, rtol=1e-5, atol=2e-6 * scale
            )


@several
@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_processes_sample_the_tokens_that_one_does_before_and_after_training(
    folder: Path, alone: dict[str, Any], layout: str
) -> None:
    for rank in (0, 1):
        mine = found(folder, layout, rank)
        for when in ("before", "after"):
            for one, other in zip(flat(mine[when]), flat(alone[layout][when]), strict=True):
                assert one.token_ids == other.token_ids
                assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert mine["ledger"] == alone[layout]["ledger"]


def numbers(metrics: dict[str, float]) -> dict[str, float]:
    """Without those of an engine that holds a copy, which are measured on other tokens."""
    gaps = {name: value for name, value in metrics.items() if "engine_logprob_gap" in name}
    assert all(0 < gap < 1e-4 for gap in gaps.values())
    return {name: value for name, value in metrics.items() if name not in gaps}


@several
@pytest.mark.parametrize("engine", ["auto"], indirect=True)
@pytest.mark.parametrize("layout", ["fsdp-copying", "fsdp-lora-copying"])
def test_an_engine_with_its_own_weights_gets_those_that_are_sharded_and_is_checked(
    folder: Path, alone: dict[str, Any], layout: str
) -> None:
    """One tensor at a time, before the first sample and after updates."""
    for rank in (0, 1):
        mine = found(folder, layout, rank)
        for when in ("before", "after"):
            made = zip(flat(mine[when]), flat(alone[layout][when]), strict=True)
            assert [one.token_ids for one, _ in made] == [
                other.token_ids for other in flat(alone[layout][when])
            ]
        for one, other in zip(mine["metrics"], alone[layout]["metrics"], strict=True):
            assert numbers(one) == pytest.approx(other, rel=1e-4)


@several
@pytest.mark.parametrize("layout", LAYOUTS)
def test_updates_and_skipped_steps_of_two_processes_are_those_of_one(
    folder: Path, alone: dict[str, Any], layout: str
) -> None:
    first, second = (found(folder, layout, rank) for rank in (0, 1))
    assert first["metrics"] == second["metrics"]
    assert first["skipped"] == second["skipped"] == 1.0
    for mine, theirs in zip(first["metrics"], alone[layout]["metrics"], strict=True):
        assert numbers(mine) == pytest.approx(numbers(theirs), rel=1e-4)


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, dict):
        return [tensor for key in sorted(value, key=str) for tensor in tensors(value[key])]
    return [value] if isinstance(value, torch.Tensor) else []


@several
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_state_of_two_processes_is_that_of_one_and_one_goes_on_from_it(
    folder: Path, alone: dict[str, Any], layout: str, engine: str
) -> None:
    state = found(folder, layout, 0)["state"]
    pairs = list(zip(tensors(state), tensors(alone[layout]["state"]), strict=True))
    assert len(pairs) > 60
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-6)
    if together.kind(layout) == "plain":  # an adapter's state holds no base weights
        subject = together.policy(SINGLE_PROCESS, seed=5, engine=engine)
        subject.load_state_dict(state)
        prompts = [user(text) for text in together.TEXTS]
        made = subject.sample(prompts, n=1, sampling=together.SAMPLING, purpose="rollout")
        for one, other in zip(flat(made), flat(alone[layout]["after"]), strict=True):
            assert one.token_ids == other.token_ids


@several
def test_with_shares_each_process_holds_half_and_the_first_alone_a_whole_state(
    folder: Path, alone: dict[str, Any]
) -> None:
    halves = [found(folder, "fsdp", rank)["held"] for rank in (0, 1)]
    assert sum(halves) == alone["fsdp"]["held"] == found(folder, "ddp", 1)["held"]
    assert max(halves) <= 0.51 * sum(halves)
    assert found(folder, "fsdp", 1)["state"]["model"] == dict.fromkeys(
        found(folder, "fsdp", 0)["state"]["model"]
    )


def log(folder: Path, name: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in CLOCK} for row in read_log(folder / name)]


@several
@pytest.mark.parametrize("layout", ["ddp", "fsdp"])
def test_the_record_of_a_run_of_two_processes_is_that_of_one(
    folder: Path, reference: Path, layout: str, engine: str
) -> None:
    mine = together.run_config(folder / layout, engine).folder()
    assert read_json(mine / "status.json")["state"] == "finished"
    assert read_json(mine / "manifest.json")["processes"] == 2
    # One process began the first of these runs, and was killed in its second update.
    taken_up = {path.name for path in mine.glob("*.orphaned")}
    assert bool(taken_up) == (layout == "ddp")
    files = {path.name for path in mine.iterdir()} - taken_up
    assert files == {path.name for path in reference.iterdir()}
    for name in LOGS:
        rows = log(mine, name)
        assert len(rows) == len(log(reference, name)) > 0
        for one, other in zip(rows, log(reference, name), strict=True):
            if name == "metrics.jsonl":
                assert numbers(one) == approximately(numbers(other), rel=1e-3, abs=1e-12)
            elif engine == "auto":
                assert one == other
            else:  # vLLM rounds log-probabilities otherwise in another batch
                assert one == approximately(other, rel=1e-4, abs=1e-4)


def approximately(value: Any, *, rel: float, abs: float) -> Any:
    """Equal to `value` if every number in it is, up to rounding."""
    if isinstance(value, dict):
        return {key: approximately(item, rel=rel, abs=abs) for key, item in value.items()}
    if isinstance(value, list):
        return [approximately(item, rel=rel, abs=abs) for item in value]
    return pytest.approx(value, rel=rel, abs=abs) if isinstance(value, float) else value


@pytest.mark.parametrize("seed", range(20))
def test_prompts_are_dealt_once_each_and_no_process_gets_much_more_than_its_share(
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    sizes = generator.exponential(1000, size=int(generator.integers(1, 60))).tolist()
    hands = shared_engine.balance(sizes, 3)
    assert sorted(i for hand in hands for i in hand) == list(range(len(sizes)))
    assert all(hand == sorted(hand) for hand in hands)
    largest = max(sum(sizes[i] for i in hand) for hand in hands)
    assert largest <= sum(sizes) / 3 + max(sizes) * 2 / 3
    assert shared_engine.balance([4], 3) == [[0], [], []]
    assert [len(hand) for hand in shared_engine.balance([1.0] * 12, 3)] == [4, 4, 4]


class Answering:
    """An engine whose answers to a prompt have the length that the prompt names."""

    sampled = 0

    def generate(self, prompts: Any, *, n: int, sampling: Any, numbers: Any = None) -> Any:
        self.sampled = sum(n * prompt[1] for prompt in prompts)
        return [[Generated((5,) * prompt[1], (), Stop.EOS)] * n for prompt in prompts]


class Rank:
    """One of two processes, here two threads."""

    size = 2

    def __init__(self, rank: int, told: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.told, self.barrier = rank, told, barrier

    def gather(self, mine: Any) -> list[Any]:
        self.told[self.rank] = mine
        self.barrier.wait()
        found = list(self.told)
        self.barrier.wait()
        return found


def test_prompts_asked_again_are_dealt_by_the_length_of_their_answers() -> None:
    """Prompts of one length; at first, every other one goes to the same process."""
    prompts = [[number, 500 + number if number % 2 else 8] for number in range(40)]
    told, barrier = [None, None], threading.Barrier(2, timeout=60)
    engines = (Answering(), Answering())
    ranks: list[Any] = [Rank(number, told, barrier) for number in (0, 1)]
    shared = [SharedEngine(*pair, 4096, lambda: None) for pair in zip(engines, ranks, strict=True)]

    def ask(one: SharedEngine) -> list[int]:
        made = one.generate(prompts, n=2, sampling=Sampling(max_new_tokens=600))
        return [len(group[0].token_ids) for group in made]

    shares = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            assert list(pool.map(ask, shared)) == [[prompt[1] for prompt in prompts]] * 2
            shares.append([engine.sampled for engine in engines])
    total = 2 * sum(prompt[1] for prompt in prompts)
    assert [sum(share) for share in shares] == [total, total]
    assert max(shares[0]) > 0.9 * total
    assert max(shares[1]) <= 0.505 * total


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("FSDP_VERSION", "1", "--fsdp_version 2"),
        ("FSDP_OFFLOAD_PARAMS", "true", "--fsdp_offload_params false"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "--gradient-checkpointing true"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "--precision mixed"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "DDP or FSDP"),
    ],
)
def test_what_a_launcher_asks_for_in_vain_is_refused_with_what_to_do(
    name: str, value: str, remedy: str
) -> None:
    asked = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    assert torch_group.asks_for_shards(asked)
    assert not torch_group.asks_for_shards({})
    with pytest.raises(UsageError, match=remedy):
        torch_group.asks_for_shards(asked | {name: value})


@pytest.mark.parametrize("options", [{"teacher_offload": True}, {"teacher_precision": "bfloat16"}])
def test_settings_that_shares_do_not_go_with_are_refused(options: dict[str, Any]) -> None:
    check_sharded(PolicyConfig())
    with pytest.raises(UsageError, match="leave"):
        check_sharded(PolicyConfig(**options))


def test_a_process_that_no_launcher_started_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")  # as some schedulers do
    assert join() is SINGLE_PROCESS
    assert rank0_first(SINGLE_PROCESS, lambda: "made", lambda: "not made") == "made"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(UsageError, match="torchrun"):
        join()


def test_a_null_recorder_overrides_whatever_a_recorder_writes() -> None:
    public = {name for name in vars(Recorder) if not name.startswith("_")}
    methods = {name for name in public if callable(getattr(Recorder, name))}
    assert methods - {"close", "lock"} <= set(vars(NullRecorder))


def test_a_model_borrows_its_weights_and_gives_them_back() -> None:
    model = tiny.model()
    hollow = fsdp.without_weights(model, torch.device("cpu"))
    assert {p.device.type for p in hollow.parameters()} == {"meta"}
    for _ in range(2):
        fsdp.load_weights(hollow, {n: p.detach() for n, p in model.named_parameters()})
        assert hollow.lm_head.weight is hollow.model.embed_tokens.weight
        ids = torch.tensor([[5, 6, 7]])
        assert torch.equal(hollow(input_ids=ids).logits, model(input_ids=ids).logits)
        fsdp.load_weights(hollow, None)
        assert {p.device.type for p in hollow.parameters()} == {"meta"}


def test_a_team_that_cannot_talk_is_refused() -> None:
    class Two:
        rank, size = 0, 2

    with pytest.raises(TypeError, match="Two"):
        LMPolicy(tiny.model(), tiny.tokenizer(), process_group=Two())  # type: ignore[arg-type]
