"""Environments that know nothing of answers that are cut off, light enough for worker processes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from resd_bench.env import Reply, TextEnv
from resd_bench.types import CaseResult, Feedback, Split, Task


class SilenceEnv(TextEnv):
    """Goes on as long as something is said; saying nothing wins."""

    name = "silence"
    max_turns = 6

    def tasks(self, split: Split) -> Sequence[Task]:
        return [Task(f"{split}-{n}", split, f"task {n}") for n in range(4)]

    def reply(self, task: Task, action: str) -> Reply:
        return Reply("go on") if action else Reply(feedback=Feedback(1.0, True, 1.0))


class StrictEnv(SilenceEnv):
    """Wants a yes; everything else is malformed."""

    name = "strict"
    max_turns = 1

    def reply(self, task: Task, action: str) -> Reply:
        assert isinstance(action, str)
        assert json.loads(json.dumps(action)) == action
        if action == "yes":
            return Reply(feedback=Feedback(1.0, True, 1.0))
        cases = (CaseResult("c", False, "malformed", "This is gibberish."),)
        return Reply(feedback=Feedback(0.0, False, 0.0, cases, kind="malformed", shown=(0,)))
