"""Programming problems as an environment: tiers, splits, prompts.

Problems are in `lists.py`, `texts.py`, `rules.py` and `steps.py`, grading is in `verifier.py`, and
problem files are read in `loader.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Literal, get_args

from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.sandbox import shared
from resd_bench.seeds import derive
from resd_bench.types import SPLITS, Dialect, Feedback, Split, Task
from resd_envs.python_functions import lists, rules, steps, texts
from resd_envs.python_functions.answer import TAG
from resd_envs.python_functions.family import Family
from resd_envs.python_functions.loader import Loaded, load, warn_of_skipped
from resd_envs.python_functions.problem import Problem, bucket, content_hash
from resd_envs.python_functions.verifier import verify, verify_seconds

Tier = Literal["all", "easy", "hard", "basic", "line"]
TIERS: tuple[Tier, ...] = get_args(Tier)

FAMILIES: tuple[Family, ...] = (*lists.LIST_FAMILIES, *texts.TEXT_FAMILIES, *rules.RULE_FAMILIES)
SHARES: Mapping[Split, range] = {
    "train": range(0, 70),
    "validation": range(70, 80),
    "test": range(80, 100),
}
"""Buckets of the content hash, out of a hundred."""
SIZES: Mapping[Split, int] = {"train": 32, "validation": 4, "test": 8}
"""Maximum number of problems per family."""
BASIC_SIZES: Mapping[Split, int] = {"train": 512, "validation": 64, "test": 128}
BASIC_SHARES: Mapping[Split, range] = {
    "train": range(0, 7),
    "validation": range(7, 8),
    "test": range(8, steps.RUN_BUCKETS),
}


class PythonFunctionsEnv(TextEnv):
    """Write a Python function that is right on hidden inputs, including edge cases.

    ## Description
    Each problem states a function: rotate a list, encode runs, parse durations, join intervals,
    evaluate expressions and so on, with rules for ties, empty inputs, bounds and errors that differ
    from problem to problem. Hidden tests probe each rule: a solution that gets one rule wrong
    fails. Programs run in the sandbox, which they cannot leave; expected values never enter it.

    ## Action Space
    Any string (`Utf8Text`). The program is the last fenced block that defines what the tests call;
    for programs on standard input, the last that is tagged as Python, or has no tag. A tag may be
    spelled `python`, `py`, `Python3` and the like; backticks in prose do not begin a block.

    ## Observation Space
    Any string (`Utf8Text`). First the prompt: a specification with its rules, the signature and an
    example that is not a hidden test (`full`), or one line such as
    `def f(a): over 3 ; times 2 ; max ; empty 7` (`compact`). Last the feedback.

    ## Rewards
    1 if every test passes, else 0. `info["score"]` is the fraction of tests passed.

    ## Episode End
    After one action.

    ## Information
    `task_id`, `split`, `feedback_level`; after the action `feedback`, `success`, `score`,
    `stop_reason`. The ladder of feedback: 0 nothing, 1 that it failed, 2 how many tests passed and
    the class of error (`wrong_answer`, `exception`, `syntax_error`, `missing_function`, `timeout`,
    `memory`, `forbidden`, `bad_output`, `verifier_limit`, `missing_answer`, `too_long`), 3 up to
    two failing inputs with what the answer returned or raised, 4 also the expected values, 5 the
    reference solution.

    ## Arguments
    - `dialect`: `full` or `compact`, the wording of prompts and feedback.
    - `feedback_level`: 0 to 5.
    - `tier`: `all`; `easy`, one rule after the other; `hard`, rules that interact;
      `basic`, chains of two or three steps with prompts and answers of tens of tokens;
      `line`, a single step, which one line of Python can do.
    - `seed`: draws another panel and other test inputs. A problem is on the same side of the split
      in every panel.
    - `path`: a JSONL file of problems in the schema of HumanEval, MBPP or LiveCodeBench (or our
      own, see `loader.py`) instead of generated ones; 80% of them are training, 10% validation
      and 10% test problems by content, unless a record gives its `split`. What counts as right is
      what the benchmark's own runner accepts. Problems whose tests cannot be run safely are left
      out with a warning that lists them; see `skipped`.
    - `test_path`: a second such file, which is the test split; those of `path` that are not in it
      are then training (90%) and validation problems.

    ## Version History
    - v0: first version.
    """

    name = "python-functions"
    concurrent = True

    def __init__(
        self,
        *,
        dialect: Dialect = "full",
        feedback_level: int = 3,
        tier: Tier = "all",
        seed: int = 0,
        path: str | None = None,
        test_path: str | None = None,
    ) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        if tier not in TIERS:
            raise UsageError(f"unknown tier {tier!r}: give {', '.join(TIERS)}")
        if type(seed) is not int or seed < 0:
            raise UsageError(f"seed {seed!r}: give a whole number of at least 0")
        if test_path is not None and path is None:
            raise UsageError("test_path was given without path: give both, or path alone")
        # A machine that cannot grade answers should say so before any is sampled.
        shared()
        self.tier, self.seed = tier, seed
        if tier != "all":
            # One class serves all tiers, so the name belongs to the instance.
            self.name = f"python-functions-{tier}"
        self.verify_seconds = verify_seconds(loaded=path is not None)
        self._loaded = None if path is None else _load_files(path, test_path)
        self._tasks = self.shared_tasks(tier, seed) if path is None else {}

    @property
    def skipped(self) -> Mapping[str, str]:
        """Why problems of the loaded files are left out, by id."""
        return {} if self._loaded is None else self._loaded.skipped

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of `split`, with families mixed; loaded ones in the order of the file."""
        if split not in self._tasks:
            problems = (
                _generated(self.tier, self.seed, split)
                if self._loaded is None
                else tuple(p for p in self._loaded.problems if self._loaded.splits[p.id] == split)
            )
            self._tasks[split] = tuple(self._task(split, n, p) for n, p in enumerate(problems))
        return self._tasks[split]

    def _task(self, split: Split, number: int, problem: Problem) -> Task:
        return Task(
            id=f"{self.name}/{split}/{number:04d}-{problem.id}",
            split=split,
            prompt=prompt(problem, self.dialect, "line" if self.tier == "line" else "full"),
            data={"function": problem},
        )

    def verify(self, task: Task, action: str) -> Feedback:
        """Run the answer's program on every test."""
        return verify(action, task.data["function"], dialect=self.dialect)

    def oracle(self, task: Task) -> str:
        """The reference solution, fenced; NotImplementedError if a loaded problem has none."""
        solution = task.data["function"].solution
        if not solution:
            raise NotImplementedError(f"{task.id} came without a solution")
        return f"```{TAG}\n{solution}\n```"


