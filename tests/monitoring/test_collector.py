"""The garbage collector pauses while a run is loaded, and no longer."""

from __future__ import annotations

import gc
import weakref

from resd_bench.monitoring.collector import PausedCollector


class Ring:
    def __init__(self) -> None:
        self.own = self


def test_the_collector_works_again_once_everything_is_loaded() -> None:
    frozen = gc.get_freeze_count()
    with PausedCollector() as loading:
        assert not gc.isenabled()
        loading.starting(None, (), 0, 1, 0)
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_run_that_fails_leaves_the_collector_as_it_was() -> None:
    try:
        with PausedCollector():
            raise ValueError
    except ValueError:
        assert gc.isenabled()


def test_what_an_earlier_run_held_is_gone_before_the_next_is_loaded() -> None:
    with PausedCollector() as loading:
        ring = Ring()
        gone = weakref.ref(ring)
        loading.starting(None, (), 0, 1, 0)
    del ring
    assert gone() is not None
    with PausedCollector():
        assert gone() is None
