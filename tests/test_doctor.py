"""The doctor's report: whole on this machine, and plain about what is missing."""

from __future__ import annotations

import importlib.metadata

import pytest

from resd_bench import doctor
from resd_bench.doctor import Check, render


def test_the_report_covers_the_machine_the_sandbox_and_the_extras() -> None:
    checks = {check.name: check for check in doctor.report()}
    assert {"python", "torch", "threads", "embedded model", "sandbox"} <= set(checks)
    assert {"sandbox: seccomp", "sandbox: Landlock", "sandbox: bwrap"} <= set(checks)
    assert {"textworld", "vllm", "peft", "reasoning-gym"} <= set(checks)
    assert checks["python"].ok
    assert checks["sandbox"].detail.startswith("level ")
    assert all(check.remedy for check in checks.values() if not check.ok)


def test_a_remedy_stands_below_what_is_not_ok_alone() -> None:
    text = render([Check("a", True, "fine", "unneeded"), Check("long", False, "gone", "get it")])
    assert text == "ok  a     fine\n--  long  gone\n          -> get it"
    assert render([]) == ""


def test_a_missing_extra_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    check = doctor._extra("textworld")
    assert not check.ok
    assert "pip install 'resd-bench[textworld]'" in check.remedy


def test_a_missing_model_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.isfile", lambda path: False)
    check = doctor._model()
    assert not check.ok
    assert "nano pretrain" in check.remedy
