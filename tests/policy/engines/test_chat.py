"""A hosted model behind the chat API, here a small server that answers well, badly or never."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from resd_bench.cli import main
from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.objective import TokenBatch, TokenObjective
from resd_bench.policy.build import policy_of
from resd_bench.policy.chat_policy import ChatPolicy, Request
from resd_bench.policy.engines import server as server_module
from resd_bench.policy.engines.chat_client import ChatClient, read_reply, seconds_to_wait
from resd_bench.policy.engines.kept_answers import KeptAnswers
from resd_bench.policy.engines.server import Server
from resd_bench.types import Completion, Example, Message, Sampling, Stop, user

KEY = "sk-SECRETSECRET1"
SAMPLING = Sampling(temperature=0.7, top_p=0.9, max_new_tokens=50, seed=3)
Script = Callable[["Handler"], None]


def completion(
    text: Any, reason: str = "stop", usage: Any = None, **message: Any
) -> dict[str, Any]:
    usage = {"prompt_tokens": 10, "completion_tokens": 4} if usage is None else usage
    choice = {"message": {"content": text, **message}, "finish_reason": reason}
    return {"choices": [choice], "usage": usage}


class Hosted(ThreadingHTTPServer):
    """Answers `echo: ` and the last message, unless a script says otherwise."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.script: list[Script] = []
        """What to do with the next requests, first one first."""
        self.always: Script | None = None
        self.lock = threading.Lock()
        self.under_way = self.most_under_way = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Hosted
    body: dict[str, Any]
    counted = False

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        mine = self.server
        with mine.lock:
            mine.asked.append(self.body)
            mine.keys.append(self.headers.get("Authorization"))
            mine.under_way += 1
            self.counted = True
            mine.most_under_way = max(mine.most_under_way, mine.under_way)
            script = mine.script.pop(0) if mine.script else mine.always
        try:
            (script or well)(self)
        finally:
            self.end()

    def end(self) -> None:
        """Count the request as answered, once: before its client can read the answer."""
        with self.server.lock:
            self.server.under_way -= self.counted
            self.counted = False

    def answer(self, status: int, body: Any, **headers: str) -> None:
        self.end()
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def well(handler: Handler) -> None:
    handler.answer(200, completion(f"echo: {handler.body['messages'][-1]['content']}"))


def says(status: int, body: Any, **headers: str) -> Script:
    return lambda handler: handler.answer(status, body, **headers)


