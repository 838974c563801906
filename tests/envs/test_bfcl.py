"""Function calling over several turns, here with a small package in the form of the real one."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from resd_bench.commands import doctor
from resd_bench.errors import UsageError
from resd_bench.sandbox import SandboxTooWeak, shared
from resd_bench.types import SPLITS, Answer, Feedback, Stop, Task
from resd_envs.bfcl import BfclEnv, episode
from resd_envs.bfcl.calls import Unreadable, calls_of
from resd_envs.bfcl.env import MAX_REPLY_CHARS
from resd_envs.bfcl.package import INSTALL, describe, find_package

SERVICE = """
import mpmath
from decimal import Decimal, getcontext
from bfcl_eval.eval_checker.long_context import (
    TEXTS,
)

class Box:
    def __init__(self, text):
        self.text = text
    def __eq__(self, other):
        return isinstance(other, Box) and self.text == other.text

class MessageAPI:
    unit = 1
    def __init__(self):
        self._private = id(self)
    def _load_scenario(self, scenario, long_context=False):
        self.box, self.sent = Box(scenario["text"]), []
    def send(self, text, to="bob"):
        if not text:
            return {"error": "nothing to send"}
        self.sent.append([to, text])
        return {"sent": len(self.sent)}
    def read(self):
        return {"text": self.box.text}
    def wait(self):
        while True:
            pass
    def logarithm(self, value):
        return {"result": mpmath.log(value)}
    def third(self, value):
        return {"result": Decimal(value) / 3}
    def precision(self, digits):
        getcontext().prec = digits
    def rounded(self, value):
        return {"result": value // MessageAPI.unit}
    def unit_of_all(self, value):
        MessageAPI.unit = value
"""
TRUTH = [["send('hi')"], [], ["read()", "send(text='yes', to='ann')"]]


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BfclEnv:
    package = tmp_path / "bfcl_eval"
    source = package / "eval_checker/multi_turn_eval/func_source_code/message_api.py"
    source.parent.mkdir(parents=True)
    source.write_text(SERVICE)
    (package / "__init__.py").write_text("raise ImportError('never imported')")
    asked = [[{"role": "user", "content": text}] for text in ("Say hi.", "Thanks.", "Answer.")]
    rows = [
        {
            "id": f"multi_turn_base_{number}",
            "question": asked,
            "initial_config": {"MessageAPI": {"text": f"letter {number}"}},
            "involved_classes": ["MessageAPI"],
            "excluded_function": ["wait"],
        }
        for number in range(20)
    ]
    known = [{"id": row["id"], "ground_truth": TRUTH} for row in rows]
    functions = [
        {
            "name": name,
            "description": f"This tool belongs to the API. Tool description: To {name}.",
            "parameters": {"properties": {"text": {"type": "string"}}, "required": []},
        }
        for name in ("send", "read", "wait")
    ]
    data = package / "data"
    for place, content in (
        ("BFCL_v4_multi_turn_base.json", rows),
        ("possible_answer/BFCL_v4_multi_turn_base.json", known),
        ("multi_turn_func_doc/message_api.json", functions),
    ):
        (data / place).parent.mkdir(parents=True, exist_ok=True)
        (data / place).write_text("".join(json.dumps(row) + "\n" for row in content))
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        return BfclEnv(feedback_level=4)
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX ON THIS MACHINE: {error}")


def play(env: BfclEnv, task: Task, *answers: str) -> tuple[list[str], Feedback | None]:
    """The observations after each answer, and the verdict if the episode has ended."""
    env.reset(options={"task": task.id})
    seen: list[str] = []
    for answer in answers:
        observation, *_, info = env.step(answer)
        seen.append(observation)
        if "feedback" in info:
            verdict: Feedback = info["feedback"]
            return seen, verdict
    return seen, None


def test_the_known_calls_fulfil_every_request_and_nothing_less_does(env: BfclEnv) -> None:
    tasks = [task for split in SPLITS for task in env.tasks(split)]
    assert len(tasks) == 20
    task = tasks[0]
    seen, verdict = play(env, task, *env.oracle(task).splitlines())
    assert seen[:3] == ['{"sent": 1}', "Thanks.", "Answer."]
    assert json.loads(seen[3].splitlines()[0])["text"].startswith("letter ")
    assert verdict is not None
    assert verdict.success
    wrong = {
        "nothing": (["done"] * 3, "no_calls", 1),
        "another text": (["send('ho')", "done", "done", "done"], "state", 1),
        "an answer that was not looked up": (
            ["send('hi')", "done", "done", "send('yes', 'ann')", "done"],
            "missing_result",
            2,
        ),
        "twice": (["send('hi')", "send('hi')", "done", "done", "done"], "state", 1),
    }
    for answers, kind, passed in wrong.values():
        _, verdict = play(env, task, *answers)
        assert verdict is not None
        assert not verdict.success
        assert verdict.kind == kind
        assert sum(case.passed for case in verdict.cases) == passed
    _, verdict = play(env, task, "send('ho')", "done", "done", "done")
    assert verdict is not None
    assert "request 1: the state of MessageAPI" in verdict.text
    assert verdict.text.endswith("Calls: send('ho'). expected: [send('hi')]")


def test_errors_come_back_as_text_and_calls_without_an_end_end_the_episode(env: BfclEnv) -> None:
    task = env.tasks("train")[0]
    calls = "[send(''), fly(), send(1, 2, 3), _load_scenario({}), box(), logarithm(1)]"
    seen, verdict = play(env, task, calls, "send(to=bob)", "```\n1 + 1\n```")
    assert verdict is None
    lines = seen[0].splitlines()
    assert lines[0] == '{"error": "nothing to send"}'
    assert lines[1] == "Error during execution: there is no function fly"
    assert lines[2].startswith("Error during execution: ")
    assert "no function _load_scenario" in lines[3]
    assert "no function box" in lines[4]
    assert lines[5] == "{'result': Decimal('0')}"
    assert "must be texts, numbers, lists or dicts" in seen[1]
    assert "not a list of calls" in seen[2]
    _, verdict = play(env, task, "wait()")
    assert verdict is not None
    assert verdict.kind == "timeout"
    assert not verdict.success


@pytest.mark.parametrize(
    ("known", "answer", "fulfilled"),
    [
        ("third(10)", "[precision(1), third(9)]", False),
        ("third(10)", "[precision(1), third(10), precision(2)]", True),
        ("rounded(10)", "[unit_of_all(100), rounded(9)]", False),
        ("rounded(10)", "[rounded(10), unit_of_all(100)]", True),
    ],
)
def test_no_call_changes_what_the_known_calls_return(
    env: BfclEnv, known: str, answer: str, fulfilled: bool
) -> None:
    scenario = replace(env.tasks("train")[0].data["scenario"], truth=((known,),))
    played = episode.play(scenario, [calls_of(answer)], 1, find_package(), shared())
    assert played.wrong == ["" if fulfilled else "missing_result"]


def test_what_is_shown_of_results_is_bounded_and_too_much_of_it_ends_the_episode(
    env: BfclEnv,
) -> None:
    task = env.tasks("train")[0]
    long = f"[send('{'x' * 9000}')" + ", unknown_function()" * 500 + "]"
    seen, verdict = play(env, task, long)
    assert len(seen[0]) == MAX_REPLY_CHARS
    assert seen[0].startswith('{"sent": 1}\nError during execution: there is no function')
    assert verdict is None
    _, verdict = play(env, task, *["[" + "unknown_function(), " * 900 + "]"] * 40)
    assert verdict is not None
    assert (verdict.kind, verdict.success) == ("bad_output", False)


def test_an_answer_that_was_cut_off_does_not_end_a_request(env: BfclEnv) -> None:
    task = env.tasks("train")[0]
    cut = Answer("I call [send('h", Stop.LENGTH)
    seen, verdict = play(env, task, cut, *env.oracle(task).splitlines())
    assert "cut off" in seen[0]
    assert "Thanks." not in seen[0]
    assert verdict is not None
    assert verdict.success


def test_an_answer_is_read_as_data() -> None:
    assert calls_of("f(1, a=[2, {'b': None}])") == [("f", [1], {"a": [2, {"b": None}]})]
    assert calls_of("I call it.\n```python\n[f(), g(x=-1)]\n```") == [
        ("f", [], {}),
        ("g", [], {"x": -1}),
    ]
    for text in ("done", "", "[]", "I called f(1).", "x = f(1)", "1", "(" * 9000):
        assert calls_of(text) == []
    hostile: Any = (
        *("__import__('os').system('x')", "f(g())", "f(open('x'))", "f(*[1])", "f(**{'a': 1})"),
        *("f({1})", "f(b'x')", "f(...)", "(lambda: 1)()", "f(1)(2)"),
    )
    for text in hostile:
        with pytest.raises(Unreadable):
            calls_of(text)


def test_functions_are_described_as_the_package_does() -> None:
    function = {
        "name": "du",
        "description": "This tool belongs to X. It is. Tool description: Sizes.",
        "parameters": {
            "properties": {
                "path": {"type": "string", "description": "Where."},
                "short": {"type": "boolean", "default": False},
            },
            "required": ["path"],
        },
    }
    assert describe(function, brief=True) == "du(path, short=False)"
    assert describe(function, brief=False).splitlines() == [
        "du(path, short=False): Sizes.",
        "    path (string): Where.",
        "    short (boolean):",
    ]


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resd_envs.bfcl.package.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install --no-deps bfcl-eval=="):
        BfclEnv()
    (told,) = [check for check in doctor.report() if check.name == "bfcl"]
    assert (told.ok, told.required, told.remedy) == (False, False, INSTALL)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("bfcl_eval") is None, reason="NOT TESTED: bfcl-eval is absent")
def test_every_scenario_of_the_package_is_fulfilled_by_its_known_calls() -> None:
    env = BfclEnv()
    for split in SPLITS:
        for task in env.tasks(split):
            _, verdict = play(env, task, *env.oracle(task).splitlines())
            assert verdict is not None
            assert verdict.success, task.id
