"""`envs play` lets a person play, also through a pipe; `envs info` describes."""

from __future__ import annotations

import io
from types import ModuleType

import pytest

from resd_bench import plugins
from resd_bench.cli import main
from resd_bench.commands.envs.play import Played, play, read_answer
from resd_bench.files.printable import printable

Capture = pytest.CaptureFixture[str]


def _session(name: str, text: str) -> tuple[Played, str]:
    env, out = plugins.make_env(name), io.StringIO()
    return play(env, iter(env.tasks("test")), io.StringIO(text), out), out.getvalue()


def test_a_player_solves_one_task_fails_the_next_and_leaves(toy: ModuleType) -> None:
    played, shown = _session("toy-say", "test0\n.\ny\nwrong\n.\nn\n")
    assert played == Played(2, 1)
    assert "say test0" in shown
    assert "not solved, score 0.00\npassed 0 of 1" in shown
    assert shown.endswith("solved 1 of 2\n")


def test_an_episode_of_several_turns_shows_what_the_environment_says(toy: ModuleType) -> None:
    played, shown = _session("toy-count", "1\n.\n2\n.\ntest0")
    assert played == Played(1, 1)
    assert "turn 2; end" in shown
    assert "go on after 2" in shown


def test_the_end_of_input_ends_the_session_without_a_verdict(toy: ModuleType) -> None:
    assert _session("toy-count", "1\n.\n")[0] == Played()
    assert _session("toy-say", "")[0] == Played()


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (".\n", ""),
        ("a\nb\n.\nc\n", "a\nb"),
        ("a\n\n", "a\n"),
        ("no end", "no end"),
        (" .\n..\n.\r\n", " .\n.."),
        ("", None),
    ],
)
def test_an_answer_ends_with_a_dot_or_with_the_input(typed: str, answer: str | None) -> None:
    assert read_answer(io.StringIO(typed)) == answer


def test_what_would_steer_a_terminal_is_shown_as_an_escape() -> None:
    assert printable("a\x1b[2J\ud800\u202eé\n\t🌍") == "a\\x1b[2J\\ud800\\u202eé\n\t🌍"
    printable("".join(map(chr, range(0x3000)))).encode()


def test_the_command_plays_one_task_from_a_pipe(
    toy: ModuleType, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("train3\n"))
    assert main(["envs", "play", "toy-say", "--task", "train-3"]) == 0
    assert "solved 1 of 1" in capsys.readouterr().out
    assert main(["envs", "play", "toy-say", "--task", "train-33"]) == 2
    assert "did you mean 'train-3'" in capsys.readouterr().err


def test_info_shows_docstring_tasks_prompts_and_ladder(toy: ModuleType, capsys: Capture) -> None:
    assert main(["envs", "info", "guess-number"]) == 0
    printed = capsys.readouterr().out
    for text in (
        "# guess-number (resd/GuessNumber-v0)",
        "## Version History",
        "train 120, validation 40, test 40; turns: at most 8",
        "## Prompt, full",
        "## Prompt, compact",
        "0: (nothing)",
        "1: wrong",
        "4: passed 0 of 1: no_number",
    ):
        assert text in printed
