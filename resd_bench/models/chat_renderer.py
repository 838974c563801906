"""Chat templates, rendered by a process that can be killed.

A template comes with a model, and may never end or may use up all memory, whether by mistake or by
design. Each of our processes has one such helper (`chat_process`), started when it is first needed
and shared by all tokenizers. Left out: what a template says, which is up to the model.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.models.chat_process import LENGTH, RENDER_BYTES, RENDER_SECONDS

SCRIPT = Path(__file__).with_name("chat_process.py")
_WAIT_S = 300.0
"""Wall time for an answer on a busy machine; processor time is limited to far less."""


class TemplateRefused(Exception):
    """A template does not accept a chat; the message is the template's own."""


class ChatRenderer:
    """A helper process that renders templates."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        """The process that started the helper: a fork of it must not use the same pipes."""

    def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """Render `template` with `variables`, which JSON must be able to hold.

        TemplateRefused if the template raises; UsageError if it does not finish.
        """
        request = json.dumps({**variables, "template": template}, default=str).encode()
        with self._lock:
            answer = self._ask(request)
        if "refused" in answer:
            raise TemplateRefused(" ".join(answer["refused"].split()))
        return str(answer["text"])

    def _ask(self, request: bytes) -> dict[str, str]:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(LENGTH.pack(len(request)) + request)
            process.stdin.flush()
            if not select.select([process.stdout], [], [], _WAIT_S)[0]:
                raise EOFError
            head = process.stdout.read(LENGTH.size)
            if len(head) < LENGTH.size:
                raise EOFError
            answer: dict[str, str] = json.loads(process.stdout.read(*LENGTH.unpack(head)))
        except (OSError, EOFError):
            self.close()
            raise UsageError(
                f"the chat template did not finish within {RENDER_SECONDS} s of processor time and "
                f"{RENDER_BYTES >> 30} GiB of memory: fix the model's chat_template.jinja"
            ) from None
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                command("jinja2", "markupsafe"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(),
            )
        return self._process

    def close(self) -> None:
        """End the helper; the next request starts another."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            # Nobody reads what was still to be written.
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        process.wait()


RENDERER = ChatRenderer()
"""The helper of this process."""
atexit.register(RENDERER.close)


def environment() -> dict[str, str]:
    """The environment variables that the helper gets: what it needs to run, and no secrets."""
    needed = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    threads = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {name: os.environ[name] for name in needed if name in os.environ} | threads


def command(*packages: str) -> list[str]:
    """The command that starts the helper with these packages and no others."""
    import importlib

    places = [Path(str(importlib.import_module(name).__file__)).parent for name in packages]
    folders = dict.fromkeys(str(place.parent.resolve()) for place in places)
    return [sys.executable, "-I", "-S", str(SCRIPT), *folders]
