"""What a policy would try that knows every verifier's source: it gains nothing beyond chance.

Programs, which run in the sandbox, have lists of their own in `tests/sandbox`, and reasoning-gym
in `test_reasoning_gym.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import pytest

from resd_bench.check.adversarial_answers import INJECTIONS
from resd_bench.env import TextEnv
from resd_bench.plugins import make_env
from resd_bench.types import Feedback, Split, Task

Hack = Callable[[TextEnv, Task], Sequence[str]]
"""What it says, turn by turn; the last answer again and again."""
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@cache
def env_of(name: str) -> TextEnv:
    if name.startswith("textworld"):
        pytest.importorskip("textworld", reason="TEXTWORLD ABSENT: pip install '.[textworld]'")
    return make_env(name)


@cache
def tasks_of(name: str) -> Sequence[Task]:
    """The tasks a hack is tried on: all where that is quick."""
    env = env_of(name)
    if name.startswith("textworld"):
        return env.tasks("test")[:2]
    tasks = [task for split in SPLITS for task in env.tasks(split)]
    return tasks if name == "guess-number" else tasks[-100:]


def play(env: TextEnv, task: Task, said: Sequence[str]) -> Feedback:
    env.reset(seed=0, options={"task": task.id})
    for turn in range(env.max_turns):
        *_, over, cut, info = env.step(said[min(turn, len(said) - 1)])
        if over or cut:
            feedback: Feedback = info["feedback"]
            return feedback
    raise AssertionError("the episode did not end")


def told(env: TextEnv, task: Task) -> str:
    """What the environment says about a failure."""
    return play(env, task, ["I do not know."]).text


def wide(text: str) -> str:
    """`text` in look-alike characters."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


EVERYWHERE: Mapping[str, Hack] = {
    "nothing": lambda env, task: [""],
    "a number": lambda env, task: ["0"],
    "not a number": lambda env, task: ["<answer>nan</answer>"],
    "no number at all": lambda env, task: ["nan"],
    "a yes": lambda env, task: ["yes"],
    "the prompt": lambda env, task: [task.prompt],
    "the prompt in a fence": lambda env, task: [f"```\n{task.prompt}\n```"],
    "the prompt in a tag": lambda env, task: [f"<answer>{task.prompt}</answer>"],
    "the prompt, look-alike": lambda env, task: [wide(task.prompt)],
    "the feedback": lambda env, task: ["", told(env, task)],
    "the feedback in a fence": lambda env, task: ["", f"```\n{told(env, task)}\n```"],
    "the feedback in a tag": lambda env, task: ["", f"<answer>{told(env, task)}</answer>"],
    "the id of the task": lambda env, task: [task.id],
    "the number in its id": lambda env, task: [task.id.rpartition("/")[2][:4].lstrip("0") or "0"],
    "a megabyte of fences": lambda env, task: ["```\na\n```\n" * 100_000],
    "a megabyte of tags": lambda env, task: ["<answer>a</answer>" * 60_000],
    "right in the reasoning": lambda env, task: [f"<think>{env.oracle(task)}</think> done"],
    "right in a nested tag": lambda env, task: [f"<think><think>{env.oracle(task)}"],
    **{f"claim {n}": lambda env, task, text=text: [text] for n, text in enumerate(INJECTIONS)},  # type: ignore[misc]
}


def fenced(program: str) -> str:
    return f"```manufactoria\n{program}\n```"


REJECTS = "START start:\n    NEXT NONE\nEND end"
ACCEPTS = "START start:\n    NEXT end\nEND end"
STOPS_AT_A_RED = (
    "START start:\n    NEXT a\nPULLER_RB a:\n    [R] end\n    [B] a\n    [EMPTY] b\n"
    "PULLER_YG b:\n    [Y] a\n    [G] a\n    [EMPTY] NONE\nEND end"
)
MANUFACTORIA: Mapping[str, Hack] = {
    "reject all": lambda env, task: [fenced(REJECTS)],
    "accept all": lambda env, task: [fenced(ACCEPTS)],
    "never end": lambda env, task: [fenced(ACCEPTS.replace("NEXT end", "NEXT start"))],
    "end in upper case": lambda env, task: [fenced(ACCEPTS.replace("NEXT end", "NEXT END"))],
    "accept a red": lambda env, task: [fenced(STOPS_AT_A_RED)],
    "both ways, two blocks": lambda env, task: [fenced(ACCEPTS) + fenced(REJECTS)],
    "both ways, one block": lambda env, task: [fenced(f"{ACCEPTS}\n{REJECTS}")],
    "both ways, one node": lambda env, task: [
        fenced(ACCEPTS.replace("end\n", "end\n    NEXT NONE\n", 1))
    ],
    "look-alike keywords": lambda env, task: [fenced(wide(env.oracle(task)))],
    "right, then wrong": lambda env, task: [f"{env.oracle(task)}\n{fenced(REJECTS)}"],
    "paint for ever": lambda env, task: [
        fenced("START start:\n    NEXT a\nPAINTER_RED a:\n    NEXT a\nEND end")
    ],
}


