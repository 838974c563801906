"""FiNER as an environment: name the XBRL tag of four numbers in company reports.

Grading is in `scoring.py`; items come from `data.py`, `sentences.py` and `compact.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.types import Dialect, Feedback, Split, Task, was_cut_off
from resd_envs.finer import compact
from resd_envs.finer.data import Item, load
from resd_envs.finer.scoring import score, score_named
from resd_envs.finer.sentences import FEW_TAGS, builtin, few_items


class FinerEnv(TextEnv):
    """Name the right XBRL tag for each of four numbers in sentences of company reports.

    ## Description
    The task of FiNER as arXiv 2605.12741 uses it: four questions per item, each a number in a
    sentence, all to be answered with one tag from a long list. The built-in set is our own (240
    train, 48 validation, 96 test; over 60 tags): sentences from templates, with each company in one
    split only. It is easier than real filings. `data` reads the real ones, which we may not
    distribute.

    ## Action Space
    Any string (`Utf8Text`). The answer is the last `<answer>` element after the reasoning; tags
    are separated by commas and compare without regard to case.

    ## Observation Space
    Any string (`Utf8Text`). First the prompt: tags, sentences and the answer format (`full`), or
    a line such as `tag : 5 % bond ; $ 4 fee for loan ; ...` (`compact`, a set of its own with 640,
    64 and 128 items). Last the feedback.

    ## Rewards
    1 if every tag is right, else 0, as the paper says; with `partial_credit` the fraction of right
    tags, on which the released code trains. `info["score"]` is the fraction in either case.

    ## Episode End
    After one action.

    ## Information
    `task_id`, `split`, `feedback_level`; after the action `feedback`, `success`, `score`,
    `stop_reason`. The ladder of feedback: 0 nothing, 1 that it failed, 2 how many tags are right,
    3 which are not and why (wrong, not in the list, missing), 4 the right tags, 5 a whole right
    answer. The released feedback gives the right tags after every mistake: level 5. All tags are
    in the prompt, so the names of the right ones are not secret; which one fits where is.

    ## Arguments
    - `dialect`: `full` or `compact`.
    - `feedback_level`: 0 to 5.
    - `partial_credit`: whether the reward is the fraction of right tags.
    - `data`: None for the built-in set; else a JSONL file (split by sentence), a folder with
      train.jsonl, validation.jsonl and test.jsonl, or "hf:owner/name". Only in the full dialect.
    - `few`: one question with four tags to choose from, for small language models. The answer has
      to name the right one, in any words, and no other; one guess in four is right.

    ## Version History
    - v0: first version.
    """

    name = "finer"
    verify_seconds = 30.0
    release_reads_reasoning = True

    def __init__(
        self,
        *,
        dialect: Dialect = "full",
        feedback_level: int = 3,
        partial_credit: bool = False,
        data: str | Path | None = None,
        few: bool = False,
    ) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        if few and data is not None:
            raise UsageError("few and data were both given: give one of them")
        if data is not None and dialect == "compact":
            raise UsageError(
                f"data={str(data)!r} is given, but the compact dialect has a set of its own: "
                "give dialect='full' or leave data out"
            )
        self.partial_credit, self.few = partial_credit, few
        if few:
            # One class serves both tiers, so these belong to the instance.
            self.name, self.chance = "finer-few", 1 / FEW_TAGS
            self.answer_in_prompt = True  # type: ignore[misc]
        self._loaded = None if data is None else load(data)
        self._tasks = self.shared_tasks() if data is None else {}

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of `split`; loaded data keeps its order."""
        if split not in self._tasks:
            items = self._items(split)
            self._tasks[split] = tuple(self._task(split, n, item) for n, item in enumerate(items))
        return self._tasks[split]

    def _items(self, split: Split) -> Sequence[Item]:
        if self._loaded is not None:
            return self._loaded[split]
        if self.few:
            return few_items(split)
        return compact.build_splits()[split] if self.dialect == "compact" else builtin(split)

    def _task(self, split: Split, number: int, item: Item) -> Task:
        prompt = item.context
        if self.few:
            prompt = _frame("few").replace("{question}", prompt)
        elif self.dialect == "full":
            prompt = _frame("full").replace("{question}", prompt)
        data = {"gold": item.gold, "questions": item.questions, "options": item.options}
        return Task(f"{self.name}/{split}/{number:04d}", split, prompt, data)

    def verify(self, task: Task, action: str) -> Feedback:
        """Compare the tags with the right ones, position by position."""
        if self.few:
            return self._verify_named(task, action)
        return score(
            action,
            task.data["gold"],
            questions=task.data["questions"],
            options=task.data["options"],
            dialect=self.dialect,
            partial_credit=self.partial_credit,
            truncated=was_cut_off(action),
            grade=self.grade,
        )

    def _verify_named(self, task: Task, action: str) -> Feedback:
        (right,), (question,) = task.data["gold"], task.data["questions"]
        return score_named(
            action,
            right,
            question=question,
            options=task.data["options"],
            dialect=self.dialect,
            truncated=was_cut_off(action),
            grade=self.grade,
        )

    def oracle(self, task: Task) -> str:
        """The right tags in an answer element; the tag alone of `few`."""
        if self.few:
            return str(task.data["gold"][0])
        return f"<answer>{','.join(task.data['gold'])}</answer>"


@cache
def _frame(name: str) -> str:
    text = files("resd_envs.finer").joinpath(f"prompts/{name}.md").read_text(encoding="utf-8")
    if text.count("{question}") != 1:
        raise UsageError(f"prompts/{name}.md must hold the field {{question}} exactly once")
    return text
