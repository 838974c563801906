"""A browser without a window, for pages; tests that need one skip loudly where there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"),
)


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


def dom(page: Path, folder: Path, *, width: int = 1200) -> Reader:
    """What a browser makes of `page`, its scripts having run; skips where there is no browser."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"NO BROWSER: none of {', '.join(NAMES)} is installed; pages are not opened")
    command = [found, *QUIET, f"--user-data-dir={folder}", f"--window-size={width},900"]
    command += ["--virtual-time-budget=3000", "--dump-dom"]

    def opened(address: str) -> bytes:
        return subprocess.run([*command, address], capture_output=True, timeout=120).stdout

    made = opened(page.resolve().as_uri())
    if not made and not opened("data:text/html,<p>works"):
        pytest.skip(f"{found} DOES NOT RUN HERE: pages are not opened")
    return Reader(made.decode("utf-8", "replace"))


def result(read: Reader) -> Any:
    """What a test's own script left in the body's `data-result`."""
    (body,) = (attributes for tag, attributes in read.elements if tag == "body")
    return json.loads(body["data-result"] or "null")