def prompt(problem: Problem, dialect: Dialect, template: str = "full") -> str:
    """How `problem` is posed; `template` names that of generated problems."""
    if dialect == "compact":
        return problem.brief
    if problem.family != "loaded":
        return _template(template).replace("{statement}", problem.statement)
    form = (
        "The program reads standard input and writes standard output."
        if problem.entry is None
        else f"The tests call `{problem.entry}`."
    )
    return _template("loaded").replace("{form}", form).replace("{statement}", problem.statement)


@cache
def _template(name: str) -> str:
    path = files("resd_envs.python_functions").joinpath(f"prompts/{name}.md")
    return path.read_text(encoding="utf-8").strip()


# The problems of a split.


@cache
def _generated(tier: Tier, seed: int, split: Split) -> tuple[Problem, ...]:
    if tier == "basic":
        return _short_chains(seed)[split]
    if tier == "line":
        return _line_chains(seed)[split]
    problems = [
        problem
        for family in FAMILIES
        if tier in ("all", family.level)
        for problem in _of_family(family, seed, split)
    ]
    if tier in ("all", "hard"):
        problems += _long_chains(seed, split)
    return tuple(sorted(problems, key=lambda problem: derive(seed, "order", problem.id)))


@cache
def _of_family(family: Family, seed: int, split: Split) -> tuple[Problem, ...]:
    """A family's problems in a split, chosen by the seed."""
    hashes = {content_hash(family.name, picks): picks for picks in family.all_picks()}
    chosen = sorted(
        (content for content in hashes if bucket(content) in SHARES[split]),
        key=lambda content: derive(seed, "pick", content),
    )
    return tuple(family.problem(hashes[content], seed) for content in chosen[: SIZES[split]])


@cache
def _long_chains(seed: int, split: Split) -> tuple[Problem, ...]:
    chains = (c for c in steps.chains(seed, "long") if bucket(c.hash) in SHARES[split])
    pairs = ((chain, steps.problem(chain, seed, count=8)) for chain in chains)
    good = (problem for chain, problem in pairs if steps.every_step_matters(chain, problem))
    return tuple(islice(good, SIZES[split]))


@cache
def _short_chains(seed: int) -> Mapping[Split, tuple[Problem, ...]]:
    """The basic tier: one pass over the chains, each of which goes to the split of its bucket."""
    found: dict[Split, list[Problem]] = {split: [] for split in SPLITS}
    for chain in steps.chains(seed, "short"):
        for split in SPLITS:
            if bucket(chain.hash) in BASIC_SHARES[split] and len(found[split]) < BASIC_SIZES[split]:
                found[split].append(steps.problem(chain, seed))
        if all(len(found[split]) == BASIC_SIZES[split] for split in SPLITS):
            break
    return {split: tuple(problems) for split, problems in found.items()}


@cache
def _line_chains(seed: int) -> Mapping[Split, tuple[Problem, ...]]:
    """All chains of one step that matters, by the bucket of their content."""
    pairs = ((c, steps.problem(c, seed, line=True)) for c in steps.line_chains())
    good = [(c, posed) for c, posed in pairs if steps.every_step_matters(c, posed)]
    good.sort(key=lambda pair: derive(seed, "order", pair[1].id))
    return {s: tuple(p for c, p in good if bucket(c.hash) in SHARES[s]) for s in SPLITS}


# Problems of files.


def _load_files(path: str, test_path: str | None) -> Loaded:
    first = load(path)
    if test_path is None:
        found = first
    else:
        last = load(test_path)
        held_out = {problem.id for problem in last.problems}
        kept = [problem for problem in first.problems if problem.id not in held_out]
        splits: dict[str, Split] = {
            p.id: "validation" if bucket(p.params["hash"]) < 10 else "train" for p in kept
        }
        splits |= dict.fromkeys(held_out, "test")
        found = Loaded((*kept, *last.problems), splits, {**first.skipped, **last.skipped})
    warn_of_skipped(found, _names(path, test_path))
    return found


def _names(*paths: str | None) -> str:
    given: Iterable[str] = (path for path in paths if path is not None)
    return " and ".join(given)
