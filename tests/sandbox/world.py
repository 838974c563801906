"""The world an attack is let loose in: what it may not touch, reach, read or leave behind."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resd_bench.sandbox import Limits, ProgramResult, Sandbox

SECRET_VARIABLE = "SBX_SECRET"
GREETING = b"welcome to the listener"


@dataclass
class World:
    """Bait, and what became of it."""

    folder: Path
    secret: str
    tcp: socket.socket
    udp: socket.socket
    abstract: socket.socket
    abstract_name: str
    victim_before: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.victim.write_text("untouched")
        self.victim.chmod(0o666)
        self.secret_file.write_text(self.secret)
        self.victim_before = self.look_at_victim()

    @property
    def canary(self) -> Path:
        return self.folder / "canary"

    @property
    def victim(self) -> Path:
        return self.folder / "victim"

    @property
    def secret_file(self) -> Path:
        return self.folder / "secret"

    def look_at_victim(self) -> tuple[Any, ...]:
        stat = self.victim.stat()
        return (
            self.victim.read_text(),
            stat.st_mode,
            stat.st_mtime_ns,
            stat.st_nlink,
            os.listxattr(self.victim),
        )

    def contacted(self) -> bool:
        """Whether anything reached one of the listeners."""
        for listener in (self.tcp, self.udp, self.abstract):
            listener.setblocking(False)
            try:
                if listener.type == socket.SOCK_STREAM:
                    listener.accept()
                else:
                    listener.recv(1)
            except BlockingIOError:
                continue
            return True
        return False

    def fill(self, value: Any) -> Any:
        """Replace the placeholders of the corpus in all texts of a value."""
        if isinstance(value, str):
            for name, filling in self._fillings().items():
                value = value.replace("{{" + name + "}}", filling)
            return value
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        return value

    def _fillings(self) -> dict[str, str]:
        import resd_bench

        return {
            "CANARY": str(self.canary),
            "VICTIM": str(self.victim),
            "SECRET_FILE": str(self.secret_file),
            "PARENT_PID": str(os.getpid()),
            "PORT": str(self.tcp.getsockname()[1]),
            "ABSTRACT": self.abstract_name,
            "SECRET": self.secret,
            "JUDGE_DIR": str(Path(str(resd_bench.__file__)).parents[1]),
            "JUDGE_MODULE": "resd_bench",
        }


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """A world in `folder`, which programs could write to; its secret is in the environment."""
    folder.chmod(0o777)
    secret = "SECRET-" + os.urandom(8).hex()
    name = "resd-bench-" + os.urandom(4).hex()
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract,
    ):
        udp.bind(tcp.getsockname())
        abstract.bind("\0" + name)
        os.environ[SECRET_VARIABLE] = secret
        try:
            yield World(folder, secret, tcp, udp, abstract, name)
        finally:
            del os.environ[SECRET_VARIABLE]


def decode(value: Any) -> Any:
    """The value behind the corpus's JSON."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, body),) = value.items()
    readers: dict[str, Callable[[Any], Any]] = {
        "t": lambda items: tuple(decode(items)),
        "s": lambda items: set(decode(items)),
        "d": lambda pairs: {decode(key): decode(item) for key, item in pairs},
        "i": lambda text: int(text, 16),
        "f": float,
        "b": bytes.fromhex,
    }
    return readers[tag](body)


def load_case(path: Path, where: World) -> dict[str, Any]:
    """One case of the corpus with its placeholders filled and its values decoded."""
    case: dict[str, Any] = where.fill(json.loads(path.read_text(encoding="utf-8")))
    if case["mode"] == "calls":
        case["cases"] = [
            {"args": decode(one["args"]), "expected": decode(one["expected"])}
            for one in case["cases"]
        ]
    return case


def run_case(box: Sandbox, case: Mapping[str, Any]) -> ProgramResult:
    """Run a case of the corpus as outside checks do."""
    compare = case.get("compare", {})
    return box.run_program(
        case["program"],
        case["cases"],
        entry=case.get("entry"),
        limits=Limits(**case.get("limits", {})),
        rel=compare.get("rel", 0.0),
        abs=compare.get("abs", 0.0),
    )


def processes() -> set[int]:
    """Every process of this machine that is not a zombie, without kernel threads."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and Path(f"/proc/{name}/cmdline").read_bytes():
                    found.add(int(name))
            except OSError:
                continue
    return found


def descendants() -> set[int]:
    """Processes below this one."""
    parents = {}
    for pid in processes():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            parents[pid] = int(fields[1])
        except OSError:
            continue
    found, todo = set(), {os.getpid()}
    while todo:
        todo = {pid for pid, parent in parents.items() if parent in todo}
        found |= todo
    return found


def assert_expectations(
    expect: Mapping[str, Any], result: ProgramResult, where: World, wall_s: float
) -> None:
    """Everything the corpus says must hold after a case."""
    time.sleep(expect.get("check_after_s", 0))
    said = [(case.kind, case.detail) for case in result.cases]
    assert set(result.kinds) <= set(expect["kinds"]), said
    assert not set(result.kinds) & set(expect.get("never", ())), said
    assert wall_s <= expect["max_wall_s"], f"took {wall_s:.1f} s"
    if expect["no_canary"]:
        assert not where.canary.exists()
    if expect["victim_unchanged"]:
        assert where.look_at_victim() == where.victim_before
    if expect["secret_not_in_results"]:
        assert where.secret not in repr(result)
    if expect["no_network_contact"]:
        assert not where.contacted()
