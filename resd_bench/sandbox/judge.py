"""From a program and its cases to verdicts: what is sent, what is read, and what it means.

The expected values stay here. The parent continues after a wrong answer, so a program learns
nothing about the verdict; after a fatal event the remaining cases get the same kind and are not
run.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

from resd_bench.errors import UsageError
from resd_bench.sandbox import plain, wire
from resd_bench.sandbox.compare import Tolerance, same, same_text
from resd_bench.sandbox.limits import Limits
from resd_bench.sandbox.processes import Child, Deadline, Exit, Over, Source, Zygote
from resd_bench.sandbox.results import Kind, ProgramCase, ProgramResult, ascii_detail

REPORT_BYTES = 1 << 16
"""Maximum bytes of a report that carries no value."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A kind, and the reason for it."""

    kind: Kind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class _Job:
    """One program to judge."""

    code: str
    preamble: str
    """Runs before the code, in the same namespace."""
    entry: str | None
    cases: Sequence[Mapping[str, Any]]
    limits: Limits
    tolerance: Tolerance
    inputs: tuple[Any, ...]
    """What is sent for each case: the line of a call, or the bytes of standard input."""

    def within(self, wall_s: float) -> _Job:
        """The same job with at most `wall_s` seconds of wall time in total."""
        return replace(self, limits=replace(self.limits, total_wall_s=wall_s))


def make_job(
    code: str,
    preamble: str,
    cases: Sequence[Mapping[str, Any]],
    entry: str | None,
    limits: Limits,
    tolerance: Tolerance,
) -> _Job:
    """A validated job: a mistake of the caller's must not look like one of the program's.

    UsageError for cases that lack something, or hold something that cannot be sent.
    """
    needed = "stdin" if entry is None else "args"
    inputs: list[Any] = []
    for number, case in enumerate(cases):
        if needed not in case:
            raise UsageError(
                f"case {number} has only {sorted(case)}: with entry={entry!r} it needs {needed!r}"
            )
        try:
            inputs.append(_stdin_bytes(case) if entry is None else _call_line(case))
        except plain.NotPlain as error:
            raise UsageError(f"the arguments of case {number} cannot be sent: {error}") from None
    return _Job(code, preamble, entry, cases, limits, tolerance, tuple(inputs))


def _stdin_bytes(case: Mapping[str, Any]) -> bytes:
    text: str = case["stdin"]
    return text.encode("utf-8", "surrogatepass")


def _call_line(case: Mapping[str, Any]) -> dict[str, Any]:
    everything = sys.maxsize
    apply = case.get("apply")
    if apply is not None and apply not in plain.APPLICABLE:
        known = ", ".join(plain.APPLICABLE)
        raise UsageError(f"a case asks to apply {apply!r}: expected one of {known}")
    line = {
        "args": [plain.encode(argument, everything) for argument in case["args"]],
        "kwargs": {
            name: plain.encode(argument, everything)
            for name, argument in case.get("kwargs", {}).items()
        },
    }
    return line if apply is None else {**line, "apply": apply}


def judge_program(zygote: Zygote, job: _Job, level: str) -> ProgramResult:
    """Run the program's cases on `zygote`; SandboxError if the sandbox itself fails."""
    if job.entry is None:
        return _judge_script(zygote, job, level)
    return _Calls(job).run(zygote, level)


def refuse(job: _Job, level: str, verdict: Judgement) -> ProgramResult:
    """The same verdict for every case of a program that was not run."""
    return ProgramResult(tuple(ProgramCase(verdict.kind, verdict.detail) for _ in job.cases), level)


