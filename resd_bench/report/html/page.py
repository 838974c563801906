"""One self-contained HTML file from data: the page, its style and its scripts.

Texts of models and environments are treated as hostile. They are passed as JSON that cannot close
a script element, and the page's scripts put them only into text nodes. A content security policy
allows only the scripts and the style of this file, by hash, and no network. Left out: images.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from resd_bench.files.printable import printable
from resd_bench.files.writing import write_named
from resd_bench.records.recorder import plain

SCRIPTS = ("base.js", "charts.js", "suite.js", "playbook.js", "episodes.js", "main.js")
"""The scripts, joined in this order."""
MAX_TEXT = 20_000
"""Maximum number of characters of one text in a page."""


def clip(text: object, longest: int = MAX_TEXT) -> str:
    """The first `longest` characters of `text`, with the number of those left out."""
    whole = text if isinstance(text, str) else str(text)
    if len(whole) <= longest:
        return whole
    return f"{whole[:longest]}\n… {len(whole) - longest:,} more characters are not shown"


def embed(data: Mapping[str, Any]) -> str:
    """JSON that is safe inside a script element, in ASCII, so that lone surrogates survive."""
    text = json.dumps(plain(data), allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def render_page(data: Mapping[str, Any]) -> str:
    """The page of `data`, with its `title`. Equal data gives equal pages."""
    style, script = _static("style.css"), "\n".join(map(_static, SCRIPTS))
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return Template(_static("page.html")).substitute(
        title=escape(printable(_without_surrogates(str(data["title"])))),
        policy=policy,
        style=style,
        script=script,
        data=embed(data),
    )


def write_page(data: Mapping[str, Any], path: Path) -> Path:
    """Write the page of `data`; UsageError where it cannot be written."""
    return write_named(path, render_page(data).encode())


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _static(name: str) -> str:
    return (files("resd_bench.report.html") / "static" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
