"""What calls return, and whether requests are fulfilled: the rule of the package, in the sandbox.

After each request the state of every class must equal that after the known calls, and everything
that the known calls of the request return must have been returned by then (multi_turn_checker.py
of bfcl-eval). An answer sends names and literals, never code; the sandbox bounds what calls with
odd arguments can cost. Each time, all calls so far are made again, after the known ones: what calls
leave behind in the process must not change what the known ones return.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resd_bench.files import reading
from resd_bench.sandbox import Limits, Sandbox
from resd_envs.bfcl.calls import ToolCall, calls_of
from resd_envs.bfcl.package import Scenario, source_of

EPISODE_LIMITS = Limits(call_cpu_s=4.0, total_cpu_s=5.0)

_RUN = '''
import copy, decimal, inspect, json

# The one function of another package that the classes use.
_MPMATH = """
class mpmath:
    class mp: dps = 15
    def log(value):
        return Decimal(value).ln(__import__("decimal").Context(prec=min(mpmath.mp.dps, 1000)))
"""

def _load(name):
    space = {"__name__": name}
    exec(compile(SOURCES[name].replace("import mpmath", _MPMATH), name, "exec"), space)
    return space[name]

def _make(name, kind, config):
    made = kind()
    if hasattr(made, "_load_scenario"):
        made._load_scenario(copy.deepcopy(config.get(name, {})), long_context=False)
    return made

def _do(objects, name, args, named):
    for one in reversed(objects.values()):
        method = getattr(one, name, None)
        if not name.startswith("_") and inspect.ismethod(method):
            break
    else:
        return f"Error during execution: there is no function {name}"
    try:
        # Some set the precision for all later calls.
        with decimal.localcontext(decimal.Context()):
            value = method(*args, **named)
    except Exception as error:
        return f"Error during execution: {error}"
    if isinstance(value, dict):
        try:
            return json.dumps(value)
        except TypeError:
            pass
    return str(value)

def _state(one):
    return {key: value for key, value in vars(one).items() if not key.startswith("_")}

def _states(objects):
    return {name: _state(one) for name, one in objects.items()}

def _known(objects, requests):
    for calls in requests:
        yield [_do(objects, *call) for call in calls], copy.deepcopy(_states(objects))

def _play(text):
    asked = json.loads(text)
    kinds = {name: _load(name) for name in asked["classes"]}
    ours, theirs = (
        {name: _make(name, kind, asked["config"]) for name, kind in kinds.items()}
        for _ in range(2)
    )
    wanted = list(_known(theirs, asked["truth"][: asked["ended"]]))
    results, wrong, seen = [], [], []
    for number, calls in enumerate(asked["turns"]):
        results.append([_do(ours, *call) for call in calls])
        seen += results[-1]
        if number >= asked["ended"]:
            break
        known, states = wanted[number]
        left, missing = list(seen), 0
        for one in known:
            if one in left:
                left.remove(one)
            else:
                missing += 1
        differ = [name for name, state in states.items() if _state(ours[name]) != state]
        reason = "no_calls" if known and not calls else ""
        reason = reason or (f"state of {', '.join(differ)}" if differ else "")
        wrong.append(reason or ("missing_result" if missing else "") if known else "")
    return json.dumps([results, wrong])
'''


@dataclass(frozen=True, slots=True)
class Played:
    """What calls led to."""

    results: list[list[str]]
    """What each call returned, by request."""
    wrong: list[str]
    """Why each request that has ended is not fulfilled: `no_calls`, `state of CLASS` or
    `missing_result`; "" where it is."""
    failed: str = ""
    """Why the calls could not be made: they take too long, or too much memory."""


def play(
    scenario: Scenario,
    turns: Sequence[Sequence[ToolCall]],
    ended: int,
    folder: Path,
    box: Sandbox,
) -> Played:
    """Make the calls of `turns`, and compare after each of the first `ended` requests."""
    asked = {
        "config": scenario.config,
        "classes": scenario.classes,
        "turns": turns,
        "truth": [[call for text in own for call in calls_of(text)] for own in scenario.truth],
        "ended": ended,
    }
    sources = {name: source_of(folder, name) for name in scenario.classes}
    (ran,) = box.run_program(
        f"SOURCES = {sources!r}\n{_RUN}",
        [{"args": [json.dumps(asked)]}],
        entry="_play",
        limits=EPISODE_LIMITS,
    ).cases
    if ran.kind != "ok" or not isinstance(ran.value, str):
        return Played([], [], f"{ran.kind}: {ran.detail}" if ran.detail else ran.kind)
    return Played(*reading.parse_json(ran.value))
