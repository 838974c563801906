"""What a run is doing at the moment: its phase, and how many samples of it are done.

Sampling happens deep inside a run, in engines that know nothing of runs, so they say here what they
have done, and whoever shows progress looks it up. Nothing that is measured depends on it. Left out:
what other processes of a run do.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Lock

from resd_bench.budget import Purpose

PHASES: dict[Purpose, str] = {
    "rollout": "sampling",
    "reflection": "reflecting",
    "evaluation": "evaluating",
}
"""Phases that sample, by purpose; the others are `loading` and `training`."""


@dataclass
class Activity:
    """A phase, and how far it has come."""

    phase: str = "loading"
    total: int = 0
    """Samples or training examples of this phase; 0 where that is not known."""
    done: int = 0
    tokens: int = 0
    """Tokens sampled in this phase so far."""
    since: float = field(default_factory=time.monotonic)
    """When it began, on the monotonic clock."""
    until: float | None = None
    """When its last sample was complete; what follows is grading."""

    def rate(self, now: float) -> float:
        """Tokens per second of this phase."""
        return self.tokens / max((self.until or now) - self.since, 1e-3)


_now = Activity()
_lock = Lock()


def phase_begins(phase: str, total: int = 0) -> None:
    """A phase of `total` samples begins."""
    global _now
    with _lock:
        _now = Activity(phase, total)


def sampled(samples: int, tokens: int) -> None:
    """Add samples, or training examples, that are done, and tokens that were sampled."""
    with _lock:
        _now.done += samples
        _now.tokens += tokens


def settle(done: int, tokens: int) -> None:
    """What the phase did in all, from whoever knows it exactly."""
    with _lock:
        _now.done, _now.tokens, _now.until = done, tokens, time.monotonic()


def current() -> Activity:
    """What is being done now."""
    return _now
