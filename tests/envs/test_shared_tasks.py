"""Environments of one kind share their tasks, and those of another kind do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from resd_bench import env as env_module
from resd_bench.plugins import make_env
from resd_bench.records.manifest import content_hash
from resd_bench.types import Split, Task
from resd_envs.finer.data import Item
from resd_envs.finer.env import FinerEnv

KINDS: Mapping[str, list[dict[str, Any]]] = {
    "finer": [{}, {"dialect": "compact"}],
    "ifeval": [{}, {"dialect": "compact"}],
    "python-functions": [{}, {"seed": 1}, {"tier": "easy"}],
    "bouncingsim-basic": [{}, {"dialect": "compact"}, {"prompt": "complete"}],
}


def facts(task: Task) -> tuple[str, ...]:
    return task.id, task.split, content_hash(task)


@pytest.mark.parametrize("name", KINDS)
def test_tasks_are_shared_by_equal_settings_alone_and_are_what_one_makes_by_itself(
    name: str,
) -> None:
    shown = {}
    for number, options in enumerate(KINDS[name]):
        first, second = make_env(name, **options), make_env(name, **options)
        tasks = first.tasks("test")
        assert second.tasks("test") is tasks
        env_module._shared_tasks.cache_clear()
        alone = make_env(name, **options).tasks("test")
        assert alone is not tasks
        assert [*map(facts, alone)] == [*map(facts, tasks)]
        shown[number] = [(task.id, task.prompt) for task in tasks]
    assert all(a != b for i, a in shown.items() for j, b in shown.items() if i < j)


def test_many_environments_make_each_task_once(monkeypatch: pytest.MonkeyPatch) -> None:
    env_module._shared_tasks.cache_clear()
    made: list[int] = []
    real = FinerEnv._task

    def counted(self: FinerEnv, split: Split, number: int, item: Item) -> Task:
        made.append(number)
        return real(self, split, number, item)

    monkeypatch.setattr(FinerEnv, "_task", counted)
    for _ in range(20):
        make_env("finer").find("finer/test/0000", "test")
    assert made == list(range(96))
