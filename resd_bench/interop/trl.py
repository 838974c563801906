"""Our environments for TRL: a dataset of prompts, a reward function, an environment with turns.

    env = make_env("manufactoria-has", dialect="compact")
    GRPOTrainer(model=..., train_dataset=dataset(env), reward_funcs=RewardFunction(env), args=...)

`environment_factory` is for episodes of several turns: the model acts by calling one tool, `act`.
Left out: training itself, and feedback, which GRPO does not read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import repeat
from typing import Any

from resd_bench import plugins
from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.types import Answer, Split, Stop, Task


def dataset(env: TextEnv, split: Split = "train", tasks: Sequence[Task] | None = None) -> Any:
    """A `datasets.Dataset` with a row for each task: `prompt` (a chat), `task` (its id), `split`.

    `tasks` are those of the split in another order, or some of them. UsageError without the package
    `datasets`.
    """
    try:
        from datasets import Dataset
    except ImportError:
        raise UsageError("the package datasets is not installed: pip install trl") from None
    chosen = env.tasks(split) if tasks is None else tasks
    return Dataset.from_list([dataset_row(env, task) for task in chosen])


def dataset_row(env: TextEnv, task: Task) -> dict[str, Any]:
    """The row of one task."""
    # The prompt of an episode with turns is what `reset` returns.
    opening = env.opening(task) if env.max_turns == 1 else ""
    chat = [{"role": "user", "content": opening}]
    return {"prompt": chat, "task": task.id, "split": task.split}


class RewardFunction:
    """The reward of each completion, as an environment with one turn gives it.

    Rows must come from `dataset`. Where the environment fails the reward is None, and TRL leaves
    the completion out. Success and score go to TRL's log.
    """

    def __init__(self, env: TextEnv, stop_ids: Collection[int] = ()) -> None:
        """With `stop_ids`, a completion that does not end in one counts as cut off.

        UsageError for an environment with several turns.
        """
        if env.max_turns > 1:
            raise UsageError(
                f"{env.name} has up to {env.max_turns} turns: give environment_factory to the "
                "trainer in place of a reward function"
            )
        self.env, self.stop_ids = env, frozenset(stop_ids)
        self.__name__ = env.name

    def __call__(
        self,
        completions: Sequence[Any],
        task: Sequence[str],
        split: Sequence[Split],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **others: Any,
    ) -> list[float | None]:
        """Rewards in the order of `completions`, which are texts or chats that end in an answer."""
        ids = repeat(()) if completion_ids is None else completion_ids
        judged = [
            self._judge(_text(said), name, own, self._stop(sampled))
            for said, name, own, sampled in zip(completions, task, split, ids, strict=False)
        ]
        known = [info for info in judged if info is not None]
        for name in ("success", "score") if log_metric and known else ():
            assert log_metric is not None
            log_metric(name, sum(float(info[name]) for info in known) / len(known))
        return [None if info is None else float(info["feedback"].reward) for info in judged]

    def _stop(self, sampled: Sequence[int]) -> Stop:
        cut = bool(self.stop_ids and sampled) and sampled[-1] not in self.stop_ids
        return Stop.LENGTH if cut else Stop.EOS

    def _judge(self, text: str, task: str, split: Split, stop: Stop) -> dict[str, Any] | None:
        try:
            self.env.reset(options={"task": task, "split": split})
            return self.env.step(Answer(text, stop))[4]
        except Exception:
            return None


def _text(completion: Any) -> str:
    """The text of a completion: itself, or the last message of a chat."""
    if isinstance(completion, str):
        return completion
    return str(completion[-1]["content"] or "") if completion else ""


class EnvEpisode:
    """One episode of an environment, as `environment_factory` of TRL makes it; see there.

    TRL offers every public method but `reset` and `get_reward` to the model as a tool.
    """

    def __init__(self, env: TextEnv) -> None:
        self._env = env
        self._reward: float | None = None
        self._over = True

    def reset(self, task: str, split: Split, **others: Any) -> str:
        """Begin the task of a row of `dataset`; what the model reads first."""
        self._reward, self._over = None, False
        return self._env.reset(options={"task": task, "split": split})[0]

    def act(self, text: str) -> str:
        """Take one action and see what happens.

        Args:
            text: The action, in the words that the task asks for.

        Returns:
            What happened, or how the episode ended.
        """
        if self._over:
            return "The episode is over."
        seen, reward, ended, truncated, _ = self._env.step(text)
        self._over = ended or truncated
        if self._over:
            self._reward = float(reward)
        return seen

    def get_reward(self) -> float:
        """The reward of the episode; 0 for one that the model did not end."""
        return self._reward or 0.0


def environment_factory(name: str, **options: Any) -> Callable[[], EnvEpisode]:
    """What `GRPOTrainer(environment_factory=...)` takes: makes episodes of the environment `name`.

    `options` are keyword arguments of the environment.
    """
    return lambda: EnvEpisode(plugins.make_env(name, **options))
