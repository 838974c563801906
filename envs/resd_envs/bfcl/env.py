"""Fulfil a user's requests by calling functions: scenarios, turns, feedback.

The package is read in `package.py`, answers in `calls.py`, and calls are made in `episode.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from resd_bench.env import Reply, TextEnv
from resd_bench.sandbox import shared
from resd_bench.types import (
    SPLITS,
    CaseResult,
    Dialect,
    Feedback,
    Split,
    Task,
    TurnFeedback,
    was_cut_off,
)
from resd_envs.bfcl.calls import ToolCall, Unreadable, calls_of
from resd_envs.bfcl.episode import EPISODE_LIMITS, Played, play
from resd_envs.bfcl.package import Scenario, describe, find_package, functions_of, scenarios
from resd_envs.graded_cases import none_passed, some_failed

SPLIT_SHARES: Mapping[Split, range] = {
    "train": range(0, 60),
    "validation": range(60, 75),
    "test": range(75, 100),
}
"""Hundredths of the hash of a scenario's id."""
MAX_RESULT_CHARS = 4000
"""Of what one call returns that is shown."""
MAX_REPLY_CHARS = 16_000
"""Of what all calls of an answer return that is shown; the known calls return up to 600."""
OPENINGS: Mapping[Dialect, str] = {
    "full": (
        "Fulfil what a user asks for by calling these functions:\n\n{functions}\n\nAnswer with the "
        "calls alone, as Python: [f(a=1), g(b='x')]. You are then shown what they return, and can "
        "call more. When you have done what was asked for, answer `done` instead, and you are "
        "given the next request, if there is one.\n\n{request}"
    ),
    "compact": "{functions}\n[f(a=1)] or done\n{request}",
}


