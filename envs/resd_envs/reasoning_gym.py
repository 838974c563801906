"""Adapter: every generator of the package reasoning-gym as an environment.

    make_env("reasoning-gym", dataset="sudoku")

Needs the extra `reasoning-gym`. Tasks, scores and right answers are the package's;
splits are ours. Some of its scorers evaluate the answer as Python or as algebra, so answers that
do not look like data get no score from those; all of them run in a process that can be killed
(`reasoning_scorer.py`), and full marks must be earned (`reasoning_guards.py`). Left out:
`composite`, which mixes other generators, and curricula of difficulty.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from resd_bench.env import TextEnv
from resd_bench.errors import UsageError, near_miss
from resd_bench.parsing import last_answer_tag, visible_answer
from resd_bench.types import SPLITS, CaseResult, Dialect, Feedback, Split, Task
from resd_envs.reasoning_generators import generator, generators
from resd_envs.reasoning_guards import LENIENT, is_arithmetic, is_earned
from resd_envs.reasoning_scorer import TooMuch, shared

DEFAULT_SIZE = 200
"""Default number of training tasks; some generators take a quarter of a second per question."""

TEST_PERCENT, VALIDATION_PERCENT = 20, 10
DRAWS_PER_TASK = 3
"""Questions drawn per requested one before a generator counts as exhausted."""


DEFAULT = "basic_arithmetic"
FRAMES: Mapping[Dialect, str] = {
    "full": "{question}\n\nGive the final answer alone between <answer> and </answer>.",
    "compact": "{question} : answer in <answer> </answer>",
}

EVALUATES_PYTHON = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
EVALUATES_ALGEBRA = frozenset(
    {
        "countdown",
        "intermediate_integration",
        "polynomial_multiplication",
        "puzzle24",
        "simple_integration",
    }
)
"""Generators of version 0.1 whose scorers evaluate the answer."""
ARITHMETIC = frozenset({"countdown", "puzzle24"})
"""Those of them that ask only for the four operations on whole numbers."""

MAX_ANSWER_CHARS = 20_000
MAX_ALGEBRA_CHARS = 400
FUNCTIONS = frozenset(
    {"abs", "acos", "asin", "atan", "cos", "cosh", "cot", "erf", "exp", "ln", "log", "pi", "sec"}
    | {"sin", "sinh", "sqrt", "tan", "tanh"}
)
ALTERNATIVES = ("example_answer", "example_correct_answer", "possible_answer")
"""Metadata keys with an answer, for entries without one."""


class ReasoningGymEnv(TextEnv):
    """A procedurally generated puzzle or exercise of reasoning-gym.

    ## Description
    One of about 100 generators of algebra, arithmetic, algorithms, games, geometry, graphs,
    logic and induction. Up to 200 train, 25 validation and 50 test tasks, drawn by seed; a
    question is in one split only. The package decides what counts as right, except where its
    scorers accept what is not an answer, such as NaN for a number. Generators with few possible
    answers are solved by guessing as often as `chance` says.

    ## Action Space
    Any string (`Utf8Text`). The answer is the last `<answer>` element after the reasoning.

    ## Observation Space
    Any string (`Utf8Text`). First the question and how to answer, last the feedback. The compact
    dialect shortens only the latter, so questions may still be long.

    ## Rewards
    1 if the package's scorer gives the answer full marks, else 0. `info["score"]` is its score.

    ## Episode End
    After one action.

    ## Information
    `task_id`, `split`, `feedback_level`; after the action `feedback`, `success`, `score`,
    `stop_reason`. The package has no feedback, so the ladder is short: 2 whether the answer had
    the right form and its partial score, 3 the answer that was read, 4 and 5 a right answer.

    ## Arguments
    - `dialect`: `full` or `compact`.
    - `feedback_level`: 0 to 5.
    - `dataset`: name of the generator.
    - `config`: options of the generator, such as {"min_terms": 4}; its defaults where None.
    - `size`: number of training tasks; there are an eighth as many validation and a quarter as many
      test tasks.

    ## Version History
    - v0: first version.
    """

    name = "reasoning-gym"
    verify_seconds = 60.0
    # Some generators print the answer among the choices.
    answer_in_prompt = True

    def __init__(
        self,
        *,
        dialect: Dialect = "full",
        feedback_level: int = 3,
        dataset: str = DEFAULT,
        config: Mapping[str, Any] | None = None,
        size: int = DEFAULT_SIZE,
    ) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        known = generators()
        if dataset not in known:
            raise near_miss("reasoning-gym dataset", dataset, known)
        if type(size) is not int or size < 1:
            raise UsageError(f"size {size}: give the number of training tasks, 1 or more")
        self.dataset = dataset
        self.config = dict(config or {})
        # One class serves all generators, so the name belongs to the instance.
        self.name = f"reasoning-gym:{dataset}"
        self.size = size
        self._options = json.dumps(self.config, sort_keys=True)
        generator(dataset, self._options, 1)
        self._tasks = self.shared_tasks(dataset, self._options, size)

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of `split`; UsageError if the generator has too few different questions."""
        if split not in self._tasks:
            entries = _entries(self.dataset, self._options, self.size)[split]
            if not entries:
                raise UsageError(
                    f"reasoning-gym dataset {self.dataset!r} has too few different questions: no "
                    f"{split} tasks are left. Give a config with more variety"
                )
            self._tasks[split] = tuple(self._task(split, n, e) for n, e in enumerate(entries))
        return self._tasks[split]

    def _task(self, split: Split, number: int, entry: Mapping[str, Any]) -> Task:
        prompt = FRAMES[self.dialect].replace("{question}", entry["question"])
        return Task(f"{self.name}/{split}/{number:04d}", split, prompt, {"entry": entry})

    def verify(self, task: Task, action: str) -> Feedback:
        """Score the answer with the package's own scorer."""
        answer = last_answer_tag(visible_answer(action))
        entry = task.data["entry"]
        score, kind = (0.0, "incorrect_format") if answer is None else self._score(answer, entry)
        success = score >= 1.0
        detail = "" if success else _detail(answer, score, kind)
        right = _answers(entry)[:1]
        case = CaseResult("answer", success, kind or "pass", detail, "".join(right))
        solution = f"<answer>{right[0]}</answer>" if right else ""
        return Feedback(float(success), success, score, (case,), "", kind, (0,), solution)

    def _score(self, answer: str, entry: Mapping[str, Any]) -> tuple[float, str]:
        """The scorer's verdict in [0, 1] (0 for what it must not read), and the kind of failure."""
        own = [given.strip() for given in _answers(entry)]
        if (not answer and answer not in own) or not is_harmless(answer, self.dataset):
            return 0.0, "wrong_answer"
        try:
            score = shared().score(self.dataset, self._options, answer, entry)
        except TooMuch:
            return 0.0, "verifier_limit"
        if not score >= 0.0:
            return 0.0, "wrong_answer"
        if score >= 1.0:
            earned = is_earned(answer, own, entry, self.dataset)
            return (1.0, "") if earned else (0.0, "wrong_answer")
        return score, "wrong_answer"

    @property
    def chance(self) -> float:  # type: ignore[override]
        """How often the most common right answer is right, or what a generator's rules allow."""
        tasks = [task for split in SPLITS for task in self.tasks(split)]
        counts = Counter(given for task in tasks for given in _answers(task.data["entry"])[:1])
        commonest = counts.most_common(1)[0][1] / len(tasks) if counts else 0.0
        return max(commonest, LENIENT.get(self.dataset, 0.0))

    def oracle(self, task: Task) -> str:
        """A right answer; NotImplementedError if the generator does not know one."""
        entry = task.data["entry"]
        for answer in _answers(entry):
            if self._score(answer.strip(), entry)[0] >= 1.0:
                return f"<answer>{answer}</answer>"
        raise NotImplementedError(f"{self.dataset} does not provide an answer that scores 1")


