"""The hash of an environment's tasks; `python -m` computes it in a separate process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from resd_bench import plugins
from resd_bench.check.env_subject import DIALECTS
from resd_bench.env import TextEnv
from resd_bench.records.manifest import panel_hash
from resd_bench.types import SPLITS, Dialect


def hash_line(make: Callable[[Dialect], TextEnv], dialects: Sequence[Dialect]) -> str:
    """Hash of all tasks in each dialect, separated by blanks."""
    envs = [make(dialect) for dialect in dialects]
    return " ".join(
        panel_hash(task for split in SPLITS for task in env.tasks(split)) for env in envs
    )


def panel_command(name: str, options: Mapping[str, Any]) -> list[str]:
    """The command that prints `hash_line` of an installed environment."""
    return [
        sys.executable,
        "-P",
        "-m",
        "resd_bench.check.task_hash",
        name,
        json.dumps(dict(options)),
    ]


if __name__ == "__main__":
    _, asked, given = sys.argv
    keywords = json.loads(given)
    print(hash_line(lambda dialect: plugins.make_env(asked, dialect=dialect, **keywords), DIALECTS))
