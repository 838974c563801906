"""Score answers with reasoning-gym in a process that can be killed, whatever an answer makes it do.

Scorers of the package parse answers with regular expressions, unbounded numbers, algebra and
Python's `eval`: ten characters can keep some of them busy for ever, or use up all memory. So they
run in a process of their own, which ends when an answer has used up its processor time or asks for
too much memory. Left out: what may be evaluated at all, which `reasoning_gym.py` decides.

    python -m resd_envs.reasoning_scorer      # what this module starts; it reads pickles
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping
from functools import cache
from typing import IO, Any

from resd_envs.reasoning_generators import generator

CPU_S = 10.0
"""Processor time for scoring one answer; algebra in honest answers takes some seconds."""
WALL_S = 60.0
"""Longest wait for a score, while the processor is idle or busy with other things."""
START_S = 50.0
"""Longest wait for the process, which imports the package first. Both together are less than an
environment may take for a step (`resd_bench.rollout.vector_env.DEADLINE`)."""
MEMORY_BYTES = 4 << 30
"""Address space of the process."""
LENGTH_BYTES = 8
READY = b"ready\n"
"""The first line of the process."""


class TooMuch(Exception):
    """Scoring an answer took more time or memory than it may."""


class Scorer:
    """A process that scores, started when it is first needed and again when it has ended."""

    def __init__(self, cpu_s: float = CPU_S, wall_s: float = WALL_S) -> None:
        self.cpu_s, self.wall_s = cpu_s, wall_s
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def score(self, dataset: str, options: str, answer: str, entry: Mapping[str, Any]) -> float:
        """The score by the package's scorer; NaN if it raises. TooMuch if it does not finish.

        `options` is the generator's config as JSON.
        """
        request = pickle.dumps((self.cpu_s, dataset, options, answer, dict(entry)))
        try:
            return self._ask(request)
        except BaseException:
            # A late answer must not be taken for the answer to the next question.
            self.close()
            raise

    def _ask(self, request: bytes) -> float:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        # A broken pipe is noticed when the answer is read.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(len(request).to_bytes(LENGTH_BYTES, "big") + request)
            process.stdin.flush()
        told = _line(process.stdout, self.wall_s)
        if not told:
            raise TooMuch
        return float(told)

    def _running(self) -> subprocess.Popen[bytes]:
        # A forked process must not use its parent's scorer.
        if self._process is None or self._process.poll() is not None or self._pid != os.getpid():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "resd_envs.reasoning_scorer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
                },
                start_new_session=True,
            )
            self._pid = os.getpid()
            assert self._process.stdout is not None
            if _line(self._process.stdout, START_S) != READY:
                raise RuntimeError("reasoning-gym cannot be imported in a process of its own")
        return self._process

    def close(self) -> None:
        """End the process, if it is this one's."""
        if self._process is not None and self._pid == os.getpid():
            self._process.kill()
            self._process.communicate()
        self._process = None


def _line(stream: IO[bytes], seconds: float) -> bytes:
    """The next line; empty if none comes in time or the other side has ended."""
    return stream.readline() if select.select([stream], [], [], seconds)[0] else b""


_of_thread = threading.local()


def shared() -> Scorer:
    """The scorer of this thread: a thread that gave up must not receive another's answer."""
    if not hasattr(_of_thread, "scorer"):
        _of_thread.scorer = Scorer()
    scorer: Scorer = _of_thread.scorer
    return scorer


# The other side.


@cache
def _dataset(name: str, options: str) -> Any:
    return generator(name, options, 1)


def _score(cpu_s: float, dataset: str, options: str, answer: str, entry: dict[str, Any]) -> float:
    """The package's verdict; NaN if there is none."""
    scorer = _dataset(dataset, options)
    # An expired timer ends the process, even in C code.
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        return float(scorer.score_answer(answer, entry))
    except Exception:
        # Scorers raise all kinds of errors for unexpected answers.
        return math.nan
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def serve(asked: IO[bytes], told: IO[bytes]) -> None:
    """Score answers until there are no more requests."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    import reasoning_gym  # noqa: F401

    told.write(READY)
    told.flush()
    while length := asked.read(LENGTH_BYTES):
        request = pickle.loads(asked.read(int.from_bytes(length, "big")))
        told.write(f"{_score(*request)!r}\n".encode())
        told.flush()


if __name__ == "__main__":
    # What scorers print must not be taken for a score.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    serve(sys.stdin.buffer, answers)