@cache
def _entries(dataset: str, options: str, size: int) -> Mapping[Split, Sequence[Mapping[str, Any]]]:
    """Entries by split, which the hash of the question determines."""
    sizes: dict[Split, int] = {
        "train": size,
        "validation": max(1, size // 8),
        "test": max(1, size // 4),
    }
    draws = DRAWS_PER_TASK * sum(sizes.values()) + DRAWS_PER_TASK * 10
    source = generator(dataset, options, draws)
    found: dict[Split, list[Mapping[str, Any]]] = {split: [] for split in sizes}
    seen: set[str] = set()
    for number in range(draws):
        entry = source[number]
        split = _split_of(entry["question"])
        if entry["question"] not in seen and len(found[split]) < sizes[split]:
            seen.add(entry["question"])
            found[split].append(entry)
        if all(len(found[split]) == most for split, most in sizes.items()):
            break
    return found


def _split_of(question: str) -> Split:
    bucket = int(hashlib.sha256(question.encode()).hexdigest(), 16) % 100
    if bucket < TEST_PERCENT:
        return "test"
    return "validation" if bucket < TEST_PERCENT + VALIDATION_PERCENT else "train"


def _answers(entry: Mapping[str, Any]) -> list[str]:
    """Answers that the entry itself gives."""
    given = [entry.get("answer"), *(entry["metadata"].get(key) for key in ALTERNATIVES)]
    return [a if isinstance(a, str) else json.dumps(a) for a in given if a is not None]


def _detail(answer: str | None, score: float, kind: str) -> str:
    if answer is None:
        return "There was no answer between <answer> and </answer>."
    if kind == "verifier_limit":
        return "The answer takes too long to check."
    line = "".join(c if c.isprintable() else " " for c in answer[:400])
    part = f" (partial score {score:.2f})" if score else ""
    return f"The answer {' '.join(line.split())[:200]!r} is wrong{part}."


_LETTERS = re.compile(r"[A-Za-z_]+")
_PLAIN = re.compile(r"[\w\s-]*")
_ALGEBRA = re.compile(r"[0-9A-Za-z_+\-*/^().|= ]*")
_POWER = re.compile(r"\*\*|\^")
_SMALL_POWER = re.compile(
    r"(?:\*\*|\^)\s*\(?\s*-?\s*\d{1,2}(?:\s*/\s*\d{1,2})?\s*\)?(?!\s*[\d.*^])"
)
_ATTRIBUTE = re.compile(r"\. *[A-Za-z_]")
_STACKED = re.compile(r"\)\s*(?:\*\*|\^)")
_HUGE_NUMBER = re.compile(r"\d[eE][+-]?\d(?:_?\d){3}|(?:\d_?){400}")


def is_harmless(answer: str, dataset: str) -> bool:
    """Whether the scorer of `dataset` may read `answer`, judging by its form.

    If a scorer evaluates Python, only literals and plain words pass; if it evaluates algebra, short
    expressions of known functions with small exponents, or of the four operations if no others are
    asked for. Numbers of absurd size never pass.
    """
    if len(answer) > MAX_ANSWER_CHARS or _HUGE_NUMBER.search(answer):
        return False
    if dataset in EVALUATES_PYTHON:
        return bool(_PLAIN.fullmatch(answer)) or _is_literal(answer)
    if dataset in ARITHMETIC:
        return len(answer) <= MAX_ALGEBRA_CHARS and is_arithmetic(answer)
    return dataset not in EVALUATES_ALGEBRA or _is_small_algebra(answer)


def _is_literal(answer: str) -> bool:
    try:
        ast.literal_eval(answer)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return False
    return True


def _is_small_algebra(answer: str) -> bool:
    if len(answer) > MAX_ALGEBRA_CHARS or not _ALGEBRA.fullmatch(answer) or "__" in answer:
        return False
    if _ATTRIBUTE.search(answer):
        return False
    names = set(_LETTERS.findall(answer))
    if not all(len(name) == 1 or name.lower() in FUNCTIONS for name in names):
        return False
    powers = len(_POWER.findall(answer))
    return powers == len(_SMALL_POWER.findall(answer)) and len(_STACKED.findall(answer)) <= 2