class _Calls:
    """Runs a program that is loaded once and called once per case."""

    def __init__(self, job: _Job) -> None:
        self.job = job
        self.begin = time.monotonic()
        self.results: list[ProgramCase] = []
        self.bytes_read = 0

    def run(self, zygote: Zygote, level: str) -> ProgramResult:
        with Child(zygote, "calls", self.job.limits, []) as child:
            self.begin = time.monotonic()
            stop = self._load(child)
            for case, line in zip(self.job.cases, self.job.inputs, strict=True):
                if stop is not None:
                    break
                stop = self._call(child, case, line)
        if stop is not None:
            self._fill(
                stop if isinstance(stop, Judgement) else _stopped(stop, child.exit, self.job)
            )
        end = child.exit
        wall_s = time.monotonic() - self.begin
        return ProgramResult(tuple(self.results), level, end.cpu_s, end.maxrss_kb / 1024, wall_s)

    def _deadline(self, child: Child) -> Deadline:
        limits, now = self.job.limits, time.monotonic()
        wall = min(now + limits.call_wall, self.begin + limits.total_wall)
        return Deadline(wall, min(child.cpu_s() + limits.call_cpu_s, limits.total_cpu_s))

    def _load(self, child: Child) -> Judgement | Over | None:
        """Send and load the program; returns what makes it pointless to continue, if anything."""
        deadline = self._deadline(child)
        head = {
            "code": self.job.code,
            "preamble": self.job.preamble,
            "entry": self.job.entry,
            "max_values": self.job.limits.max_values,
        }
        if over := child.send(head, deadline):
            return over
        line = child.line(REPORT_BYTES, deadline)
        if isinstance(line, str):
            return line
        try:
            key, body = wire.read_report(line)
        except Exception as error:
            return _unjudged(error)
        if key != "load":
            return Judgement("bad_output", "an unexpected report")
        return None if body is None else _exception(body)

    def _call(self, child: Child, case: Mapping[str, Any], line: Any) -> Judgement | Over | None:
        """Judge one call; returns what makes it pointless to continue, if anything."""
        limits, deadline = self.job.limits, self._deadline(child)
        cpu_before, wall_before = child.cpu_s(), time.monotonic()
        if over := child.send(line, deadline):
            return over
        answer = child.line(limits.output_bytes, deadline)
        if isinstance(answer, str):
            return answer
        self.bytes_read += len(answer)
        if self.bytes_read > limits.total_output_bytes:
            return Judgement("bad_output", "the results are too long together")
        cpu_s = max(0.0, child.cpu_s() - cpu_before)
        verdict, value = _answered(answer, case, self.job.tolerance)
        if cpu_s > limits.call_cpu_s and verdict.kind == "ok":
            verdict = Judgement("timeout", "right, but over the processor time")
        wall_s = time.monotonic() - wall_before
        self.results.append(ProgramCase(verdict.kind, verdict.detail, value, cpu_s, wall_s))
        return None

    def _fill(self, verdict: Judgement) -> None:
        detail = verdict.detail
        for place in range(len(self.job.cases) - len(self.results)):
            self.results.append(ProgramCase(verdict.kind, detail, ran=place == 0))
            detail = f"not run: {verdict.detail}"


def _answered(line: bytes, case: Mapping[str, Any], tolerance: Tolerance) -> tuple[Judgement, Any]:
    """The verdict on one answer, and its value."""
    try:
        key, body = wire.read_report(line)
        if key == "ex":
            return _exception(body), None
        if key != "v":
            return Judgement(
                "bad_output", ascii_detail(body if key == "bad" else "no answer")
            ), None
        reader = wire.Reader()
        value = reader.value(body)
        if "expected" in case:
            kind: Kind = "ok" if same(case["expected"], value, tolerance) else "wrong"
            return Judgement(kind), None if reader.unprintable else value
    except Exception as error:
        return _unjudged(error), None
    if reader.unprintable:
        return Judgement("bad_output", "an integer of too many digits"), None
    return Judgement("ok"), value


def _unjudged(error: Exception) -> Judgement:
    """The verdict on an answer that could not be read or compared.

    Any error that a program's output causes here is the program's fault, and it must be judged.
    """
    if isinstance(error, wire.BadWire):
        return Judgement("bad_output", ascii_detail(error))
    return Judgement("verifier_limit", ascii_detail(f"{type(error).__name__}: {error}"))


def _exception(body: Any) -> Judgement:
    """The verdict on a reported exception: a claim, which only chooses among the failures."""
    if type(body) is not list or len(body) != 3 or not all(type(b) is str for b in body[:2]):
        return Judgement("bad_output", "a malformed report")
    name, message, line = body
    kinds: dict[str, Kind] = {"MemoryError": "memory", "PermissionError": "forbidden"}
    where = f" (line {line})" if type(line) is int else ""
    return Judgement(kinds.get(name, "crash"), ascii_detail(f"{name}: {message}") + where)


