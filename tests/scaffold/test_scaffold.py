"""`init env` and `init method` write packages that work as they are written."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from resd_bench import plugins
from resd_bench.cli import main
from resd_bench.errors import UsageError
from resd_bench.scaffold import LONGEST, PluginKind, fill_fields, templates, write_package

pytestmark = pytest.mark.slow


KINDS: list[PluginKind] = ["env", "method"]
SHORT, LONG = "w9", "a-longer-name-with-many-words-in"


def _python(arguments: list[str], folder: Path, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both packages, written by the command and installed by pip into a folder of their own."""
    folder = tmp_path_factory.mktemp("plugins")
    for kind, name in (("env", "letter-order"), ("method", "copy-success")):
        assert main(["init", kind, name, "--out", str(folder / name)]) == 0
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    target = folder / "site"
    sources = [str(folder / "letter-order"), str(folder / "copy-success")]
    done = _python(["pip", "install", *options, "--target", str(target), *sources], folder, folder)
    assert done.returncode == 0, done.stderr
    return target


def test_an_installed_environment_passes_its_check(site: Path) -> None:
    done = _python(["resd_bench", "envs", "check", "letter-order"], site, site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "letter-order passes" in done.stdout
    patient = ["--only", "oracle", "--seconds", "300"]
    done = _python(["resd_bench", "envs", "check", "letter-order", *patient], site, site)
    assert "280 of 280 tasks solved" in done.stdout


def test_an_installed_method_passes_its_check(site: Path) -> None:
    done = _python(["resd_bench", "methods", "check", "copy-success"], site, site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "copy-success passes" in done.stdout


@pytest.mark.parametrize("name", ["letter-order", "copy-success"])
def test_the_contract_test_of_a_package_passes(site: Path, name: str) -> None:
    done = _python(["pytest", "-q", "-p", "no:cacheprovider"], site.parent / name, site)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_embedded_model_runs_the_new_method_on_the_new_environment(site: Path) -> None:
    small = ["--budget", "4ep", "--batch-size", "2", "--eval-samples", "1", "--eval-tasks", "2"]
    small += ["--max-new-tokens", "8", "--eval-every", "0", "--out", "runs"]
    run = ["resd_bench", "run", "--env", "letter-order", "--method", "copy-success", *small]
    done = _python(run, site.parent, site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (site.parent / "runs/letter-order/copy-success/seed-0/summary.json").is_file()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [SHORT, LONG])
def test_what_is_written_is_clean_for_ruff(kind: PluginKind, name: str, tmp_path: Path) -> None:
    pytest.importorskip("ruff", reason="RUFF ABSENT: pip install '.[dev]'")
    write_package(kind, name, tmp_path / "new")
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."]):
        done = _python(command, tmp_path / "new", tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_what_is_written_is_clean_for_strict_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="MYPY ABSENT: pip install '.[dev]'")
    # One after the other: the second reads what was found out about the packages that both import.
    cache = f"--cache-dir={tempfile.gettempdir()}/resd-bench-tests-mypy-{os.getuid()}"
    for kind in KINDS:
        write_package(kind, LONG, tmp_path / kind)
        done = _python(["mypy", cache], tmp_path / kind, tmp_path)
        assert done.returncode == 0, (kind, done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Word_Ladder", "lower-case words joined by hyphens"),
        ("", "lower-case words joined by hyphens"),
        ("../evil", "lower-case words joined by hyphens"),
        ("a" * (LONGEST + 1), f"at most {LONGEST} characters"),
        ("class", "Python itself"),
        ("json", "Python itself"),
        ("numpy", "'numpy' is installed already"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_cannot_be_used_is_refused(
    kind: PluginKind, name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        write_package(kind, name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_is_taken_is_refused(kind: PluginKind, tmp_path: Path) -> None:
    group = "resd_bench.envs" if kind == "env" else "resd_bench.methods"
    taken = next(name for name in plugins.installed(group) if "+" not in name)
    with pytest.raises(UsageError, match=f"{taken}' is installed already: see `{kind}s info"):
        write_package(kind, taken, tmp_path / "new")


def test_an_existing_folder_is_never_written_to(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not overwritten"):
        write_package("env", "word-ladder", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_template_with_an_unknown_field_is_an_error() -> None:
    with pytest.raises(KeyError, match="colour"):
        fill_fields("a <<colour>> thing", {"name": "x"})


@pytest.mark.parametrize("kind", KINDS)
def test_no_template_leaves_a_field_unfilled(kind: PluginKind, tmp_path: Path) -> None:
    assert len(list(templates(kind))) == 6
    for path in write_package(kind, "word-ladder", tmp_path / "new"):
        assert "<<" not in f"{path}{path.read_text()}"