def tags(task: Task) -> list[str]:
    return sorted(task.data["options"])


FINER: Mapping[str, Hack] = {
    "every tag": lambda env, task: [f"<answer>{','.join(tags(task))}</answer>"],
    "one tag four times": lambda env, task: [f"<answer>{','.join(tags(task)[:1] * 4)}</answer>"],
    "nothing four times": lambda env, task: ["<answer>,,,</answer>"],
    "no numbers": lambda env, task: ["<answer>nan,nan,nan,nan</answer>"],
    "wild cards": lambda env, task: ["<answer>*,.*,%,?</answer>"],
    "every answer in turn": lambda env, task: [
        "".join(f"<answer>{tag},{tag},{tag},{tag}</answer>" for tag in tags(task))
    ],
    "right, then wrong": lambda env, task: [f"{env.oracle(task)}<answer>A,B,C,D</answer>"],
    "right in a wrong tag": lambda env, task: [env.oracle(task).replace("answer", "Answer")],
    "right without a tag": lambda env, task: [",".join(task.data["gold"])],
    "right with more before it": lambda env, task: [
        f"<answer>x,{','.join(task.data['gold'])}</answer>"
    ],
    "right in one piece": lambda env, task: [f"<answer>{';'.join(task.data['gold'])}</answer>"],
}
GUESS: Mapping[str, Hack] = {
    "all numbers at once": lambda env, task: [" ".join(map(str, range(1, 201)))],
    "all numbers, a line each": lambda env, task: ["\n".join(map(str, range(1, 201)))],
    "a range": lambda env, task: ["1-200"],
    "eight numbers, whatever is said": lambda env, task: [str(25 * n) for n in range(1, 9)],
    "the first eight": lambda env, task: [str(n) for n in range(1, 9)],
    "look-alike digits": lambda env, task: [wide(env.oracle(task))],
    "other digits": lambda env, task: ["".join(chr(0x660 + int(d)) for d in env.oracle(task))],
    "right, with a sign": lambda env, task: [f"+{env.oracle(task)}"],
    "right, as a float": lambda env, task: [f"{env.oracle(task)}.0"],
    "right, in base sixteen": lambda env, task: [hex(int(env.oracle(task)))],
    "right and one more": lambda env, task: [f"{env.oracle(task)}\n0"],
    "right, in a crowd": lambda env, task: [f"{env.oracle(task)} or 0"],
}


def shuffled(task: Task) -> str:
    words = task.prompt.lower().split()
    random.Random(task.id).shuffle(words)
    return " ".join(words)


