"""A browser without a window, for pages; tests that need one skip loudly where there is none."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"),
    "--remote-debugging-pipe",
)
SECONDS = 120
# parts of a page draw themselves in an animation frame after it was loaded
DRAWN = """
if (document.readyState !== "complete") await new Promise((done) => addEventListener("load", done));
for (const _ of [1, 2, 3]) await new Promise(requestAnimationFrame);
"""


class Reader(HTMLParser):
    """Elements of a page as (tag, attributes), and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style", "title"):
            self.texts.append((self._open, data))

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def texts_of(self, tag: str) -> list[str]:
        """The texts of every `tag`, in order."""
        return [text for name, text in self.texts if name == tag]


class Browser:
    """A Chromium that takes commands of its DevTools protocol through a pair of pipes."""

    def __init__(self, program: str, folder: Path, width: int) -> None:
        theirs_in, self._in = os.pipe()
        self._out, theirs_out = os.pipe()
        command = [program, *QUIET, f"--user-data-dir={folder}", f"--window-size={width},900"]
        self._process = subprocess.Popen(
            # it reads commands from descriptor 3 and answers on descriptor 4
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._ends = time.monotonic() + SECONDS
        self._read, self._sent, self._session = b"", 0, {}
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def ask(self, method: str, **params: object) -> dict[str, Any]:
        """The result of one command; events that come before it are dropped."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params, **self._session}
        os.write(self._in, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._sent:
            pass
        assert "result" in answer, f"{method}: {answer}"
        found: dict[str, Any] = answer["result"]
        return found

    def evaluate(self, script: str) -> Any:
        """The JSON value that `script`, a function's body, returns; its error is the test's."""
        told = self.ask(
            "Runtime.evaluate",
            expression=f"(async () => {{ {script} }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in told, json.dumps(told, indent=1)
        return told["result"].get("value")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            left = self._ends - time.monotonic()
            if left <= 0 or not select.select([self._out], [], [], left)[0]:
                raise TimeoutError(f"the browser did not answer within {SECONDS} s")
            if not (more := os.read(self._out, 1 << 16)):
                raise ConnectionError("the browser ended")
            self._read += more
        message, self._read = self._read.split(b"\0", 1)
        found: dict[str, Any] = json.loads(message)
        return found


def use(page: Path, folder: Path, script: str, *, width: int = 1200) -> tuple[Any, Reader]:
    """What `script` returns in a drawn `page`, and the page then; skips where no browser is."""
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"NO BROWSER: apt install chromium (any of {', '.join(NAMES)} will do)")
    try:
        browser = Browser(program, folder, width)
    except (BrokenPipeError, ConnectionError) as problem:
        pytest.skip(f"{program} DOES NOT RUN HERE ({problem}): pages are not opened")
    try:
        browser.ask("Page.navigate", url=page.resolve().as_uri())
        browser.evaluate(DRAWN)
        seen = browser.evaluate(script)
        return seen, Reader(browser.evaluate("return document.documentElement.outerHTML"))
    finally:
        browser.close()
