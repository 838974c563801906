"""A sound environment of one turn, one of several, and environments that each break a promise."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from resd_bench.env import Reply, TextEnv
from resd_bench.seeds import stream
from resd_bench.types import CaseResult, Feedback, Split, Task

SIZES: Mapping[Split, int] = {"train": 20, "validation": 5, "test": 10}


class SoundEnv(TextEnv):
    """Multiply two numbers.

    ## Description
    Two numbers are given; the answer is their product.

    ## Action Space
    Any string.

    ## Observation Space
    Any string.

    ## Rewards
    1 for the product, else 0.

    ## Episode End
    After one action.

    ## Information
    What every environment gives.

    ## Arguments
    `dialect` and `feedback_level`.

    ## Version History
    - v0: first version.
    """

    name = "sound"
    verify_seconds = 5.0

    def tasks(self, split: Split) -> Sequence[Task]:
        draw = stream(0, "sound", split)
        base = 100 * (1 + list(SIZES).index(split))
        return [
            Task(
                f"{split}-{i}",
                split,
                f"{'multiply ' if self.dialect == 'full' else ''}{base + i} {factor}",
                {"product": (base + i) * factor},
            )
            for i, factor in enumerate(draw.integers(100, 1000, size=SIZES[split]).tolist())
        ]

    def verify(self, task: Task, action: str) -> Feedback:
        product = str(task.data["product"])
        right = action.strip() == product
        kind = "pass" if right else "wrong_product"
        case = CaseResult("product", right, kind, f"you said {action[:20]!a}", product)
        return Feedback(
            float(right), right, float(right), (case,), "", kind, (0,), "" if right else product
        )

    def oracle(self, task: Task) -> str:
        return str(task.data["product"])


class StepsEnv(SoundEnv):
    """Say ready, say go, then the product: an oracle of several lines."""

    name = "sound-steps"
    max_turns = 5

    def opening(self, task: Task) -> str:
        self.said: list[str] = []
        return super().opening(task)

    def reply(self, task: Task, action: str) -> Reply:
        self.said.append(action.strip())
        if self.said == ["ready"]:
            return Reply("now say go")
        if self.said == ["ready", "go"]:
            return Reply("now the product")
        if self.said[:2] != ["ready", "go"]:
            return Reply(feedback=replace(self.verify(task, ""), kind="not_ready"))
        return Reply(feedback=self.verify(task, action))

    def oracle(self, task: Task) -> str:
        return f"ready\ngo\n{super().oracle(task)}"


class PromisesTooMuch(SoundEnv):
    __doc__ = SoundEnv.__doc__
    verify_seconds = 120.0


class TakesLonger(SoundEnv):
    __doc__ = SoundEnv.__doc__
    verify_seconds = 0.05

    def verify(self, task: Task, action: str) -> Feedback:
        if "select" in action:
            time.sleep(0.2)
        return super().verify(task, action)


class NoSections(SoundEnv):
    """Nothing to read here."""


class IgnoresItsSeed(SoundEnv):
    __doc__ = SoundEnv.__doc__

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=0, options=options)


class GlobalRandom(SoundEnv):
    __doc__ = SoundEnv.__doc__

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        options = options or {"task": f"train-{random.randrange(20)}"}
        return super().reset(seed=seed, options=options)


class HashOrder(SoundEnv):
    """Tasks in the order of a set."""

    def tasks(self, split: Split) -> Sequence[Task]:
        known = {task.id: task for task in super().tasks(split)}
        return [known[name] for name in set(known)]


class Overlaps(SoundEnv):
    def tasks(self, split: Split) -> Sequence[Task]:
        first = super().tasks("train")[0]
        return [*super().tasks(split)[1:], replace(first, id=f"{split}-0", split=split)]


class LeaksInPrompt(SoundEnv):
    def opening(self, task: Task) -> str:
        return f"{task.prompt} (not {task.data['product']})"


class LeaksInInfo(SoundEnv):
    def step(self, action: str) -> Any:
        task = self.task
        *rest, info = super().step(action)
        assert task is not None
        return *rest, {**info, "gold": task.data["product"]}


class LeaksInFeedback(SoundEnv):
    def verify(self, task: Task, action: str) -> Feedback:
        feedback = super().verify(task, action)
        case = replace(feedback.cases[0], detail=f"wanted {task.data['product']}, not that")
        return replace(feedback, cases=(case,))


class LeaksInObservation(StepsEnv):
    def reply(self, task: Task, action: str) -> Reply:
        if len(self.said) < 4:
            self.said.append(action)
            return Reply(f"hint: {task.data['product']}")
        return Reply(feedback=self.verify(task, action))


class LongAnswer(SoundEnv):
    """The answer is long, and one prompt in three shows it."""

    def verify(self, task: Task, action: str) -> Feedback:
        right = action == self.oracle(task)
        return Feedback(float(right), right, float(right), (CaseResult("answer", right, "x"),))

    def opening(self, task: Task) -> str:
        shown = int(task.id.rpartition("-")[2]) % 3 == 0
        return f"{task.prompt}\n{self.oracle(task)}" if shown else task.prompt

    def oracle(self, task: Task) -> str:
        return f"def product():\n    return {task.data['product']}"


class CrashesOnEmpty(SoundEnv):
    def verify(self, task: Task, action: str) -> Feedback:
        return super().verify(task, action if action[0] != " " else action[1:])


class CrashesOnSurrogates(SoundEnv):
    def verify(self, task: Task, action: str) -> Feedback:
        return super().verify(task, action.encode().decode())


class TalksTooMuch(SoundEnv):
    def step(self, action: str) -> Any:
        observation, reward, over, cut, info = super().step(action)
        info["feedback"] = replace(info["feedback"], text="no " * 1000)
        return observation, reward, over, cut, info


class DenseAtTheEnd(SoundEnv):
    def verify(self, task: Task, action: str) -> Feedback:
        feedback = super().verify(task, action)
        return feedback if feedback.success else replace(feedback, reward=0.25)


class DenseOnTheWay(StepsEnv):
    def step(self, action: str) -> Any:
        observation, reward, over, cut, info = super().step(action)
        return observation, reward if over else 0.1, over, cut, info

    def reply(self, task: Task, action: str) -> Reply:
        self.said.append(action)
        return Reply("go on") if len(self.said) < 3 else Reply(feedback=self.verify(task, action))


class OddScore(SoundEnv):
    def verify(self, task: Task, action: str) -> Feedback:
        return replace(super().verify(task, action), score=1.5)


class Remembers(SoundEnv):
    """The verdict depends on what was marked before."""

    marked = 0

    def verify(self, task: Task, action: str) -> Feedback:
        self.marked += 1
        return replace(super().verify(task, action), kind=f"attempt_{self.marked}")


class ChangesTheTask(SoundEnv):
    def tasks(self, split: Split) -> Sequence[Task]:
        if not hasattr(self, "kept"):
            self.kept: dict[Split, Sequence[Task]] = {}
        return self.kept.setdefault(split, super().tasks(split))

    def verify(self, task: Task, action: str) -> Feedback:
        assert isinstance(task.data, dict)
        task.data["seen"] = action
        return super().verify(task, action)


class SpeaksAtLevelZero(SoundEnv):
    def step(self, action: str) -> Any:
        observation, reward, over, cut, info = super().step(action)
        if self.feedback_level == 0:
            info["feedback"] = replace(info["feedback"], text="wrong")
        return observation, reward, over, cut, info


class ForgetsOnTheWayUp(SoundEnv):
    def step(self, action: str) -> Any:
        observation, reward, over, cut, info = super().step(action)
        if self.feedback_level == 4:
            info["feedback"] = replace(info["feedback"], text="it should have been otherwise")
        return observation, reward, over, cut, info


class Hopeless(SoundEnv):
    def oracle(self, task: Task) -> str:
        return "0" if task.id == "test-9" else super().oracle(task)


class Generous(SoundEnv):
    def verify(self, task: Task, action: str) -> Feedback:
        feedback = super().verify(task, action)
        return feedback if action else Feedback(1.0, True, 1.0, kind="pass")


class Echoes(SoundEnv):
    def verify(self, task: Task, action: str) -> Feedback:
        ok = action.strip() in (task.prompt, str(task.data["product"]))
        return super().verify(task, str(task.data["product"]) if ok else action)


class Endless(SoundEnv):
    def reply(self, task: Task, action: str) -> Reply:
        return Reply("go on")

    def step(self, action: str) -> Any:
        return "go on", 0.0, False, False, {}


class NoVerdict(SoundEnv):
    def step(self, action: str) -> Any:
        *rest, info = super().step(action)
        return *rest, {key: value for key, value in info.items() if key != "feedback"}


class Hangs(SoundEnv):
    """Thinks for ever about a blank answer."""

    name = "broken-hang"

    def verify(self, task: Task, action: str) -> Feedback:
        while action == " \n\t":
            time.sleep(1)
        return super().verify(task, action)


class AlwaysHangs(SoundEnv):
    """Never says anything."""

    name = "broken-hang-always"

    def verify(self, task: Task, action: str) -> Feedback:
        while True:
            pass


class EndsTheProcess(SoundEnv):
    """Ends the process on an odd answer."""

    name = "broken-exit"

    def verify(self, task: Task, action: str) -> Feedback:
        if "\x00" in action:
            os._exit(3)
        return super().verify(task, action)


NOT_A_SPEC = "a method"