def _stopped(over: Over, end: Exit, job: _Job) -> Judgement:
    """The verdict on a child that gave no answer."""
    if end.threads:
        return Judgement("forbidden", f"{end.threads} threads at once, over {job.limits.threads}")
    if over == "wall":
        return Judgement("timeout", "over the wall time")
    if over == "cpu":
        return Judgement("timeout", "over the processor time")
    if over == "size":
        return Judgement("bad_output", "the output is too long")
    if not os.WIFSIGNALED(end.status):
        status = os.WEXITSTATUS(end.status)
        return Judgement("crash", f"ended with status {status} before it answered")
    number = os.WTERMSIG(end.status)
    if number == signal.SIGSYS:
        return Judgement("forbidden", "a forbidden system call")
    if number == signal.SIGXCPU or (
        number == signal.SIGKILL and end.cpu_s >= job.limits.total_cpu_s
    ):
        return Judgement("timeout", "over the processor time of the program")
    if number == signal.SIGKILL:
        return Judgement("memory", "killed from outside: the system's memory was out")
    return Judgement("crash", f"died of {signal.Signals(number).name}")


def _judge_script(zygote: Zygote, job: _Job, level: str) -> ProgramResult:
    """Judge a program that is run once per case, from standard input to standard output."""
    begin = time.monotonic()
    results: list[ProgramCase] = []
    cpu_s, maxrss_kb = 0.0, 0
    for case, stdin in zip(job.cases, job.inputs, strict=True):
        left_s = job.limits.total_cpu_s - cpu_s
        if left_s <= 0 or time.monotonic() - begin >= job.limits.total_wall:
            why = "not run: the program's whole time is used up"
            results.append(ProgramCase("timeout", why, ran=False))
            continue
        script = _Script(job, case, stdin, min(job.limits.call_cpu_s, left_s))
        results.append(script.run(zygote, begin + job.limits.total_wall))
        cpu_s += script.exit.cpu_s
        maxrss_kb = max(maxrss_kb, script.exit.maxrss_kb)
    wall_s = time.monotonic() - begin
    return ProgramResult(tuple(results), level, cpu_s, maxrss_kb / 1024, wall_s)


class _Script:
    """One run of a script on one case."""

    def __init__(self, job: _Job, case: Mapping[str, Any], stdin: bytes, cpu_s: float) -> None:
        self.job, self.case, self.stdin, self.cpu_s = job, case, stdin, cpu_s
        self.exit = Exit(0, 0.0, 0)

    def run(self, zygote: Zygote, wall_end: float) -> ProgramCase:
        begin = time.monotonic()
        reading, writing = os.pipe()
        output = Source(reading)
        try:
            os.set_blocking(reading, False)
            child = self._fork(zygote, writing)
            with child:
                wall = min(wall_end, time.monotonic() + self.job.limits.call_wall)
                deadline = Deadline(wall, child.cpu_s() + self.cpu_s)
                head = {"code": self.job.code, "preamble": self.job.preamble}
                over = child.send(head, deadline)
                while over is None:
                    over = child.more(output, self.job.limits.output_bytes, deadline)
                said = child.channel
                while over == "dead" and len(said.data) < REPORT_BYTES and said.read():
                    pass
            self.exit = child.exit
        finally:
            os.close(reading)
        verdict, text = self._verdict(over, child, bytes(output.data))
        wall_s = time.monotonic() - begin
        return ProgramCase(verdict.kind, verdict.detail, text, self.exit.cpu_s, wall_s)

    def _fork(self, zygote: Zygote, writing: int) -> Child:
        # Not a pipe, because programs may ask for the size of their input, or map it.
        try:
            with _anonymous_file() as stdin:
                stdin.write(self.stdin)
                stdin.seek(0)
                return Child(zygote, "stdin", self.job.limits, [stdin.fileno(), writing])
        finally:
            os.close(writing)

    def _verdict(self, over: Over, child: Child, output: bytes) -> tuple[Judgement, str | None]:
        if over != "dead" or os.WIFSIGNALED(self.exit.status):
            return _stopped(over, self.exit, self.job), None
        if self.exit.status != 0:
            return _claimed(child.channel) or _stopped(over, self.exit, self.job), None
        try:
            text = output.decode("utf-8")
        except UnicodeDecodeError:
            return Judgement("bad_output", "the output is not UTF-8"), None
        try:
            right = "expected" not in self.case or same_text(
                self.case["expected"], text, self.job.tolerance
            )
        except Exception as error:
            return _unjudged(error), None
        return Judgement("ok" if right else "wrong"), text


def _anonymous_file() -> IO[bytes]:
    # In memory if possible: Landlock lets programs open that again, as /dev/stdin.
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("stdin"), "w+b")
    return tempfile.TemporaryFile()


def _claimed(channel: Source) -> Judgement | None:
    """The verdict on the exception that a failed script reported, if it reported one."""
    try:
        key, body = wire.read_report(bytes(channel.data[:REPORT_BYTES]).partition(b"\n")[0])
    except Exception:
        return None
    return _exception(body) if key == "ex" else None
