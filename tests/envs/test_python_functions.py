"""The generated problems: references are right, wrong rules are caught, splits do not overlap."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import islice

import pytest

from resd_bench.errors import UsageError
from resd_bench.records.manifest import panel_hash
from resd_bench.sandbox import Sandbox, SandboxTooWeak, shared
from resd_bench.seeds import stream
from resd_bench.types import Dialect, Split
from resd_envs.python_functions import PythonFunctionsEnv, steps, verify
from resd_envs.python_functions.compare import passes
from resd_envs.python_functions.env import FAMILIES, TIERS, Tier
from resd_envs.python_functions.family import Family, fill
from resd_envs.python_functions.problem import Problem, content_hash, solved, trusted

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
IDS = [family.name for family in FAMILIES]


@pytest.fixture(scope="session")
def box() -> Sandbox:
    try:
        return shared()
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX HERE: {error}")


def _sample(family: Family, count: int) -> Iterator[dict[str, str]]:
    """Combinations of options, spread over all."""
    every = list(family.all_picks())
    order = stream(0, "sample", family.name).permutation(len(every))
    return (every[int(i)] for i in order[:count])


def _fenced(code: str) -> str:
    return f"Here it is.\n```python\n{code}\n```\n"


def _solves(source: str, problem: Problem) -> bool:
    """Whether a program of ours passes; without the sandbox, for it is ours."""
    assert problem.entry is not None
    function = trusted(source, problem.entry)
    for case in problem.cases:
        try:
            value = function(*copy.deepcopy(case.args))
        except Exception:
            return False
        if not passes(case, value):
            return False
    return True


def test_there_are_many_families_of_many_problems() -> None:
    assert len(FAMILIES) >= 14
    assert len(set(IDS)) == len(IDS)
    for family in FAMILIES:
        assert len(list(family.all_picks())) >= 60, family.name


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_references_pass_their_own_tests_in_the_sandbox(family: Family, box: Sandbox) -> None:
    for picks in _sample(family, 2):
        problem = family.problem(picks)
        feedback = verify(_fenced(problem.solution), problem, box=box)
        assert feedback.success, (picks, feedback.render(5))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_a_solution_that_breaks_any_one_rule_fails(family: Family) -> None:
    for picks in _sample(family, 8):
        problem = family.problem(picks)
        assert problem.entry is not None
        assert _solves(problem.solution, problem)
        for rule in family.rules.keys() - family.cosmetic:
            for option in family.rules[rule]:
                if option.key != picks[rule]:
                    wrong = family.solution(picks | {rule: option.key}, problem.entry)
                    assert not _solves(wrong, problem), (picks, rule, option.key)


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_a_statement_says_every_rule_that_the_solution_obeys(family: Family) -> None:
    """Two combinations that differ in a rule differ in both wordings."""
    picks = next(_sample(family, 1))
    problem = family.problem(picks)
    for rule, options in family.rules.items():
        texts = {o.text for o in options}
        briefs = {o.brief for o in options}
        assert len(texts) == len(options), (rule, "two options have one text")
        assert len(briefs) == len(options), (rule, "two options have one wording in brief")
        chosen = family.options(picks)[rule]
        assert chosen.text in problem.statement
        assert chosen.brief in problem.brief


@pytest.mark.parametrize("family", FAMILIES, ids=IDS)
def test_hidden_tests_probe_edges_and_leave_out_the_example(family: Family) -> None:
    problem = family.problem(next(_sample(family, 1)))
    firsts = [case.args[0] for case in problem.cases]
    inputs = [repr(case.args) for case in problem.cases]
    assert len(inputs) == len(set(inputs)) >= 12
    shown = problem.statement.split("Example: `")[1].split("` gives")[0]
    for text in inputs:
        assert f"{problem.entry}{text.replace(',)', ')')}" != shown
    if isinstance(firsts[0], int):
        assert any(n == 0 for n in firsts)
        assert any(n < 0 for n in firsts)
    elif family.name != "dates":
        assert any(len(x) == 0 for x in firsts)
        assert any(len(x) == 1 for x in firsts)
        assert any(len(x) >= 5 for x in firsts)


def test_text_families_probe_more_than_ascii() -> None:
    for family in FAMILIES:
        if family.arguments.startswith(("text", "line")) and family.name != "expression":
            problem = family.problem(next(_sample(family, 1)))
            assert any(not case.args[0].isascii() for case in problem.cases), family.name


WRONG = {
    "rotate": "def {f}(items, k):\n    return items[k:] + items[:k]",
    "chunk": "def {f}(items, size):\n"
    "    return [items[i:i + size] for i in range(0, len(items), size)]",
    "kth": "def {f}(values):\n    return sorted(values)[-2]",
    "window": "def {f}(values):\n    return [sum(values[i:i + 3]) / 3 for i in range(len(values))]",
    "brackets": "def {f}(text):\n    return text.count('(') == text.count(')')",
    "roman": "def {f}(number):\n    return 'I' * number",
    "digits": "def {f}(number):\n    return sum(map(int, str(number)))",
    "run_length": "import re\ndef {f}(text):\n"
    "    return re.sub(r'(.)\\1*', lambda m: m[1] + str(len(m[0])), text)",
    "top_words": "from collections import Counter\ndef {f}(text):\n"
    "    return [w for w, _ in Counter(text.split()).most_common(3)]",
    "intervals": "def {f}(intervals):\n    return sorted(intervals)",
    "expression": "def {f}(text):\n    try:\n        return eval(text)\n"
    "    except Exception:\n        return None",
    "duration": "import re\ndef {f}(text):\n"
    "    return sum(int(n) * dict(s=1, m=60, h=3600)[u]"
    " for n, u in re.findall(r'(\\d+)([smh])', text))",
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_typical_first_attempts_fail(name: str, box: Sandbox) -> None:
    family = next(family for family in FAMILIES if family.name == name)
    for picks in _sample(family, 2):
        problem = family.problem(picks)
        feedback = verify(_fenced(WRONG[name].format(f=problem.entry)), problem, box=box)
        assert not feedback.success, picks
        assert 0 <= feedback.score < 1


# Chains of steps.


def test_references_of_chains_pass_in_the_sandbox(box: Sandbox) -> None:
    for name in ("short", "long"):
        for chain in islice(steps.chains(5, name), 4):
            problem = steps.problem(chain)
            assert verify(_fenced(problem.solution), problem, box=box).success, chain


def _without_a_step(problem: Problem) -> Iterator[str]:
    chain = steps.Chain.from_params(problem.params)
    for place in range(len(chain.steps)):
        kept = (*chain.steps[:place], *chain.steps[place + 1 :])
        yield steps.solution(steps.Chain(kept, chain.end, chain.empty))


@pytest.mark.slow
def test_a_short_chain_without_one_of_its_steps_mostly_fails() -> None:
    problems = [t.data["function"] for t in PythonFunctionsEnv(tier="basic").tasks("test")]
    passed = [_solves(wrong, p) for p in problems for wrong in _without_a_step(p)]
    assert sum(passed) / len(passed) < 0.15


@pytest.mark.slow
def test_a_long_chain_without_one_of_its_steps_always_fails() -> None:
    problems = [t.data["function"] for t in PythonFunctionsEnv(tier="hard").tasks("train")]
    chains = [problem for problem in problems if problem.family == "steps"]
    assert len(chains) == 32
    assert not any(_solves(wrong, p) for p in chains for wrong in _without_a_step(p))


def test_chains_survive_as_parameters() -> None:
    for chain in islice(steps.chains(7, "long"), 20):
        assert steps.Chain.from_params(chain.params) == chain


def test_tests_of_a_filter_stand_at_its_limit() -> None:
    chain = steps.Chain((("plus", 3), ("over", 5)), "count", 7)
    kept_at_limit = steps.solution(chain).replace("x > 5", "x >= 5")
    assert not _solves(kept_at_limit, steps.problem(chain))


# The panels.


@pytest.mark.slow
@pytest.mark.parametrize("tier", TIERS)
def test_splits_are_disjoint_by_content_in_every_panel(tier: Tier) -> None:
    sides: dict[str, str] = {}
    for seed in (0, 1):
        env = PythonFunctionsEnv(tier=tier, seed=seed)
        for split in SPLITS:
            tasks = env.tasks(split)
            assert len(tasks) >= (10 if tier == "line" else 30)
            for task in tasks:
                problem = task.data["function"]
                content = content_hash(problem.family, problem.params)
                assert sides.setdefault(content, split) == split, task.id


PANELS = {"all": "b1070cd6a3b903de", "basic": "bb792b8895888d3a"}
"""Starts of the panels' hashes. A change here changes what is asked: raise the version."""


