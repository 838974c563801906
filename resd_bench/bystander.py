"""What processes beside the first have for the run folder, which the first alone writes.

Left out: folders of their own. All processes see the same one: on several machines, `--out` is on
storage that they share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from resd_bench.agent import State
from resd_bench.checkpoints import Checkpoint, checkpoint_path, load_checkpoint
from resd_bench.config import RunConfig
from resd_bench.record import Recorder, RunState, open_run, recover
from resd_bench.team import Team, by_first


class Bystander(Recorder):
    """A recorder that writes nothing."""

    def log(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        pass

    def context(self, update: int, context: Mapping[str, Any]) -> None:
        pass

    def trace(self, update: int, trace: Mapping[str, Any]) -> None:
        pass

    def checkpoint(self, update: int, state: State) -> None:
        pass

    def status(self, state: RunState, **facts: Any) -> None:
        self.state = state


def open_together(config: RunConfig, team: Team, *, resume: bool) -> Recorder:
    """The run folder, open in the first process of `team`; see `open_run`."""
    return by_first(
        team,
        lambda: open_run(config, resume=resume),
        lambda: Bystander(config.folder(), config),
    )


def recover_together(recorder: Recorder, team: Team) -> Checkpoint | None:
    """The checkpoint to go on from, the same in all processes; see `recover`."""
    found = by_first(team, lambda: recover(recorder), lambda: None)
    update = team.same(lambda: None if found is None else found.update)
    if update is None or found is not None:
        return found
    return load_checkpoint(checkpoint_path(recorder.folder / "checkpoints", update))
