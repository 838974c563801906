"""Sampling from an OpenAI-compatible server, here a small one over our own engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.objective import TokenBatch, TokenObjective
from resd_bench.policy import build
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines.hf import HfEngine
from resd_bench.policy.engines.server import Server, ServerEngine
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.types import Example, Sampling, Stop, user
from tests.policy import tiny

STOPS = [1, *range(4, 20)]
LIMIT = 256


class TinyServer(ThreadingHTTPServer):
    """Serves tiny models as vLLM does, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = {"tiny": tiny.model()}
        self.asked: list[dict[str, Any]] = []
        self.failures: list[int] = []
        """Statuses to answer with before anything else."""
        self.told = "ids"
        """How tokens are told: `ids`, `names` (token_id:7) or `text`."""
        self.raw = False
        """Whether log-probabilities ignore temperature."""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        how = Sampling(body["temperature"], body["top_p"], body["max_tokens"], body["seed"])
        model = self.models[body["model"]]
        with self.lock:
            engine = HfEngine(model, body["stop_token_ids"])
            made = engine.generate([body["prompt"]], n=1, sampling=how)[0][0]
        logprobs = list(made.logprobs)
        if self.raw:
            ids = torch.tensor([[*body["prompt"], *made.token_ids]])
            z = model(ids).logits[0, len(body["prompt"]) - 1 : -1].log_softmax(-1)
            logprobs = z.gather(-1, torch.tensor(made.token_ids)[:, None])[:, 0].tolist()
        name = "token_id:{}" if self.told == "names" else "word{}"
        told: dict[str, Any] = {"tokens": [name.format(i) for i in made.token_ids]}
        choice: dict[str, Any] = {"logprobs": told | {"token_logprobs": logprobs}}
        choice["finish_reason"] = "stop" if made.stop is Stop.EOS else "length"
        return {"choices": [choice | ({"token_ids": made.token_ids} if self.told == "ids" else {})]}

    def load(self, body: dict[str, Any]) -> None:
        from peft import PeftModel

        assert body["load_inplace"] or body["lora_name"] not in self.models
        adapted: Any = PeftModel.from_pretrained(tiny.model(), body["lora_path"])
        self.models[body["lora_name"]] = adapted.merge_and_unload().eval()


