"""Our environments as verifiers sees them; skipped where it is missing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("verifiers.v1", reason="VERIFIERS ABSENT: pip install verifiers==0.4.0")


def taskset(**options: Any) -> Any:
    from resd_bench.interop._verifiers import ResdConfig, ResdTaskset

    return ResdTaskset(ResdConfig(id="resd-verifiers", **options))


def test_a_taskset_holds_the_tasks_of_the_split_and_validates_them() -> None:
    tasks = list(taskset(env="guess-number", split="test"))
    assert len(tasks) == 40
    assert len({task.key for task in tasks}) == 40
    assert tasks[0].data.prompt.startswith("I think of a whole number")
    assert all(asyncio.run(task.validate(None)) for task in tasks[:5])


def test_the_plugin_module_exports_one_taskset_and_one_env() -> None:
    import verifiers.v1 as vf

    import resd_verifiers

    kinds = [getattr(resd_verifiers, name) for name in resd_verifiers.__all__]
    assert [k.__name__ for k in kinds if issubclass(k, vf.Taskset)] == ["ResdTaskset"]
    assert [k.__name__ for k in kinds if issubclass(k, vf.Env)] == ["ResdEnv"]
    (agent,) = [
        f.default
        for f in kinds[0].__orig_bases__[0].__args__[0].model_fields.values()
        if isinstance(f.default, vf.AgentConfig)
    ]
    assert agent.runtime.type == "subprocess", "the default of verifiers is hosted"
