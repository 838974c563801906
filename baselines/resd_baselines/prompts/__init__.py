"""The prompts of the methods, in three dialects, and the code that fills them.

`full/` is for real language models, with the order of sections in the paper's release but our own
wording; `plain/` is short, with a worked example in place of JSON, for small language models;
`compact/` is what the embedded model was trained on. A template is a text file with
`{field}` slots. Values are inserted literally, and a missing or unused field is an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from resd_bench.parsing import visible_answer
from resd_bench.types import PromptDialect, Turn

_FIELD = re.compile(r"\{([a-z_]+)\}")
_FOLDER = Path(__file__).parent


@cache
def _template(dialect: PromptDialect, name: str) -> str:
    path = _FOLDER / dialect / f"{name}.md"
    if not path.is_file():
        raise ValueError(
            f"dialect {dialect!r} has no prompt {name!r}: give 'full', 'plain' or 'compact'"
        )
    return path.read_text(encoding="utf-8").removesuffix("\n")


def fill(template: str, **values: str) -> str:
    """Insert each value into its `{field}`, once and literally.

    ValueError if a field has no value or a value has no field.
    """
    fields = set(_FIELD.findall(template))
    if fields != values.keys():
        missing, unused = sorted(fields - values.keys()), sorted(values.keys() - fields)
        raise ValueError(f"the template lacks values for {missing} and does not use {unused}")
    return _FIELD.sub(lambda match: values[match[1]], template)


_PLAIN = {
    "playbook": "\nRules that help: \n{}\n",
    "attempt": "\nA wrong answer to the task: {}\n",
    "feedback": "\nWhat was wrong: {}\n",
    "reflection": "\nA note on it:\n{}\n",
    "solution": "\nA right answer to the task: {}\n",
}
"""Sections of plain prompts."""


def _block(dialect: PromptDialect, tag: str, value: str) -> str:
    """A section of a compact or plain prompt; empty for a blank value."""
    if not value.strip():
        return ""
    return f"\n<{tag}>\n{value}" if dialect == "compact" else _PLAIN[tag].format(value)


def _wrapped(name: str, **values: str) -> str:
    """A section of a full prompt with its own sentence; empty for blank values."""
    return fill(_template("full", name), **values) if any(map(str.strip, values.values())) else ""


class PromptPack:
    """Every prompt that the built-in methods send to the model, as functions of strings.

    `dialect` is `full`, `plain` or `compact`; a blank `playbook`, `feedback` and so on means there
    is none.
    """

    def attempt(self, turns: Sequence[Turn]) -> str:
        """An attempt as prompts show it, without thinking.

        If there are several turns, actions (after `> `) and the observations between them, one line
        each.
        """
        if len(turns) == 1:
            return visible_answer(turns[0].completion.text)
        lines: list[str] = []
        for number, turn in enumerate(turns):
            if number and turn.messages:
                # A tag in an observation does not begin or end thinking.
                lines.append(turn.messages[-1].content.replace("think>", "think >"))
            lines.append(f"> {visible_answer(turn.completion.text)}")
        return "\n".join(lines)

    def reflect(
        self, dialect: PromptDialect, *, prompt: str, response: str, feedback: str, playbook: str
    ) -> str:
        """Ask why an attempt failed, and which playbook entries would have helped (section 3.1)."""
        if dialect != "full":
            playbook = _block(dialect, "playbook", playbook)
            feedback = _block(dialect, "feedback", feedback)
        return fill(
            _template(dialect, "reflect"),
            prompt=prompt,
            response=response,
            feedback=feedback,
            playbook=playbook,
        )

    def diagnose(
        self,
        dialect: PromptDialect,
        *,
        prompt: str,
        actions: Sequence[str],
        observations: Sequence[str],
        outcome: str,
    ) -> str:
        """Ask for a diagnosis of each turn of an interaction that is over.

        An observation is what followed the action; `outcome` says how it ended.
        """
        turns = zip(actions, observations, strict=True)
        if dialect != "full":
            lines = [f"{n} > {said}\n{seen}" for n, (said, seen) in enumerate(turns, 1)]
            shown = "\n".join(line.rstrip("\n") for line in lines)
        else:
            lines = [
                f"## Turn {n}\nAnswer: {said}\nWhat followed: {seen}"
                for n, (said, seen) in enumerate(turns, 1)
            ]
            shown = "\n\n".join(lines)
        return fill(_template(dialect, "diagnose"), prompt=prompt, turns=shown, outcome=outcome)

    def tag(self, dialect: PromptDialect, *, prompt: str, response: str, playbook: str) -> str:
        """Ask which playbook entries fit a successful attempt (appendix G)."""
        if dialect != "full":
            playbook = _block(dialect, "playbook", playbook)
        template = _template(dialect, "tag")
        return fill(template, prompt=prompt, response=response, playbook=playbook)

    def curate(
        self,
        dialect: PromptDialect,
        *,
        reflection: str,
        playbook: str,
        prompt: str = "",
        stats: str = "",
    ) -> str:
        """Ask for new playbook entries from a reflection (section 3.2).

        Only the full dialect shows the task and `stats` (indented JSON).
        """
        template = _template(dialect, "curate")
        if dialect != "full":
            shown = _block(dialect, "playbook", playbook)
            return fill(template, reflection=reflection, playbook=shown)
        return fill(template, prompt=prompt, reflection=reflection, playbook=playbook, stats=stats)

    def teacher(
        self,
        dialect: PromptDialect,
        *,
        prompt: str,
        playbook: str,
        previous_trial: str,
        feedback: str,
        reflection: str,
        solution: str,
    ) -> str:
        """The question with all privileged context, for RESD's teacher (section 3.3)."""
        if dialect != "full":
            filled = fill(
                _template(dialect, "teacher"),
                prompt=prompt,
                playbook=_block(dialect, "playbook", playbook),
                previous_trial=_block(dialect, "attempt", previous_trial),
                feedback=_block(dialect, "feedback", feedback),
                reflection=_block(dialect, "reflection", reflection),
                solution=_block(dialect, "solution", solution),
            )
            return filled if dialect == "compact" else filled.lstrip("\n")
        return fill(
            _template(dialect, "teacher"),
            prompt=prompt,
            playbook=playbook,
            previous_trial=previous_trial,
            feedback=_wrapped("feedback", feedback=feedback),
            reflection=reflection,
            solution=_wrapped("solution", solution=solution),
        )

    def turn_teacher(self, dialect: PromptDialect, *, prompt: str, **known: str) -> str:
        """The message that a turn answers with what is known about the answer given to it.

        `known` has the sections of `teacher`: the answer, what followed it, its diagnosis.
        """
        if dialect != "full":
            return self.teacher(dialect, prompt=prompt, **known)
        return fill(_template(dialect, "turn_teacher"), prompt=prompt, **known)

    def student(self, dialect: PromptDialect, *, prompt: str, playbook: str) -> str:
        """The question with a playbook, for a policy that learns in its context (ACE, GEPA)."""
        if dialect == "full":
            return fill(_template(dialect, "student"), prompt=prompt, playbook=playbook)
        none = dict.fromkeys(("previous_trial", "feedback", "reflection", "solution"), "")
        return self.teacher(dialect, prompt=prompt, playbook=playbook, **none)

    def sdpo_teacher(
        self,
        dialect: PromptDialect,
        *,
        prompt: str,
        previous_trial: str,
        solution: str,
        feedback: str,
    ) -> str:
        """The question with a solution or feedback, for the teacher of SDPO."""
        if dialect != "full":
            return self.teacher(
                dialect,
                prompt=prompt,
                playbook="",
                previous_trial=previous_trial,
                feedback=feedback,
                reflection="",
                solution=solution,
            )
        return fill(
            _template(dialect, "sdpo_teacher"),
            prompt=prompt,
            previous_trial=_wrapped("previous_trial", previous_trial=previous_trial),
            solution=_wrapped("solution", solution=solution),
            feedback=_wrapped("feedback", feedback=feedback),
        )


PACK = PromptPack()
"""The object of the entry point `resd` in the group `resd_bench.prompts`."""
