"""What is installed and handed on: extras, the source distribution, citation and changelog."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import resd_bench
from resd_bench import errors
from resd_bench.commands.doctor import PACKAGE, documents
from tests.places import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
BUILD = SETTINGS["tool"]["hatch"]["build"]["targets"]


@pytest.fixture
def in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package lay in site-packages, away from any clone."""
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "resd_bench/errors.py"))


@pytest.mark.parametrize("extra", sorted(PROJECT["optional-dependencies"]))
def test_the_command_for_an_extra_of_a_wheel_names_its_packages(
    extra: str, in_a_wheel: None
) -> None:
    named = re.findall(r"[a-zA-Z][\w-]*", re.sub(r"'?[<>=][^ ]*", "", errors.install_extra(extra)))
    wanted = [re.match(r"[\w-]+", line) for line in PROJECT["optional-dependencies"][extra]]
    assert named[:2] == ["pip", "install"]
    assert {name.lower() for name in named[2:]} == {found[0].lower() for found in wanted if found}


def test_the_command_for_an_extra_in_a_clone_works_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert errors.install_extra("lora") == "pip install -c constraints.txt -e '.[lora]'"
    monkeypatch.chdir(tmp_path)
    assert f"-c {ROOT}/constraints.txt -e" in errors.install_extra("lora")
    assert f"{ROOT}[lora]" in errors.install_extra("lora")


def test_no_text_installs_resd_bench_from_an_index() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.yaml", "*.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    wrong = re.compile(r"pip install (-\S+ )*'?resd[-_]bench(?!\S*\.whl)")
    files = [ROOT / name for name in listed if name and name != "tests/test_packaging.py"]
    texts = {path: path.read_text(encoding="utf-8") for path in files if path.is_file()}
    assert len(texts) > 300
    assert [str(path) for path, text in texts.items() if wrong.search(text)] == []


def test_the_source_distribution_holds_what_a_wheel_is_made_of_and_no_records() -> None:
    pytest.importorskip("hatchling", reason="HATCHLING ABSENT: pip install '.[dev]'")
    from hatchling.builders.sdist import SdistBuilder

    builder = SdistBuilder(str(ROOT))
    held = {
        Path(file.distribution_path): Path(file.path) for file in builder.recurse_included_files()
    }
    tops = {path.parts[0] for path in held}
    assert not tops & {"tests", "results", "notebooks", "runs-out", "build", ".venv", "benchmarks"}
    for package in BUILD["wheel"]["packages"]:
        sources = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert sources <= held.keys()
    weights = Path("resd_bench/nano/weights/nano/model.safetensors")
    needed = {"LICENSE", "README.md", "CITATION.cff", "CHANGELOG.md", "constraints.txt"}
    assert {weights, *map(Path, needed)} <= held.keys()
    assert sum(path.stat().st_size for path in held.values()) < 40 * 2**20


def test_a_wheel_has_the_documents_that_messages_name_and_doctor_finds_them(tmp_path: Path) -> None:
    [(held, place)] = BUILD["wheel"]["shared-data"].items()
    said = re.compile(r"\bdocs/([\w-]+\.md)")
    package = [p for root in BUILD["wheel"]["packages"] for p in (ROOT / root).rglob("*.py")]
    named = {name for path in package for name in said.findall(path.read_text(encoding="utf-8"))}
    assert named >= {"sweeps.md", "sandbox.md"}
    assert all((ROOT / held / name).is_file() for name in named), named
    nowhere = tmp_path / "site-packages/resd_bench"
    assert not documents(tmp_path, nowhere).ok
    shutil.copytree(ROOT / held, tmp_path / place)
    assert documents(tmp_path, nowhere).detail == str(tmp_path / place)
    assert documents(tmp_path, PACKAGE).detail == str(ROOT / "docs")


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\d+\.\d+\.\d+)", changes, re.M)
    assert newest is not None
    versions = {PROJECT["version"], resd_bench.__version__, citation["version"], newest[1]}
    assert versions == {PROJECT["version"]}
    assert citation["license"] == PROJECT["license"]