@pytest.mark.parametrize("tier", sorted(PANELS))
def test_the_panel_is_the_same_on_every_machine(tier: Tier) -> None:
    env = PythonFunctionsEnv(tier=tier)
    assert panel_hash(task for split in SPLITS for task in env.tasks(split))[:16] == PANELS[tier]


def test_another_seed_draws_other_problems_and_other_tests() -> None:
    first, second = (PythonFunctionsEnv(seed=seed).tasks("test") for seed in (0, 1))
    one, other = ({t.data["function"].id: t.data["function"] for t in p} for p in (first, second))
    assert one.keys() != other.keys()
    both = one.keys() & other.keys()
    assert both
    assert any(one[name].cases != other[name].cases for name in both)


def test_tiers_divide_the_families() -> None:
    families = {
        tier: {t.data["function"].family for t in PythonFunctionsEnv(tier=tier).tasks("train")}
        for tier in TIERS
    }
    assert families["easy"] | families["hard"] == families["all"]
    assert not families["easy"] & families["hard"]
    assert families["basic"] == {"steps"}


def test_prompts_are_as_long_as_their_dialect_promises() -> None:
    dialects: dict[Dialect, tuple[int, int]] = {"full": (600, 2_600), "compact": (20, 260)}
    for dialect, (shortest, longest) in dialects.items():
        for task in PythonFunctionsEnv(dialect=dialect).tasks("train"):
            assert shortest < len(task.prompt) < longest, task.prompt
    for task in PythonFunctionsEnv(tier="basic", dialect="compact").tasks("train"):
        assert len(task.prompt) < 70


def test_prompts_hold_neither_the_solution_nor_a_hidden_test() -> None:
    for task in PythonFunctionsEnv().tasks("test"):
        problem = task.data["function"]
        body = problem.solution.split(":\n", 1)[1]
        assert body not in task.prompt
        assert task.prompt.count(" gives `") == 1


def test_user_mistakes_are_explained() -> None:
    with pytest.raises(UsageError, match="give all, easy, hard, basic"):
        PythonFunctionsEnv(tier="medium")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="without path"):
        PythonFunctionsEnv(test_path="x.jsonl")


def test_slots_take_several_lines_or_none() -> None:
    template = "\ndef <entry>():\n    <body>\n    <nothing>\n    return <x>\n"
    filled = fill(template, {"entry": "f", "body": "a = 1\nb = <x>", "nothing": "", "x": "2"})
    assert filled == "def f():\n    a = 1\n    b = 2\n    return 2"


def test_repeated_inputs_give_one_case() -> None:
    assert len(solved("def f(a):\n return a", "f", [(1,), (1,), (2,)])) == 2