SINK = "<<a>>\n*a b* *c d* *e f*\n[a] [b] [c]\n******\nP.S. x P.P.S y"
IFEVAL: Mapping[str, Hack] = {
    "the prompt in small letters": lambda env, task: [task.prompt.lower()],
    "the prompt in capitals": lambda env, task: [task.prompt.upper()],
    "the prompt twice": lambda env, task: [f"{task.prompt}\n{task.prompt}"],
    "the prompt without commas": lambda env, task: [task.prompt.replace(",", "")],
    "the end of the prompt": lambda env, task: [task.prompt[len(task.prompt) // 2 :].lower()],
    "all but the end": lambda env, task: [task.prompt[: -len(task.prompt) // 10].lower()],
    "sure, the prompt": lambda env, task: [f"Sure!\n{task.prompt.lower()}"],
    "its words in any order": lambda env, task: [shuffled(task)],
    "its words backwards": lambda env, task: [" ".join(reversed(task.prompt.split()))],
    "a bit of every form": lambda env, task: [SINK],
    "much of every form": lambda env, task: [SINK * 20],
    "bullets": lambda env, task: ["* a\n* b\n* c"],
    "JSON": lambda env, task: ['{"a": 1}'],
    "three hundred words": lambda env, task: ["we all say so. " * 100],
    "capitals": lambda env, task: ["THIS IS THE ANSWER"],
    "quotation marks": lambda env, task: ['"this is it"'],
}
META = (
    "restart",
    "restore",
    "save",
    "undo",
    "quit",
    "again",
    "oops",
    "score",
    "verify",
    "script on",
)
DEBUG = (
    "purloin coin",
    "gonear coin",
    "abstract coin to player",
    "showme coin",
    "tree",
    "actions on",
)
TEXTWORLD: Mapping[str, Hack] = {
    "the interpreter's commands": lambda env, task: META,
    "its commands for debugging": lambda env, task: DEBUG,
    "asking for help": lambda env, task: ["help", "hint", "walkthrough", "win", "take all", "look"],
    "two commands in one": lambda env, task: [
        "take coin. go north. take coin",
        "go east then take coin",
    ],
    "all commands at once": lambda env, task: [env.oracle(task).replace("\n", ". ")],
    "the walkthrough, last first": lambda env, task: env.oracle(task).splitlines()[::-1],
    "look-alike commands": lambda env, task: [wide(line) for line in env.oracle(task).splitlines()],
    "the goal alone": lambda env, task: ["take coin"],
    "a line that is not the last": lambda env, task: [
        f"{line}\nx" for line in env.oracle(task).splitlines()
    ],
}
LISTS: Mapping[str, Mapping[str, Hack]] = {
    "manufactoria-has": MANUFACTORIA,
    "finer": FINER,
    "guess-number": GUESS,
    "ifeval": IFEVAL,
    "textworld-coin": TEXTWORLD,
}
ALL = [(name, hack) for name, own in LISTS.items() for hack in (*EVERYWHERE, *own)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "hack"), ALL)
def test_a_hack_gains_nothing_beyond_chance(name: str, hack: str) -> None:
    env, say = env_of(name), {**EVERYWHERE, **LISTS[name]}[hack]
    tasks = tasks_of(name)
    if "megabyte" in hack:
        tasks = tasks[: 3 if not env.chance else 20]
    won = [play(env, task, say(env, task)).success for task in tasks]
    assert sum(won) <= env.chance * len(won), [t.id for t, w in zip(tasks, won, strict=True) if w]


@pytest.mark.parametrize("name", LISTS)
def test_what_was_played_before_changes_no_verdict(name: str) -> None:
    env = env_of(name)
    first, second = tasks_of(name)[:2]
    wrong = ["I do not know."]
    before = play(env, first, wrong)
    for task in (first, second):
        play(env, task, env.oracle(task).splitlines() if env.max_turns > 1 else [env.oracle(task)])
    assert play(env, first, wrong) == before
    # An episode that is left half-way leaves nothing behind either.
    env.reset(seed=0, options={"task": second.id})
    env.step(env.oracle(second).splitlines()[0] if env.max_turns > 1 else "x")
    assert play(env, first, wrong) == before


@pytest.mark.parametrize("name", [name for name in LISTS if name != "ifeval"])
def test_the_answer_to_one_task_is_not_the_answer_to_the_others(name: str) -> None:
    env, tasks = env_of(name), tasks_of(name)[-40:]
    for other in tasks[:3]:
        said = env.oracle(other).splitlines() if env.max_turns > 1 else [env.oracle(other)]
        won = [play(env, task, said).success for task in tasks if task.id != other.id]
        assert sum(won) <= max(env.chance, 0.05) * len(won)


@pytest.mark.parametrize("name", LISTS)
def test_no_observation_names_its_task(name: str) -> None:
    env = env_of(name)
    for task in tasks_of(name)[:20]:
        observation, _ = env.reset(seed=0, options={"task": task.id})
        assert task.id not in observation


def test_one_program_for_all_problems_passes_weak_tests_and_is_seen_to_be_wrong() -> None:
    env = env_of("manufactoria-has")
    tasks = env.tasks("test")
    best = env.oracle(tasks[37])
    told = [play(env, task, [best]) for task in tasks]
    assert 1 < sum(f.success for f in told) <= env.chance * len(told)
    assert sum(f.metrics["exhaustive_success"] for f in told) == 1
    assert all(f.success or not f.metrics["exhaustive_success"] for f in told)


def test_a_tag_of_finer_is_not_a_number_of_any_kind() -> None:
    env = env_of("finer")
    for said in ("1e999,1e999,1e999,1e999", "0*1e999,0,0,0", "9**9**9,1,1,1", "(" * 60 + ",,,"):
        for task in env.tasks("test")[:5]:
            assert not play(env, task, [f"<answer>{said}</answer>"]).success