class Handler(BaseHTTPRequestHandler):
    server: TinyServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        entries = [{"id": name, "max_model_len": LIMIT} for name in self.server.models]
        self.answer(200 if self.path == "/v1/models" else 404, {"data": entries})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.failures:
            self.answer(self.server.failures.pop(), {"error": {"message": "too busy"}})
        elif self.path == "/v1/completions":
            self.server.asked.append(body)
            self.answer(200, self.server.complete(body))
        elif self.path == "/v1/load_lora_adapter":
            self.server.load(body)
            self.answer(200, "loaded")
        else:
            self.answer(404, {"error": {"message": "not found"}})

    def answer(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def server() -> Iterator[TinyServer]:
    made = TinyServer()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def engine(server: TinyServer, model: Any = None, name: str | None = None) -> ServerEngine:
    quick = Server(server.url, (0.0, 0.0))
    return ServerEngine(quick, name, model or tiny.model(), STOPS, limit=LIMIT)


def test_samples_are_what_the_server_drew_each_from_a_seed_of_its_own(server: TinyServer) -> None:
    sampling = Sampling(0.9, 0.95, max_new_tokens=20, seed=3)
    prompts = tiny.prompts([5, 17, 9])
    made = engine(server).generate(prompts, n=3, sampling=sampling)
    local = HfEngine(tiny.model(), STOPS)
    asked = {(tuple(body["prompt"]), body["seed"]): body for body in server.asked[-9:]}
    assert len({seed for _, seed in asked}) == 9
    for prompt, group in zip(prompts, made, strict=True):
        own = [seed for p, seed in asked if p == tuple(prompt)]
        expected = [
            local.generate([prompt], n=1, sampling=Sampling(0.9, 0.95, 20, seed))[0][0]
            for seed in own
        ]
        assert {one.token_ids for one in group} == {one.token_ids for one in expected}
        assert len(group) == 3
        for one in group:
            assert len(one.token_ids) == len(one.logprobs) <= 20
            assert (one.stop is Stop.EOS) == (one.token_ids[-1] in STOPS)
    stops = {one.stop for group in made for one in group}
    assert stops == {Stop.EOS, Stop.LENGTH}, "the case should end rows in both ways"


def test_the_same_seed_and_number_give_the_same_sample_whatever_is_asked_beside(
    server: TinyServer,
) -> None:
    sampling, prompts = Sampling(max_new_tokens=12, seed=8), tiny.prompts([5, 17, 9])
    whole = engine(server).generate(prompts, n=2, sampling=sampling)
    part = engine(server).generate(prompts[1:2], n=1, sampling=sampling, numbers=[1])
    assert part[0][0] == whole[1][0]
    assert engine(server).generate([], n=1, sampling=sampling) == []


def test_requests_leave_nothing_to_the_defaults_of_the_servers_model(server: TinyServer) -> None:
    engine(server).generate(tiny.prompts([4]), n=1, sampling=Sampling(0.0, 0.5, 3))
    body = server.asked[-1]
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (-1, 0.0, 1.0)
    assert body["top_p"] == 1.0, "greedy decoding has no nucleus"
    assert body["stop_token_ids"] == STOPS


def test_ids_are_also_read_from_their_names_and_text_is_refused(server: TinyServer) -> None:
    sampling = Sampling(max_new_tokens=6)
    expected = engine(server).generate(tiny.prompts([4]), n=1, sampling=sampling)
    server.told = "names"
    assert engine(server).generate(tiny.prompts([4]), n=1, sampling=sampling) == expected
    server.told = "text"
    with pytest.raises(UsageError, match=r"does not return token ids.*such as vLLM"):
        engine(server)


def test_a_server_that_is_down_is_named_with_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"no server answers at http://127.0.0.1:9/v1.*Start one"):
        Server("http://127.0.0.1:9/v1").models()
    with pytest.raises(UsageError, match="'localhost:8000' is not a URL"):
        Server("localhost:8000")


def test_a_url_without_its_last_part_is_a_usage_error(server: TinyServer) -> None:
    with pytest.raises(UsageError, match="up to and including /v1"):
        Server(server.url.removesuffix("/v1")).models()


def test_a_model_that_is_not_served_is_answered_with_the_nearest(server: TinyServer) -> None:
    with pytest.raises(UsageError, match="Did you mean 'tiny'"):
        engine(server, name="tinny")
    server.models["other"] = server.models["tiny"]
    with pytest.raises(UsageError, match=r"serves 2 models: give --server-model \(other, tiny\)"):
        engine(server)
    assert engine(server, name="tiny")


def test_a_server_of_other_weights_is_refused(server: TinyServer) -> None:
    with pytest.raises(UsageError, match="serves another model as 'tiny' than --model"):
        engine(server, tiny.model(seed=1))


def test_log_probabilities_before_temperature_are_refused(server: TinyServer) -> None:
    server.raw = True
    with pytest.raises(UsageError, match="--logprobs-mode processed_logprobs"):
        engine(server)


def test_a_shorter_context_is_a_usage_error_that_names_the_flag(server: TinyServer) -> None:
    with pytest.raises(UsageError, match="--context-limit 256"):
        ServerEngine(Server(server.url), None, tiny.model(), STOPS, limit=512)


def test_a_busy_server_is_asked_again_and_a_refusal_is_told(server: TinyServer) -> None:
    ready = engine(server)
    server.failures = [503, 503]
    assert ready.generate(tiny.prompts([4]), n=1, sampling=Sampling(max_new_tokens=2))
    server.failures = [503, 503, 503]
    with pytest.raises(UsageError, match="answers 503: too busy"):
        ready.generate(tiny.prompts([4]), n=1, sampling=Sampling(max_new_tokens=2))
    server.failures = [401]
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        ready.generate(tiny.prompts([4]), n=1, sampling=Sampling(max_new_tokens=2))


