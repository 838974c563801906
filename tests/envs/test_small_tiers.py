"""Tiers for small language models: easier to pose, and graded as strictly as the others."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from resd_bench.errors import UsageError
from resd_bench.plugins import make_env
from resd_bench.types import SPLITS
from resd_envs.finer.sentences import FEW_TAGS, builtin, few_items
from resd_envs.ifeval.prompts import ONE_SIZES, ONE_TOPICS, one_instruction
from resd_envs.python_functions.steps import ENDS, WORDS


def test_few_questions_have_few_tags_and_the_right_ones_are_among_them() -> None:
    for split in SPLITS:
        items = few_items(split)
        assert len({item.context for item in items}) == len(items) == len(builtin(split))
        for item in items:
            assert (len(item.gold), len(set(item.options))) == (1, FEW_TAGS)
            assert set(item.gold) <= set(item.options)
            assert all(tag in item.context for tag in item.options)


def test_a_company_of_few_questions_is_in_one_split() -> None:
    sentences = {s: {line for item in few_items(s) for line in item.sentences} for s in SPLITS}
    for split in SPLITS:
        others = set().union(*(sentences[other] for other in SPLITS if other != split))
        assert not sentences[split] & others


def test_a_guess_among_few_tags_is_right_as_often_as_declared() -> None:
    env = make_env("finer-few")
    tasks = [task for split in SPLITS for task in env.tasks(split)]
    wins = 0
    for n, task in enumerate(tasks):
        wins += env.verify(task, task.data["options"][n % 4]).success
    assert abs(wins / len(tasks) - env.chance) < 0.04


def test_an_answer_has_to_name_the_right_one_of_few_tags_and_no_other() -> None:
    env = make_env("finer-few")
    for task in env.tasks("test"):
        (right,), options = task.data["gold"], task.data["options"]
        wrong = next(tag for tag in options if tag != right)
        assert env.verify(task, f"The tag is: {right.upper()}.").success
        for answer in (
            wrong,
            f"{right} or {wrong}",
            f"{right}s",
            " ".join(options),
            "",
            task.prompt,
        ):
            assert not env.verify(task, answer).success
        assert env.verify(task, wrong).kind == "all_wrong"
        assert env.verify(task, f"{right} or {wrong}").kind == "incorrect_format"


def test_few_and_data_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="few and data"):
        make_env("finer-few", data="some.jsonl")


def test_a_request_with_one_instruction_is_short_and_its_topic_is_in_one_split() -> None:
    for split in SPLITS:
        items = one_instruction(split)
        assert len(items) == ONE_SIZES[split]
        assert len({item.prompt for item in items}) == len(items)
        assert all(len(item.instruction_ids) == len(item.kwargs) == 1 for item in items)
        assert max(len(item.prompt) for item in items) < 200
    topics = [set(ONE_TOPICS[split]) for split in SPLITS]
    assert len(set().union(*topics)) == sum(map(len, topics))


def test_a_request_with_one_instruction_is_graded_by_it_alone() -> None:
    env = make_env("ifeval-one")
    for task in env.tasks("test"):
        assert env.verify(task, env.oracle(task)).success
        assert not env.verify(task, "It is late. We wait, and read.").success


KEYWORDS = "LANTERN HARVEST SIGNAL COPPER BRIDGE WINTER TICKET PEPPER"


def test_one_text_follows_most_single_instructions_as_documents_say() -> None:
    env = make_env("ifeval-one")
    words = ["<<TITLE>> P.S.", *["[IT] *IS ALL THAT WE KNOW OF THE* "] * 8, *[KEYWORDS] * 6]
    text = f'"{" ".join(words)} THANK YOU FOR READING."'
    tasks = [task for split in SPLITS for task in env.tasks(split)]
    wins = sum(env.verify(task, text).success for task in tasks)
    assert round(100 * wins / len(tasks)) == 78


def test_a_function_of_one_step_fits_on_one_line() -> None:
    env = make_env("python-functions-line")
    for task in env.tasks("test"):
        ((word, n),) = task.data["function"].params["steps"]
        step = WORDS[word].code.replace("{n}", str(n))
        end = ENDS[task.data["function"].params["end"]][1].replace("(a)", f"({step})")
        assert env.verify(task, f"```python\ndef f(a): return {end}\n```").success
        plain = env.verify(task, "```python\ndef f(a): return sum(a)\n```")
        assert not plain.success


@pytest.mark.skipif(find_spec("textworld") is None, reason="pip install -e '.[textworld]'")
def test_a_listed_game_names_the_possible_commands() -> None:
    env: Any = make_env("textworld-coin-listed")
    assert env.name == make_env("textworld-coin-easy").name
    seen, _ = env.reset(seed=0, options={"task": env.tasks("test")[0].id})
    listed = seen.rpartition("You can: ")[2].split(", ")
    assert set(listed) == set(env.unwrapped.engine.commands)
    again, *_ = env.step(listed[0])
    assert "You can: " in again
