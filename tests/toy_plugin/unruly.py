"""An environment that does whatever its actions say, for tests of what survives it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from resd_bench.env import Reply, TextEnv
from resd_bench.types import Feedback, Split, Task

ODD = "\ud800 \x00\x07 naïve 🌍\r\n\u202e" + "x" * 1_000_000


class UnrulyEnv(TextEnv):
    """Says back what it hears, unless it is told to misbehave; `win` ends the episode."""

    name = "toy-unruly"
    max_turns = 6

    def tasks(self, split: Split) -> Sequence[Task]:
        return [Task(f"{split}-{i}", split, f"task {i}", {"number": i}) for i in range(6)]

    def opening(self, task: Task) -> str:
        self.heard: list[str] = []
        return ODD if task.data["number"] == 5 else task.prompt

    def reply(self, task: Task, action: str) -> Reply:
        self.heard.append(action)
        if action == "win":
            return Reply(feedback=Feedback(1.0, True, 1.0, text="", kind="|".join(self.heard)))
        if action == "raise":
            raise ValueError("it broke")
        if action == "exit":
            sys.exit(3)
        if action == "die":
            os._exit(3)
        if action == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if action == "sleep":
            time.sleep(3600)
        while action == "spin":
            pass
        return Reply(f"{len(self.heard)} {action}")


class IsolatedEnv(UnrulyEnv):
    """The same, which says that it must be kept apart."""

    isolated = True


class PromisingEnv(UnrulyEnv):
    """The same, which says that it answers any action soon."""

    verify_seconds = 1.0


class ForgetfulEnv(IsolatedEnv):
    """Says another thing in each process."""

    def reply(self, task: Task, action: str) -> Reply:
        reply = super().reply(task, action)
        return Reply(f"{reply.observation} {os.getpid()}", reply.feedback)


class SecretiveEnv(IsolatedEnv):
    """Puts into `info` what no other process can be told."""

    def _info(self, task: Task) -> dict[str, Any]:
        return super()._info(task) | {"secret": lambda: 1}


def promising() -> PromisingEnv:
    """Make an environment."""
    return PromisingEnv(feedback_level=2)


def isolated() -> IsolatedEnv:
    """Make an environment."""
    return IsolatedEnv()


class HangingEnv(IsolatedEnv):
    """Never begins an episode."""

    def opening(self, task: Task) -> str:
        time.sleep(3600)
        return ""


class SlowAgainEnv(IsolatedEnv):
    """Hangs in every process but the first that it is made in."""

    def reply(self, task: Task, action: str) -> Reply:
        marker = os.environ["TOY_FIRST"]
        if os.path.exists(marker) and not getattr(self, "first", False):
            time.sleep(3600)
        self.first = True
        open(marker, "w").close()
        return super().reply(task, action)


def hanging() -> HangingEnv:
    """Make an environment."""
    return HangingEnv()


def slow_again() -> SlowAgainEnv:
    """Make an environment."""
    return SlowAgainEnv()
