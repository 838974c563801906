"""What keeps games from being played is said on one line; what is said in them is kept plainly."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.commands import doctor
from resd_bench.errors import UsageError
from resd_envs.games import java, packages
from resd_envs.games.java import GameEngineError, Java, find_java
from resd_envs.games.packages import PACKAGES, SCIENCEWORLD, TEXTWORLD_EXPRESS, Package, require
from resd_envs.games.record import LINES, MOST_CHARS, CommandOutcome, Record, read_printable_command

needs_py4j = pytest.mark.skipif(
    importlib.util.find_spec("py4j") is None,
    reason="PY4J ABSENT: pip install -c constraints.txt -e '.[scienceworld]'",
)
PLAYABLE = packages.find_problem(TEXTWORLD_EXPRESS) is None
needs_games = pytest.mark.skipif(
    not PLAYABLE,
    reason="GAMES ABSENT: pip install -c constraints.txt -e '.[textworld-express]', and Java",
)


@pytest.fixture(autouse=True)
def looked_at_anew() -> Iterator[None]:
    """What was found of Java and of files is not kept from one test to the next."""
    yield
    find_java.cache_clear()
    packages.find_damaged.cache_clear()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every package of games seems to be there, whole and of the right version."""
    monkeypatch.setattr(Package, "version", property(lambda self: f"{self.series}.0"))
    monkeypatch.setattr(packages, "find_damaged", lambda name: "")