def hangs_up(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.close()


def breaks_off(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def drips(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.02)


def slowly(handler: Handler) -> None:
    time.sleep(0.05)
    well(handler)


def sleeps(handler: Handler) -> None:
    time.sleep(0.6)
    well(handler)


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hosted]:
    monkeypatch.setenv("RESD_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = Hosted()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def policy(hosted: Hosted, *, keep: bool = False, **options: Any) -> ChatPolicy:
    timeout, attempts = options.pop("timeout", 20.0), options.pop("attempts", 3)
    client = ChatClient(Server(hosted.url), attempts, timeout, first_pause_s=0.01)
    kept = KeptAnswers.of(hosted.url, "m") if keep else None
    return ChatPolicy(client, Request("m"), kept, **options)


def ask(made: ChatPolicy, *texts: str, n: int = 1) -> list[list[Completion]]:
    chats = [user(text) for text in texts]
    return made.sample(chats, n=n, sampling=SAMPLING, purpose="rollout")


def test_answers_come_in_order_and_are_charged_as_the_server_counts(hosted: Hosted) -> None:
    made = policy(hosted, prices=(3.0, 15.0))
    texts = [f"question {number}" for number in range(20)]
    answers = ask(made, *texts, n=2)
    assert [[one.text for one in group] for group in answers] == [[f"echo: {t}"] * 2 for t in texts]
    assert {(one.tokens, one.token_ids, one.stop) for g in answers for one in g} == {
        (4, (), Stop.EOS)
    }
    assert made.ledger.sampled_tokens == 40 * 4
    assert made.cost == pytest.approx((400 * 3 + 160 * 15) / 1e6)
    assert "400 prompt tokens, 160 new ones; cost 0.0036" in made.spending()
    body = hosted.asked[0]
    assert (body["model"], body["temperature"], body["top_p"]) == ("m", 0.7, 0.9)
    assert body["max_tokens"] == 50
    assert "seed" not in body


def test_no_more_requests_are_under_way_than_asked_for(hosted: Hosted) -> None:
    hosted.always = slowly
    ask(policy(hosted, concurrency=3), *map(str, range(12)))
    assert hosted.most_under_way == 3


@pytest.mark.parametrize(
    "bad",
    [
        says(200, b"<html>busy</html>"),
        says(200, b"[" * 100_000),
        says(200, {"choices": []}),
        says(200, {"choices": [{"message": None}]}),
        says(200, completion(7)),
        says(200, completion([{"type": "text"}])),
        says(200, {"error": {"message": "overloaded"}}),
        says(200, b"\xff\x00"),
        says(500, b"oops"),
        says(429, {"error": {"message": "slow down"}}, Retry_After="0"),
        says(503, b"", Retry_After="soon"),
        hangs_up,
        breaks_off,
        drips,
        sleeps,
    ],
)
def test_a_bad_answer_is_asked_again_and_then_told_in_one_line(hosted: Hosted, bad: Script) -> None:
    hosted.script = [bad, bad]
    made = policy(hosted, timeout=0.3)
    assert ask(made, "a")[0][0].text == "echo: a"
    assert len(hosted.asked) == 3
    hosted.script = [bad] * 3
    with pytest.raises(UsageError, match=r"3 times in a row.*--resume") as told:
        ask(made, "b")
    assert len(hosted.asked) == 6
    assert len(str(told.value)) < 700
    assert KEY not in str(told.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_told_at_once_without_the_key(hosted: Hosted, status: int) -> None:
    hosted.always = says(status, {"error": {"message": f"wrong key {KEY} \x1b[31m"}})
    with pytest.raises(UsageError, match=f"answers {status}: wrong key <hidden>"):
        ask(policy(hosted), "a")
    assert len(hosted.asked) == 1


def test_an_account_without_money_is_not_asked_again(hosted: Hosted) -> None:
    cause = {"message": "You exceeded your quota", "code": "insufficient_quota"}
    hosted.always = says(429, {"error": cause})
    with pytest.raises(UsageError, match="You exceeded your quota"):
        ask(policy(hosted), "a")
    assert len(hosted.asked) == 1


def test_what_a_server_does_not_take_is_told_with_the_option(hosted: Hosted) -> None:
    hosted.always = says(400, {"error": {"message": "use 'max_completion_tokens' instead"}})
    with pytest.raises(UsageError, match=r"--set engine\.length_field=max_completion_tokens"):
        ask(policy(hosted), "a")


def test_a_busy_server_holds_back_every_request_for_the_time_it_names(hosted: Hosted) -> None:
    times: list[float] = []

    def timed(handler: Handler) -> None:
        times.append(time.monotonic())
        well(handler)

    began = time.monotonic()
    hosted.script, hosted.always = [says(429, b"", Retry_After="0.4")], timed
    ask(policy(hosted, concurrency=1), "a", "b", "c")
    assert min(times) - began >= 0.4
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=50), usegmt=True)
    assert 45 < (seconds_to_wait(later) or 0) <= 50
    assert seconds_to_wait("Thu, 01 Jan 2015 00:00:00 GMT") == 0
    assert [seconds_to_wait(text) for text in (None, "", "soon", "inf", "nan", "-3")] == [
        *[None] * 5,
        0.0,
    ]
    hosted.script = [says(429, b"", Retry_After="86400")]
    with pytest.raises(UsageError, match="asks to wait 86400 s"):
        ask(policy(hosted), "d")


def test_what_was_answered_is_not_asked_again_after_a_failure(hosted: Hosted) -> None:
    texts = list(map(str, range(6)))
    hosted.script = [well, well, well, says(400, b"no")]
    with pytest.raises(UsageError, match="400"):
        ask(policy(hosted, keep=True, concurrency=1), *texts, n=2)
    assert len(hosted.asked) == 4
    again = policy(hosted, keep=True)
    answers = ask(again, *texts, n=2)
    assert len(hosted.asked) == 4 + 9
    assert "3 of them kept from before" in again.spending()
    assert again.ledger.sampled_tokens == 12 * 4, "a kept answer is charged like a new one"
    assert ask(policy(hosted, keep=True), *texts, n=2) == answers
    assert len(hosted.asked) == 13
    other = policy(hosted, keep=True)
    other.sample([user("0")], n=1, sampling=Sampling(seed=4), purpose="rollout")
    assert len(hosted.asked) == 14, "another seed is another sample"


def test_a_line_that_a_kill_cut_off_counts_as_not_answered(hosted: Hosted, tmp_path: Path) -> None:
    ask(policy(hosted, keep=True), "a", "b")
    (file,) = (tmp_path / "cache" / "answers").iterdir()
    whole = file.read_bytes()
    assert KEY.encode() not in whole
    assert whole.count(b"\n") == 2
    file.write_bytes(whole[:-5])
    ask(policy(hosted, keep=True), "a", "b")
    assert len(hosted.asked) == 3
    file.write_bytes(file.read_bytes() + b"0" * 64 + b"\t[1]\n" + b"junk\n\xff\xfe")
    assert ask(policy(hosted, keep=True), "a", "b")[1][0].text == "echo: b"
    assert len(hosted.asked) == 3


def test_hostile_text_is_text(hosted: Hosted) -> None:
    raw = b'{"choices": [{"message": {"content": "\\u0000\\u001b[2J\\ud800<|im_end|>"}}]}'
    hosted.always = says(200, raw)
    made = policy(hosted, keep=True)
    (answer,) = ask(made, "ab\ud800")[0]
    assert answer.text == "\x00\x1b[2J\ufffd<|im_end|>"
    assert answer.text.encode()
    assert "tokens of 1 estimated" in made.spending()
    assert ask(policy(hosted, keep=True), "ab\ud800") == [[answer]]


@pytest.mark.parametrize(
    ("told", "text", "stop", "tokens"),
    [
        (completion("half", "length"), "half", Stop.LENGTH, 4),
        (completion(None, "length"), "", Stop.LENGTH, 4),
        (completion(None, refusal="I cannot"), "I cannot", Stop.EOS, 4),
        (completion([{"type": "text", "text": "a"}, {"type": "image"}]), "a", Stop.EOS, 4),
        (completion("12345", usage={"completion_tokens": -1}), "12345", Stop.EOS, 2),
        (completion("12345", usage=[]), "12345", Stop.EOS, 2),
    ],
)
def test_answers_are_read_as_the_api_means_them(
    told: Any, text: str, stop: Stop, tokens: int
) -> None:
    reply = read_reply(told, {"messages": [{"content": "question"}]})
    assert (reply.text, reply.stop, reply.new_tokens) == (text, stop, tokens)
    said = Completion(reply.text, stop=reply.stop, count=reply.new_tokens)
    assert said.sampled, "tokens were sampled, whatever is left of them"


def test_a_prompt_that_is_too_long_is_not_answered_and_counted(hosted: Hosted) -> None:
    cause = {"message": "too long", "code": "context_length_exceeded"}
    hosted.script = [well, says(400, {"error": cause})]
    made = policy(hosted, concurrency=1)
    first, second = ask(made, "a", "b")
    assert first[0].sampled
    assert not second[0].sampled
    assert made.update([], TokenObjective(nll), batch_size=1)["policy/overlong_prompts"] == 1
    hosted.always = says(400, {"error": cause})
    with pytest.raises(UsageError, match="no prompt fits"):
        ask(policy(hosted), "a", "b")


def nll(batch: TokenBatch) -> Any:
    raise AssertionError("nothing is trained")


def test_nothing_can_be_trained_scored_or_taught(hosted: Hosted) -> None:
    made = policy(hosted)
    with pytest.raises(UsageError, match=r"no weights to train on.*ace, gepa"):
        made.update([Example(user("a"), Completion("b"))], TokenObjective(nll), batch_size=1)
    with pytest.raises(UsageError, match="score"):
        made.score([user("a")], [Completion("b")])
    with pytest.raises(UsageError, match="teach"):
        made.use_teacher("ema", 0.1)
    server = {"engine": "chat", "server": hosted.url, "model": "m"}
    for method in ("resd", "grpo", "sft", "sdpo", "opsd"):
        with pytest.raises(UsageError, match=rf"--method {method} trains on the tokens"):
            resolve({}, {**server, "method": method})
    for method in ("base", "ace"):
        assert resolve({}, {**server, "method": method}).engine == "chat"
    with pytest.raises(UsageError, match=r"nano.*embedded here: give --model"):
        policy_of(resolve({}, {**server, "model": "nano", "method": "base"}))
    assert hosted.asked == []


def test_only_the_named_server_gets_the_key(hosted: Hosted) -> None:
    other = Hosted()
    threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
    hosted.always = says(307, b"", Location=f"{other.url}/chat/completions")
    with pytest.raises(UsageError, match="redirects are not followed"):
        ask(policy(hosted), "a")
    assert hosted.keys == [f"Bearer {KEY}"]
    assert other.asked == []
    other.shutdown()
    other.server_close()
    with pytest.raises(UsageError, match="only the command line"):
        resolve({"engine": "chat", "server": hosted.url, "model": "m", "method": "base"})


def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"  {KEY}\n")
    ask(policy(hosted), "a")
    assert hosted.keys == [f"Bearer {KEY}"]
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nX-Evil: 1")
    with pytest.raises(UsageError) as told:
        policy(hosted)
    assert KEY not in str(told.value)


