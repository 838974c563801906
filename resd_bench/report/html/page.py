"""One HTML file out of data: the page, its style and its scripts, and nothing from elsewhere.

Texts of models and environments are hostile. They travel as JSON in which nothing can end a script
element, and the page's scripts put them nowhere but into text nodes. A content security policy
allows the scripts and the style of this file, by hash, and no other; the network is closed. Left
out: images.
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

from resd_bench.record import plain
from resd_bench.terminal import printable
from resd_bench.writing import write_named

SCRIPTS = ("base.js", "charts.js", "suite.js", "playbook.js", "episodes.js", "main.js")
"""In this order; together they are one script."""
MAX_TEXT = 20_000
"""Characters of one text that a page holds."""


def clip(text: object, longest: int = MAX_TEXT) -> str:
    """`text`, with what exceeds `longest` characters counted instead."""
    whole = text if isinstance(text, str) else str(text)
    if len(whole) <= longest:
        return whole
    return f"{whole[:longest]}\n… {len(whole) - longest:,} more characters are not shown"


def embed(data: Mapping[str, Any]) -> str:
    """JSON that may stand inside a script element, in ASCII: lone surrogates survive."""
    text = json.dumps(plain(data), allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def render(data: Mapping[str, Any]) -> str:
    """The page of `data`, whose `title` is its title. Equal data gives equal pages."""
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
    return write_named(path, render(data).encode())


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _static(name: str) -> str:
    return (files("resd_bench.report.html") / "static" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