def fake_java(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only Java on PATH is a shell script."""
    path = folder / "java"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    find_java.cache_clear()
    return path


@pytest.mark.parametrize(
    ("version", "major"),
    [("17.0.15", 17), ("1.8.0_292", 8), ("1.7.0_80", 7), ("21-ea", 21), ("9", 9), ("", 0)],
)
def test_the_first_number_of_a_java_version_is_read_in_its_old_and_new_form(
    version: str, major: int
) -> None:
    assert Java("java", version).major == major


def test_without_java_the_error_says_what_is_needed_and_how_to_get_it(
    installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    find_java.cache_clear()
    for package in (TEXTWORLD_EXPRESS, SCIENCEWORLD):
        with pytest.raises(UsageError) as raised:
            require(package)
        text = str(raised.value)
        assert "\n" not in text
        assert f"{package.name} needs Java 8 or newer; no Java was found" in text
        assert "default-jre" in text


def test_a_java_that_is_too_old_is_named_with_the_version_found_and_the_one_needed(
    installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = fake_java(tmp_path, """echo 'java version "1.7.0_80"' >&2""", monkeypatch)
    with pytest.raises(
        UsageError, match=r"needs Java 8 or newer; .* is Java 7 \(1\.7\.0_80\)"
    ) as e:
        require(SCIENCEWORLD)
    assert str(path) in str(e.value)


def test_a_java_that_does_not_tell_its_version_is_named_with_what_it_said(
    installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_java(tmp_path, "echo 'error: no room' >&2; exit 1", monkeypatch)
    with pytest.raises(UsageError, match=r"does not tell its version .*error: no room"):
        require(SCIENCEWORLD)


def test_java_home_comes_before_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "home/bin"
    home.mkdir(parents=True)
    other = fake_java(home, """echo 'openjdk version "21.0.1"' >&2""", monkeypatch)
    fake_java(tmp_path, """echo 'openjdk version "17.0.1"' >&2""", monkeypatch)
    monkeypatch.setenv("JAVA_HOME", str(home.parent))
    found = find_java()
    assert found is not None
    assert (found.path, found.major) == (str(other), 21)


@needs_py4j
@pytest.mark.parametrize(
    ("then", "told"),
    [
        ("echo 'Could not reserve enough space for the heap'; exit 1", "Could not reserve enough"),
        ("exit 3", "without a message"),
    ],
)
def test_an_engine_that_does_not_start_says_why_on_one_line(
    then: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = f"""[ "$1" = -version ] && {{ echo 'openjdk version "17.0.1"' >&2; exit; }}\n{then}"""
    fake_java(tmp_path, script, monkeypatch)
    with pytest.raises(UsageError) as raised:
        java.machine(tmp_path / "some-game.jar")
    assert "some-game.jar did not start" in str(raised.value)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_missing_package_is_named_with_an_install_line_that_works_in_a_clone(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package.module, None)
    with pytest.raises(UsageError) as raised:
        require(package)
    assert f"the package {package.name} is not installed" in str(raised.value)
    assert f"pip install -c constraints.txt -e '.[{package.name}]'" in str(raised.value)


def test_another_version_than_the_tasks_are_of_is_refused(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Package, "version", property(lambda self: "1.10.0"))
    with pytest.raises(UsageError, match=r"scienceworld 1\.10\.0 is installed.*games of 1\.2"):
        require(SCIENCEWORLD)
    # 1.1 is not a prefix of 1.10 as a version.
    with pytest.raises(UsageError, match=r"1\.10\.0 is installed"):
        require(TEXTWORLD_EXPRESS)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_game_file_is_named_before_anything_is_played(
    damage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = tmp_path / "game-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: game\nVersion: 1.0\n")
    digest = "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"  # of "test"
    (info / "RECORD").write_text(f"game/world.jar,sha256={digest},4\ngame/code.py,sha256=x,1\n")
    jar = tmp_path / "game/world.jar"
    jar.parent.mkdir()
    jar.write_text("test")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert packages.find_damaged("game") == ""
    packages.find_damaged.cache_clear()
    jar.write_text("tent") if damage == "changed" else jar.unlink()
    assert packages.find_damaged("game") == str(jar)


def test_a_damaged_file_is_told_with_the_command_that_brings_it_back(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "find_damaged", lambda name: "/somewhere/world.jar")
    with pytest.raises(UsageError, match=r"/somewhere/world\.jar is damaged.*--force-reinstall"):
        require(SCIENCEWORLD)


def test_the_doctor_has_a_line_for_each_package_of_games() -> None:
    checks = {check.name: check for check in doctor.report()}
    for package in PACKAGES:
        check = checks[package.name]
        assert not check.required
        assert check.detail
        assert check.ok or check.remedy
        if check.ok:
            assert check.detail.startswith(metadata.version(package.name))
            assert ("Java" in check.detail) == package.needs_java


@pytest.mark.slow
@given(st.text() | st.text(alphabet=st.characters(categories=["Cs", "Cc", "Zs"])))
def test_whatever_is_said_only_printable_ascii_reaches_a_game(action: str) -> None:
    command = read_printable_command(action)
    assert len(command) <= MOST_CHARS
    assert all(c.isascii() and c.isprintable() for c in command)
    command.encode("utf-8")


@pytest.mark.parametrize(
    ("action", "command"),
    [
        ("look around", "look around"),
        ("I think.\n\n> Take the  Coin.\n", "take the coin"),
        ("go \ud800 north\x00", "go ? north?"),
        ("", ""),
        ("9" * 10_000, "9" * MOST_CHARS),
    ],
)
def test_the_command_is_the_last_line_that_is_not_blank(action: str, command: str) -> None:
    assert read_printable_command(action) == command


def test_a_report_tells_mishaps_with_their_number_then_progress_and_the_last_commands() -> None:
    record = Record()
    record.note("", CommandOutcome.NO_COMMAND)
    for _ in range(3):
        record.note("dance", CommandOutcome.NOT_UNDERSTOOD)
    record.note("take moon", CommandOutcome.NOT_POSSIBLE, "You can't.")
    record.note("take coin", CommandOutcome.DONE, "You take it.", progress=True)
    for _ in range(4):
        record.note("look around", CommandOutcome.DONE, "A room.")
    assert record.failure == "turn_limit"
    assert record.report("compact", lost=True).splitlines() == [
        "no command",
        "not understood : dance x3",
        "not possible : take moon : You can't.",
        "repeated : look around x4",
        "progress by : take coin",
        "lost by : look around : A room.",
        "last : take moon , take coin , look around , look around , look around , look around",
    ]
    assert Record().report("full") == ""
    assert Record().failure == "nothing_done"


@given(
    st.lists(st.tuples(st.text(), st.sampled_from(list(CommandOutcome)), st.text()), max_size=60)
)
def test_a_report_is_short_plain_text_in_either_dialect(
    turns: list[tuple[str, CommandOutcome, str]],
) -> None:
    record = Record()
    for said, outcome, told in turns:
        record.note(said, outcome, told)
    for dialect in LINES:
        report = record.report(dialect, lost=True)
        assert len(report) < 4000
        assert all(c == "\n" or (c.isascii() and c.isprintable()) for c in report)


@needs_games
def test_environments_of_a_process_share_one_java_machine_that_ends_with_it() -> None:
    code = (
        "from resd_bench.plugins import make_env\n"
        "from resd_envs.games import java\n"
        "envs = [make_env('textworld-express-simonsays') for _ in range(3)]\n"
        "for env in envs: env.reset(seed=0)\n"
        "print([machine._process.pid for machine in java._machines.values()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (pid,) = json.loads(done.stdout)
    assert not Path(f"/proc/{pid}").exists()


@needs_games
def test_a_machine_that_dies_fails_the_call_with_the_cause_and_is_replaced() -> None:
    jar = TEXTWORLD_EXPRESS.folder / "textworld-express.jar"
    first = java.machine(jar)
    assert java.machine(jar) is first
    server = first.new("textworldexpress.runtime.PythonInterface")
    os.kill(first._process.pid, signal.SIGKILL)
    with pytest.raises(GameEngineError, match="its Java ended with SIGKILL"):
        first.call("at a test", server.getGameNames)
    assert java.machine(jar) is not first


@needs_games
def test_what_a_game_raises_is_told_on_one_line() -> None:
    found = java.machine(TEXTWORLD_EXPRESS.folder / "textworld-express.jar")
    server = found.new("textworldexpress.runtime.PythonInterface")
    with pytest.raises(GameEngineError, match=r"textworld-express failed at a test: .+") as raised:
        found.call("at a test", lambda: server.stepJSON(3))
    assert "\n" not in str(raised.value)
