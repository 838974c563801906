"""A key goes to the server that was named on the command line, and to no other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from resd_bench.cli import main
from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.policy.engines.server import Server
from resd_bench.sweep.definition import load_sweep
from tests.vouched import vouch

Capture = pytest.CaptureFixture[str]
KEY = "sk-SECRETSECRET1"


class Listener(ThreadingHTTPServer):
    """Writes down what it is asked and answers it, or sends the asker elsewhere."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.heard: list[tuple[str, str | None]] = []
        self.status, self.elsewhere = 200, ""
        self.body = b'{"data": [{"id": "m", "max_model_len": 4096}]}'

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Answers(BaseHTTPRequestHandler):
    server: Listener

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.heard.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.server.status)
        if self.server.elsewhere:
            self.send_header("Location", self.server.elsewhere)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()


@pytest.fixture
def listeners() -> Iterator[tuple[Listener, Listener]]:
    made = Listener(), Listener()
    for one in made:
        threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    for one in made:
        one.shutdown()
        one.server_close()


@pytest.fixture
def theirs(
    tmp_path: Path,
    listeners: tuple[Listener, Listener],
    toy: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Somebody else's run, whose configuration names their own server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    words = ["run", "--env", "toy-say", "--method", "base", "--model", "scripted", "--out", "runs"]
    small = ["--budget", "10ep", "--batch-size", "5", "--eval-samples", "1"]
    assert main([*words, *small, "--max-new-tokens", "20"]) == 0
    folder = tmp_path / "runs/toy-say/base/seed-0"
    change(folder / "config.yaml", model="nano", engine="openai", server=listeners[0].url)
    # From here on models are built as they are.
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(Path(toy.__file__ or "").parent))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))
    vouch(path.parent)


COMMANDS = {
    "eval": ["eval", "RUN", "--tasks", "1", "--samples", "1"],
    "eval with settings": ["eval", "RUN", "--tasks", "1", "--set", "seed=3"],
    "trace": ["trace", "RUN", "--out", "t.html"],
    "run": ["run", "--config", "RUN/config.yaml", "--out", "mine"],
    "run with flags": ["run", "--config", "RUN/config.yaml", "--engine", "openai", "--out", "mine"],
    "resume": ["run", "--config", "RUN/config.yaml", "--resume"],
    "seeds": ["run", "--config", "RUN/config.yaml", "--seeds", "0-1", "--out", "mine"],
    "dry run": ["run", "--config", "RUN/config.yaml", "--dry-run"],
    "sweep": ["sweep", "sweep.yaml"],
    "sweep, listed": ["sweep", "sweep.yaml", "--list"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_asks_a_server_that_only_a_file_names(
    name: str, theirs: Path, listeners: tuple[Listener, Listener], capsys: Capture
) -> None:
    base = yaml.safe_load((theirs / "config.yaml").read_text())
    sweep = {"out": "swept", "base": {k: v for k, v in base.items() if k != "out"}}
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep))
    words = [word.replace("RUN", str(theirs)) for word in COMMANDS[name]]
    assert main(words) == 2
    assert listeners[0].heard == []
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--server {listeners[0].url}" in line


@pytest.mark.slow
def test_export_and_readers_of_records_ask_no_server(
    theirs: Path, listeners: tuple[Listener, Listener]
) -> None:
    for words in (["compare"], ["report"], ["results", "show"]):
        assert main([*words, str(theirs)]) == 0
    assert main(["export", str(theirs), "--to", "exported"]) == 2, "it is of another model"
    assert RunConfig.of_record(theirs / "config.yaml").server == listeners[0].url
    assert listeners[0].heard == []


@pytest.mark.slow
def test_the_server_that_is_named_gets_the_key_and_the_files_does_not(
    theirs: Path, listeners: tuple[Listener, Listener], capsys: Capture
) -> None:
    named = listeners[1]
    words = ["eval", str(theirs), "--tasks", "1", "--samples", "1", "--server", named.url]
    assert main(words) == 2, "the checkpoint is of another model"
    assert listeners[0].heard == []
    assert ("/v1/models", f"Bearer {KEY}") in named.heard
    named.heard.clear()
    main([*words[:-2], "--set", f"server={named.url}"])
    assert named.heard
    assert listeners[0].heard == []


@pytest.mark.slow
def test_a_sweep_hands_the_named_server_on_to_its_runs(
    theirs: Path, listeners: tuple[Listener, Listener]
) -> None:
    from resd_bench.commands.sweep import make_launcher

    base = yaml.safe_load((theirs / "config.yaml").read_text())
    base.pop("out")
    Path("sweep.yaml").write_text(yaml.safe_dump({"base": base}))
    named = {"server": "http://mine:1/v1", "trust_remote_code": None}
    (trial,) = load_sweep(Path("sweep.yaml"), named=named).trials
    assert trial.config.server == "http://mine:1/v1"
    launcher: Any = make_launcher("local", 1, None, 1, 0, named)
    command = launcher.command(Path("x.yaml"))
    assert command[-2:] == ["--server", "http://mine:1/v1"]


def test_a_setting_that_only_the_command_line_may_decide_counts_there() -> None:
    server = {"engine": "openai", "server": "http://a/v1", "method": "base"}
    assert resolve({}, server).server == "http://a/v1"
    assert resolve(server, {"server": "http://b/v1"}).server == "http://b/v1"
    assert resolve(server, {}, ["server=none", "engine=auto"]).server is None
    with pytest.raises(UsageError, match="--server http://a/v1"):
        resolve(server)
    with pytest.raises(UsageError, match="--trust-remote-code true"):
        resolve({"trust_remote_code": True})
    assert RunConfig.from_yaml(resolve({}, server).to_yaml()).server == "http://a/v1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("ask", ["models", "post"])
def test_no_redirect_is_followed(
    status: int, ask: str, listeners: tuple[Listener, Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    first, second = listeners
    first.status, first.elsewhere = status, f"{second.url}/models"
    server = Server(first.url, (0.0,))
    with pytest.raises(UsageError, match=f"answers {status}, moved to .*the right --server"):
        server.models() if ask == "models" else server.post("completions", {})
    assert second.heard == []
    first.elsewhere = f"{first.url}/elsewhere"
    with pytest.raises(UsageError, match="moved to"):
        server.models()
    assert all(path != "/v1/elsewhere" for path, _ in first.heard)


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"data":' * 5000, b'{"data": [1]}', b'{"data": {"id": 1}}', b"\xff\x00"],
)
def test_an_answer_that_is_a_bomb_or_no_answer_is_one_line(
    body: bytes, listeners: tuple[Listener, Listener]
) -> None:
    listeners[0].body = body
    with pytest.raises(UsageError) as told:
        Server(listeners[0].url).models()
    assert len(str(told.value)) < 600


def test_an_endless_answer_is_cut(
    listeners: tuple[Listener, Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    from resd_bench.policy.engines import server

    monkeypatch.setattr(server, "_MOST_ANSWERED", 1000)
    listeners[0].body = b"x" * 5000
    with pytest.raises(UsageError, match="answers more than"):
        Server(listeners[0].url).models()
