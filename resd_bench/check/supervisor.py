"""Examine a plugin in a process of its own, under a deadline for every single call.

The child reports what it is about to do before it does it. If that takes too long, the child and
everything it started are killed, the current property fails with the name of the call, and a new
child continues with the next property. Needs a POSIX system. Left out: limits on memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection, Pipe
from typing import Any, Literal, NamedTuple

from resd_bench.check.cpu_deadline import answers_in_time
from resd_bench.check.result import PropertyFailed, PropertyVerdict, Skipped

_Kind = Literal["env", "method", "engine"]

_DEADLINE = 60.0
"""Seconds a single call may take, on a machine that is not busy (see `cpu_deadline`)."""
_START = 300.0
"""Seconds a process may take to start and to import the plugin, whatever the deadline: a busy
machine must not look like a plugin that hangs."""
MOST_HANGS = 2
"""After this many calls that never returned, the rest is not examined."""
IN_TIME = "deadline"
"""The property whose verdict this module itself gives."""


class ChildMessage(NamedTuple):
    """A message from the child."""

    what: Literal["begins", "calls", "finds", "ends"]
    text: str
    verdict: PropertyVerdict | None = None
    starts_processes: bool = False


def property_names(kind: _Kind = "env") -> list[str]:
    """The names of the properties, in the order they are examined."""
    return [*_table(kind), IN_TIME]


def check(
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    deadline: float = _DEADLINE,
    seconds: float = 3.0,
) -> Iterator[PropertyVerdict]:
    """Examine the installed environment `name`, made with `options`; a verdict per property.

    `only` names the properties to examine, `deadline` is the longest a single call may take and
    `seconds` how long sampled properties go on. Yields verdicts as they are found.
    """
    return _examine("env", name, options or {}, only, deadline, seconds)


def check_method(
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    deadline: float = _DEADLINE,
) -> Iterator[PropertyVerdict]:
    """Examine the installed method `name` in the same way."""
    return _examine("method", name, options or {}, only, deadline, 0.0)


def check_engine(
    name: str,
    *,
    model: str | None = None,
    options: Mapping[str, Any] | None = None,
    device: str | None = None,
    only: Sequence[str] = (),
    deadline: float = _DEADLINE,
    tolerance: float | None = None,
) -> Iterator[PropertyVerdict]:
    """Examine the installed engine `name` in the same way, on `model` or a small random one.

    `options` are settings of `PolicyConfig`, `device` is the model's device, and `tolerance` is how
    much log-probabilities may differ.
    """
    made: dict[str, Any] = {"model": model, "options": dict(options or {}), "device": device}
    made["tolerance"] = tolerance
    return _examine("engine", name, made, only, deadline, 0.0)


def _table(kind: _Kind) -> dict[str, Any]:
    if kind == "engine":
        from resd_bench.check.engine_properties import ENGINE_PROPERTIES

        return dict(ENGINE_PROPERTIES)
    if kind == "method":
        from resd_bench.check.method_properties import METHOD_PROPERTIES

        return dict(METHOD_PROPERTIES)
    from resd_bench.check.environments import ENV_PROPERTIES

    return dict(ENV_PROPERTIES)


def _examine(
    kind: _Kind,
    name: str,
    options: Mapping[str, Any],
    only: Sequence[str],
    deadline: float,
    seconds: float,
) -> Iterator[PropertyVerdict]:
    left = [p for p in _table(kind) if not only or p in only]
    hangs: list[str] = []
    slowest = ""
    while left and len(hangs) < MOST_HANGS:
        order = {"kind": kind, "name": name, "options": dict(options), "properties": left}
        for said in _listen(order | {"seconds": seconds, "deadline": deadline}, deadline):
            if said.verdict is None:
                slowest = said.text
                continue
            if said.what == "ends":
                hangs.append(said.verdict.evidence)
            yield said.verdict
            left = left[left.index(said.verdict.name) + 1 :]
    for unseen in left:
        yield PropertyVerdict(unseen, "skip", "not examined: see the calls that did not return")
    if not only or IN_TIME in only:
        state: Literal["FAIL", "pass"] = "FAIL" if hangs else "pass"
        evidence = hangs[0] if hangs else f"every call within {deadline:g} s; slowest {slowest}"
        yield PropertyVerdict(IN_TIME, state, evidence)


def _listen(order: Mapping[str, Any], deadline: float) -> Iterator[ChildMessage]:
    """Run a child on `order`; yields its verdicts, and one on its end if it did not end well."""
    mine, its = Pipe(duplex=False)
    child = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "resd_bench.check.supervisor",
            str(its.fileno()),
            json.dumps(order),
        ],
        pass_fds=[its.fileno()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    its.close()
    try:
        yield from _hear(mine, child, order["properties"], deadline)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        mine.close()


def _hear(
    connection: Connection, child: subprocess.Popen[bytes], ahead: Sequence[str], deadline: float
) -> Iterator[ChildMessage]:
    current, doing, wait = ahead[0], "starting", _START
    while True:
        if not answers_in_time(connection, child.pid, wait):
            reason = f"{doing} did not return within {wait:g} s"
            yield ChildMessage("ends", reason, PropertyVerdict(current, "FAIL", reason))
            return
        try:
            said: ChildMessage = connection.recv()
        except (EOFError, OSError):
            reason = f"{doing} ended the process: {_how_it_ended(child)}"
            yield ChildMessage("finds", reason, PropertyVerdict(current, "FAIL", reason))
            return
        if said.what == "begins":
            current, doing, wait = said.text, said.text, max(_START, deadline)
        elif said.what == "calls":
            doing = said.text
            wait = max(_START, deadline) if said.starts_processes else deadline
        else:
            yield said
            if said.what == "ends":
                return


def _how_it_ended(child: subprocess.Popen[bytes]) -> str:
    try:
        code = child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "it closed the connection"
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _serve(connection: Connection, order: Mapping[str, Any]) -> None:
    """The child: make the subject, examine each property, and report."""
    subject = _subject(order["kind"], order["name"], order["options"])

    def watch(doing: str, starts_processes: bool = False) -> None:
        connection.send(ChildMessage("calls", doing, starts_processes=starts_processes))

    subject.watch = watch
    subject.seconds, subject.deadline = order["seconds"], max(_START, order["deadline"])
    table = _table(order["kind"])
    for chosen in order["properties"]:
        connection.send(ChildMessage("begins", chosen))
        verdict = run_property(chosen, table[chosen], subject)
        connection.send(ChildMessage("finds", verdict.evidence, verdict))
    seconds, doing = subject.slowest
    connection.send(ChildMessage("ends", f"{seconds:.2f} s: {doing}"))


def _subject(kind: _Kind, name: str, options: Mapping[str, Any]) -> Any:
    """The plugin to examine."""
    if kind == "method":
        from resd_bench.check.method_properties import MethodSubject

        return MethodSubject(name, options=options, installed=True)
    if kind == "engine":
        from resd_bench.check.engine_subject import EngineSubject

        given = {key: value for key, value in options.items() if value is not None}
        return EngineSubject(name, installed=True, **given)
    from resd_bench import plugins
    from resd_bench.check.env_subject import Subject

    make = partial(plugins.make_env, name, **options)
    return Subject(name, make, installed=True, options=dict(options))


def run_property(name: str, prove: Any, subject: Any) -> PropertyVerdict:
    """The verdict on one property; anything the plugin raises makes it fail."""
    try:
        return PropertyVerdict(name, "pass", prove(subject))
    except Skipped as skipped:
        return PropertyVerdict(name, "skip", str(skipped))
    except PropertyFailed as broken:
        return PropertyVerdict(name, "FAIL", str(broken))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raised = f"{type(error).__name__}: {str(error)[:300]}"
        doing = f"{subject.doing} raised " if subject.doing else ""
        return PropertyVerdict(name, "FAIL", f"{doing}{raised} ({where.filename}:{where.lineno})")


if __name__ == "__main__":
    # Run as __main__, this module's `ChildMessage` would be another class than the parent's.
    from resd_bench.check import supervisor

    supervisor._serve(Connection(int(sys.argv[1]), readable=False), json.loads(sys.argv[2]))