def nll(batch: TokenBatch) -> torch.Tensor:
    picked = batch.student_logits.gather(-1, batch.token_ids[..., None])[..., 0]
    return batch.student_logits.logsumexp(-1) - picked


def policy(server: TinyServer, **options: Any) -> LMPolicy:
    config = PolicyConfig(
        learning_rate=0.05,
        warmup_updates=0,
        engine="openai",
        server=server.url,
        server_model="tiny",
        **options,
    )
    return LMPolicy(tiny.model(), tiny.tokenizer(), config)


@pytest.mark.slow
def test_the_server_samples_with_the_adapter_that_was_trained(server: TinyServer) -> None:
    pytest.importorskip("peft", reason="PEFT ABSENT: pip install '.[lora]'")
    trained = policy(server, lora_rank=4)
    sampling = Sampling(max_new_tokens=10, seed=1)
    greedy = Sampling(temperature=0.0, max_new_tokens=10)
    before = trained.sample([user("ab")], n=1, sampling=greedy, purpose="evaluation")
    for _ in range(2):
        made = trained.sample([user("ab")], n=4, sampling=sampling, purpose="rollout")[0]
        examples = [Example(user("ab"), one) for one in made]
        metrics = trained.update(examples, TokenObjective(nll), batch_size=4)
        assert metrics["policy/engine_logprob_gap_max"] < 1e-3
    after = trained.sample([user("ab")], n=1, sampling=greedy, purpose="evaluation")
    own = HfEngine(trained.model, trained.codec.stop_ids)
    prompt = trained.codec.prompt_ids(user("ab"))
    expected = own.generate([prompt], n=1, sampling=greedy)[0][0]
    assert after[0][0].token_ids == expected.token_ids != before[0][0].token_ids
    assert len(server.models) == 2, "one adapter, replaced in place"


def test_all_weights_of_a_model_cannot_be_trained_through_a_server(server: TinyServer) -> None:
    trained = policy(server)
    made = trained.sample([user("a")], n=1, sampling=Sampling(max_new_tokens=4), purpose="rollout")
    with pytest.raises(UsageError, match="--lora-rank"):
        trained.update([Example(user("a"), made[0][0])], TokenObjective(nll), batch_size=1)


def test_a_run_through_a_server_needs_an_adapter_or_a_method_that_learns_nothing() -> None:
    served = {"engine": "openai", "server": "http://localhost:8000/v1"}
    assert not build.needs_weights(RunConfig(method="base", **served))  # type: ignore[arg-type]
    assert build.needs_weights(RunConfig(lora_rank=8, **served))  # type: ignore[arg-type]
    assert build.needs_weights(RunConfig())
    with pytest.raises(UsageError, match=r"--lora-rank.*--engine vllm.*--method base"):
        build.needs_weights(RunConfig(**served))  # type: ignore[arg-type]


def test_a_served_model_is_evaluated_without_loading_its_weights(
    server: TinyServer, tmp_path: Path
) -> None:
    tiny.model().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    config = PolicyConfig(engine="openai", server=server.url)
    hollow = LMPolicy.load(tmp_path / "model", config, weights=False)
    sampling = Sampling(max_new_tokens=8, seed=2)
    made = hollow.sample([user("ab")], n=2, sampling=sampling, purpose="evaluation")
    expected = policy(server).sample([user("ab")], n=2, sampling=sampling, purpose="evaluation")
    assert made == expected
    assert hollow.parameters == sum(p.numel() for p in tiny.model().parameters())
    metrics = hollow.update([], TokenObjective(nll), batch_size=1)
    assert metrics["policy/examples"] == 0
    torch.save(hollow.state_dict(), tmp_path / "state.pt")
    hollow.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert hollow.sample([user("ab")], n=2, sampling=sampling, purpose="evaluation") == expected
