"""Whether the content of a sweep's finished runs is still what their settings name.

A process of its own, because environments start threads and processes, and a sweep must not:

    python -m resd_bench.sweep.content CONFIG...      # a JSON object: what is wrong, by CONFIG
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.files import reading
from resd_bench.files.fingerprints import Identity
from resd_bench.types import Task

ABOUT = (
    *("env", "env_options", "dialect", "feedback_level", "method", "method_options", "model"),
    *(
        "model_revision",
        "engine",
        "batch_size",
        "eval_split",
        "eval_tasks",
        "eval_validation",
        "eval_also",
    ),
)
"""Settings that determine a run's content: looked up once for all runs that share them."""


def changed(configs: Sequence[Path]) -> dict[Path, str]:
    """What has changed since the finished runs of these configurations, by configuration."""
    if not configs:
        return {}
    command = [sys.executable, "-P", "-m", "resd_bench.sweep.content", *map(str, configs)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UsageError(f"finished runs could not be checked: {last}")
    # Environments may have printed something before.
    found: dict[str, str] = reading.parse_json(done.stdout.splitlines()[-1])
    return {Path(config): text for config, text in found.items()}


def _look(paths: Iterable[str]) -> dict[str, str]:
    from resd_bench.jobs.setup import content_of, refuse_other_content

    known: dict[str, tuple[Identity, Sequence[Task]]] = {}
    found: dict[str, str] = {}
    for path in paths:
        config = RunConfig.of_record(Path(path))
        key = json.dumps([getattr(config, name) for name in ABOUT], sort_keys=True, default=str)
        try:
            if key not in known:
                known[key] = content_of(config)
            here, used = known[key]
            refuse_other_content(config, partial(dict, here), used)
        except UsageError as error:
            found[path] = str(error)
    return found


if __name__ == "__main__":
    print(json.dumps(_look(sys.argv[1:])))