class BfclEnv(TextEnv):
    """Fulfil a user's requests by calling functions of simulated services: BFCL, multi-turn.

    ## Description
    The 200 scenarios `multi_turn_base` of the Berkeley Function Calling Leaderboard (Patil et al.
    2025, Apache-2.0): one to seven requests about files, cars, trades, travel, messages, posts,
    tickets and sums, whose functions keep their state in memory and say what is wrong with a call.
    They have no training split: by id, 60% are for training, 15% for validation, 25% for tests.
    **Contamination**: public since 2024, with their answers. Prompts are up to 10,000 characters
    long. Left out: a precision of more than 1,000 digits, and nested calls.

    ## Action Space
    Any string (`Utf8Text`). Calls with literal arguments, in the last fenced block or alone; an
    answer without a call ends the request, unless it was cut off.

    ## Observation Space
    Any string (`Utf8Text`): the functions and the first request; then what the calls returned, a
    line each, or the next request; last the feedback.

    ## Rewards
    1 if after every request the state of every service is that of the known calls, and what those
    return was returned, else 0. `info["score"]` is the share of requests of which that is true.

    ## Episode End
    With the end of the last request; truncated after 40 turns.

    ## Information
    `task_id`, `split`, `feedback_level`; at the end `feedback`, `success`, `score`, `stop_reason`.
    Feedback: 2 the number of requests that are fulfilled and the kind of failure (`no_calls`,
    `state`, `missing_result`, `turn_limit`; `timeout`, `memory` or `bad_output` where calls take
    too long, too much memory, or return more than 1 MB), 3 the first that is not, with the calls
    that were made, 4 the known calls, 5 those of all requests. After each step `turn` says whether
    calls could be read and made.

    ## Arguments
    - `dialect`: `full`, or `compact` with signatures alone.
    - `feedback_level`: 0 to 5. What calls return does not depend on it.

    ## Version History
    - v0: first version, from bfcl-eval 2026.3.23.
    """

    name = "bfcl"
    max_turns = 40
    verify_seconds = EPISODE_LIMITS.total_wall + 10.0

    def __init__(self, *, dialect: Dialect = "full", feedback_level: int = 3) -> None:
        super().__init__(dialect=dialect, feedback_level=feedback_level)
        self._folder = find_package()
        # A machine that cannot make calls should say so before any answer is sampled.
        shared()
        self._tasks = self.shared_tasks(self._folder)
        self._turns: list[list[ToolCall]] = [[]]
        """The calls so far, by request."""

    def tasks(self, split: Split) -> Sequence[Task]:
        """The scenarios of a split, in the order of the package."""
        if split not in self._tasks:
            own = [one for one in scenarios(self._folder) if _split_of(one) == split]
            self._tasks[split] = tuple(self._task(split, one) for one in own)
        return self._tasks[split]

    def _task(self, split: Split, scenario: Scenario) -> Task:
        offered = [
            describe(function, brief=self.dialect == "compact")
            for name in scenario.classes
            for function in functions_of(self._folder, name)
            if function["name"] not in scenario.excluded
        ]
        prompt = OPENINGS[self.dialect].format(
            functions="\n".join(offered), request=scenario.requests[0]
        )
        name = scenario.id.removeprefix("multi_turn_base_")
        return Task(f"{self.name}/{split}/{int(name):03d}", split, prompt, {"scenario": scenario})

    def opening(self, task: Task) -> str:
        """The functions and the first request; forgets the calls of the last episode."""
        self._turns = [[]]
        return task.prompt

    def reply(self, task: Task, action: str) -> Reply:
        """What the calls return; the next request if there are none."""
        scenario: Scenario = task.data["scenario"]
        try:
            calls = calls_of(action)
        except Unreadable as error:
            return Reply(str(error), turn=TurnFeedback("invalid", str(error)))
        if calls:
            return self._make(scenario, calls)
        if was_cut_off(action):
            return Reply(turn=TurnFeedback("invalid", "The answer was cut off before a call."))
        if len(self._turns) == len(scenario.requests):
            return Reply(feedback=self._verdict(scenario, len(self._turns)))
        self._turns.append([])
        return Reply(scenario.requests[len(self._turns) - 1])

    def _make(self, scenario: Scenario, calls: Sequence[ToolCall]) -> Reply:
        self._turns[-1] += calls
        played = self._play(scenario, len(self._turns) - 1)
        if played.failed:
            return Reply(feedback=_failed(scenario, played.failed))
        results = played.results[-1][-len(calls) :]
        errors = [text for text in results if '"error"' in text or text.startswith("Error")]
        word: TurnFeedback = TurnFeedback("changed")
        if len(errors) == len(results):
            word = TurnFeedback("invalid", "Every call failed.")
        told = "\n".join(text[:MAX_RESULT_CHARS] for text in results)
        return Reply(told[:MAX_REPLY_CHARS], turn=word)

    def _play(self, scenario: Scenario, ended: int) -> Played:
        return play(scenario, self._turns, ended, self._folder, shared())

    def _verdict(self, scenario: Scenario, ended: int) -> Feedback:
        """The verdict when `ended` requests have ended; those after them are not fulfilled."""
        played = self._play(scenario, ended)
        if played.failed:
            return _failed(scenario, played.failed)
        wrong = played.wrong + ["turn_limit"] * (len(scenario.requests) - ended)
        cases = [
            CaseResult(f"request {number}", not why, why.partition(" ")[0] or "pass")
            for number, why in enumerate(wrong, 1)
        ]
        if all(case.passed for case in cases):
            return Feedback(1.0, True, 1.0, tuple(cases))
        first = next(n for n, case in enumerate(cases) if not case.passed)
        made = self._turns[first] if first < len(self._turns) else []
        cases[first] = CaseResult(
            cases[first].name,
            False,
            cases[first].kind,
            f"request {first + 1}: {_REASONS[cases[first].kind].format(why=wrong[first])} "
            f"Calls: {', '.join(map(_written, made)) or 'none'}."[:600],
            _list_of(scenario.truth[first]),
        )
        return some_failed(cases, (first,), _solution(scenario))

    def give_up(self, task: Task) -> Feedback:
        """The verdict when the turns are used up."""
        return self._verdict(task.data["scenario"], len(self._turns) - 1)

    def oracle(self, task: Task) -> str:
        """The known calls of each request, and `done`, a line for each turn."""
        return _solution(task.data["scenario"])


_REASONS: Mapping[str, str] = {
    "no_calls": "nothing was called.",
    "state": "the {why} is not what was asked for.",
    "missing_result": "something that was asked for was not looked up.",
    "turn_limit": "it had not ended when the turns were used up.",
}


def _failed(scenario: Scenario, why: str) -> Feedback:
    """All requests failed, because calls could not be made."""
    kind = why.partition(":")[0]
    names = [f"request {number}" for number in range(1, len(scenario.requests) + 1)]
    detail = f"The calls could not be made: {why[:200]}."
    return none_passed(names, kind, detail, _solution(scenario))


def _written(call: ToolCall) -> str:
    name, args, named = call
    words = [*map(repr, args), *(f"{key}={value!r}" for key, value in named.items())]
    return f"{name}({', '.join(words)})"


def _list_of(calls: Sequence[str]) -> str:
    return f"[{', '.join(calls)}]"


def _solution(scenario: Scenario) -> str:
    return "\n".join(f"{_list_of(calls)}\ndone" if calls else "done" for calls in scenario.truth)


def _split_of(scenario: Scenario) -> Split:
    share = int(hashlib.sha256(scenario.id.encode()).hexdigest(), 16) % 100
    return next(split for split in SPLITS if share in SPLIT_SHARES[split])
