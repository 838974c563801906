"""Whether answers that succeed on `ifeval-one` are about what was asked, or have its form alone.

    python benchmarks/topics.py results/smollm2/ifeval-one

The verdicts of IFEval are about form: whoever babbles in it succeeds. For the kept answers of each
run's last evaluation (`results keep --answers`), a row says how many succeed, and how many of
these also name a word of the topic, ended by themselves, or both, and in how many one word is more
than a quarter of all words. Left out: whether there are two sentences, and whether they make sense.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from resd_bench.records.run_files import RunFiles, run_folders
from resd_bench.stats import wilson
from resd_envs.ifeval.prompts import ONE_TOPICS

SMALL = {"a", "an", "the", "who", "at", "on", "of", "in"}
OFTEN = 0.25
_STEM = 5
"""Letters of a word that must occur: "sings" is named by "singer"."""


class Answers(NamedTuple):
    """Of how many answers something holds."""

    total: int
    success: int
    topic: int
    """Of the successes, those that name a word of the topic."""
    ended: int
    """Of the successes, those that ended before the limit."""
    both: int
    repeated: int
    """Of the successes, those that consist to more than `OFTEN` of one word."""
    topic_of_all: int
    """Of all answers, those that name a word of the topic."""


def names_topic(prompt: str, answer: str) -> bool:
    """Whether `answer` has a word of the topic that `prompt` asks for; ValueError if it has none.

    The words of the instruction after the topic do not count.
    """
    topics = (topic for topics in ONE_TOPICS.values() for topic in topics)
    topic = next((topic for topic in topics if f" {topic}. " in prompt), None)
    if topic is None:
        raise ValueError(f"not a prompt of ifeval-one: {prompt!r}")
    words = [word for word in topic.lower().split() if word not in SMALL]
    return any(word[:_STEM] in answer.lower() for word in words)


def repeats(answer: str) -> bool:
    """Whether one word makes up more than `OFTEN` of the words of `answer`."""
    words = answer.lower().split()
    return max(map(words.count, set(words)), default=0) > OFTEN * len(words)


def look(rows: Sequence[Mapping[str, Any]]) -> Answers:
    """Count the answers of a run's last evaluation."""
    last = max(row["update"] for row in rows)
    seen = []
    for row in (row for row in rows if row["update"] == last):
        (turn,) = row["turns"]
        topic = names_topic(turn["messages"][-1]["content"], turn["response"])
        seen.append((bool(row["success"]), topic, turn["stop"] == "eos", turn["response"]))
    won = [(topic, ended, answer) for success, topic, ended, answer in seen if success]
    return Answers(
        len(seen),
        len(won),
        sum(topic for topic, _, _ in won),
        sum(ended for _, ended, _ in won),
        sum(topic and ended for topic, ended, _ in won),
        sum(repeats(answer) for _, _, answer in won),
        sum(topic for _, topic, _, _ in seen),
    )


def rows_of(root: Path) -> Iterator[str]:
    """A line of the table for each run at or below `root` that kept its answers."""
    for folder in run_folders(root):
        rows = RunFiles.at(folder).answers()
        if not rows:
            continue
        found = look(rows)
        low, high = wilson(found.both, found.total)
        within = f"{found.both / found.total:.1%} [{100 * low:.1f}, {100 * high:.1f}]"
        cells = (
            folder.parent.name,
            folder.name,
            f"{found.success} of {found.total}",
            found.topic,
            found.ended,
            f"{found.both} ({within})",
            found.repeated,
            found.topic_of_all,
        )
        yield f"| {' | '.join(map(str, cells))} |"


COLUMNS = (
    *("runs", "seed", "successes", "name the topic", "ended by themselves", "both"),
    *("one word repeated", "name the topic, of all"),
)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("runs", type=Path)
    given = arguments.parse_args()
    print(f"`python benchmarks/topics.py {given.runs}`\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{'---|' * len(COLUMNS)}")
    for line in rows_of(given.runs):
        print(line)


if __name__ == "__main__":
    main()