def test_an_endless_answer_is_cut(hosted: Hosted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_MOST_ANSWERED", 1000)
    hosted.always = says(200, b" " * 5000)
    with pytest.raises(UsageError, match="answers more than"):
        ask(policy(hosted), "a")


def test_the_reasoning_of_earlier_turns_is_not_sent_back() -> None:
    chat = (*user("a"), Message("assistant", "<think>hm</think>b"), *user("<think>c"))
    body = Request("m", send_sampling=False, send_seed=True).body(chat, SAMPLING, 5)
    assert [message["content"] for message in body["messages"]] == ["a", "b", "<think>c"]
    assert "temperature" not in body
    assert body["seed"] == 5


def test_a_state_resumes_what_was_spent(hosted: Hosted) -> None:
    made, later = policy(hosted), policy(hosted)
    ask(made, "a", "b")
    later.load_state_dict(json.loads(json.dumps(made.state_dict())))
    ask(later, "c")
    assert later.spent.answers == 3


def test_a_model_is_evaluated_and_ace_runs_from_the_command_line(
    hosted: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    prices = ["--set", "engine.price_in=3", "--set", "engine.price_out=15"]
    named = ["--model", "m", "--env", "guess-number", "--server", hosted.url]
    few = ["--max-new-tokens", "30", "--set", "engine=chat", *prices]
    words = ["eval", *named, "--tasks", "2", "--samples", "2", *few, "--out", "rows.jsonl"]
    assert main(words) == 0
    shown = capsys.readouterr()
    asked = len(hosted.asked)
    assert asked > 4, "several turns"
    assert f"{asked} answers of m" in shown.err
    assert main(words) == 0
    assert len(hosted.asked) == asked
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert sum(row["response_tokens"] for row in rows) == 4 * asked
    small = ["--budget", "4ep", "--batch-size", "2", "--eval-tasks", "2", "--eval-samples", "1"]
    assert main(["run", "--method", "ace", *named, *small, *few, "--out", "out"]) == 0
    folder = tmp_path / "out/guess-number/ace/seed-0"
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = metrics[-1]
    assert last["policy/cost"] == pytest.approx(
        (3 * last["policy/prompt_tokens"] + 15 * last["policy/new_tokens"]) / 1e6
    )
    assert last["sampled_tokens"] > 0
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()
    assert RunConfig.of_record(folder / "config.yaml").server == hosted.url
    assert KEY not in "".join(capsys.readouterr())
