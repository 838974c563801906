"""Render chat templates, and try out a tokenizer, within limits, in a separate process.

    python -I -S chat_process.py FOLDER...                serves requests on standard input
    python -I -S chat_process.py FOLDER... -- FILE SECONDS    tries the tokenizer in FILE out

A chat template is a program that comes with a model, and a tokenizer can be made to use up all
memory or to hang; neither can be stopped inside the process that trains. `FOLDER...` are folders of
installed packages. This module imports nothing of ours. `resd_bench.models.chat_renderer` starts
it.
"""

from __future__ import annotations

import datetime
import functools
import json
import resource
import struct
import sys
from typing import IO, Any

RENDER_SECONDS = 3
"""Processor time that rendering one chat may take; it normally takes milliseconds."""
RENDER_BYTES = 1 << 30
"""Memory of the rendering process."""
MOST_RENDERED = 32 << 20
"""Characters of a rendered chat."""
TRY_BYTES = 8 << 30
"""Memory that loading a tokenizer and encoding a page of text with it may take."""
MOST_TOKENS = 8
"""Maximum number of tokens per byte."""
LENGTH = struct.Struct(">Q")
"""The header of each message: how many bytes of JSON follow."""


def limit(seconds: int, most_bytes: int | None = None) -> None:
    """Limit this process to `seconds` more of processor time, and to `most_bytes` of memory."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))


# Chat templates, as `transformers` renders them.


def make_environment() -> Any:
    """The Jinja environment of chat templates."""
    import jinja2
    import jinja2.ext
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """Marks the assistant's words; here it is parsed and has no effect."""

        tags = {"generation"}  # noqa: RUF012  as in the class above it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("_said")
            return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

        def _said(self, caller: Any) -> Any:
            return caller()

    def refuse(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = _to_json
    made.globals["raise_exception"] = refuse
    made.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return made


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _render(compiled: Any, variables: dict[str, Any]) -> dict[str, str]:
    """The rendered chat, or why the template refuses it."""
    parts: list[str] = []
    length = 0
    try:
        for part in compiled(variables.pop("template")).generate(**variables):
            parts.append(part)
            length += len(part)
            if length > MOST_RENDERED:
                return {"refused": f"it is longer than {MOST_RENDERED:,} characters"}
    except MemoryError:
        parts.clear()
        return {"refused": f"it takes more than {RENDER_BYTES >> 30} GiB of memory"}
    except Exception as error:
        return {"refused": f"{error or type(error).__name__}"[:1000]}
    return {"text": "".join(parts)}


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more."""
    environment = make_environment()
    compiled = functools.lru_cache(16)(environment.from_string)
    limit(RENDER_SECONDS, RENDER_BYTES)
    while head := requests.read(LENGTH.size):
        asked = json.loads(requests.read(*LENGTH.unpack(head)))
        limit(RENDER_SECONDS)
        answer = json.dumps(_render(compiled, asked)).encode()
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


# Tokenizers.


def page() -> str:
    """A page with all kinds of text."""
    prose = "The robot moves every red part to the left, and reports what it found there.\n"
    code = "def add(a, b):\n    return a + b  # 0x1F, 3.14, [1, 2]\n\n\n"
    odd = "ÄÖ ñ 漢字 かな 한글 עברית العربية 🦾👩‍🚀 ﷺ ① ﬁ \u00a0\u200b\t"
    plain = "".join(map(chr, range(32, 127)))
    return (prose * 40 + code * 20 + odd * 10 + plain * 4 + "a" * 400 + " " * 400 + "9" * 400) * 2


def try_out(path: str, seconds: int) -> None:
    """Load a tokenizer, and encode and decode a page with it; an exception if that fails."""
    import tokenizers

    limit(seconds, TRY_BYTES)
    tokenizer = tokenizers.Tokenizer.from_file(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    text = page()
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    most = MOST_TOKENS * len(text.encode())
    if len(ids) > most or len(tokenizer.decode(ids)) > most:
        raise ValueError(f"{len(text.encode()):,} bytes of text become {len(ids):,} tokens")


def main(words: list[str]) -> None:
    """See the module's docstring."""
    if "--" not in words:
        sys.path += words
        _serve(sys.stdin.buffer, sys.stdout.buffer)
        return
    at = words.index("--")
    sys.path += words[:at]
    try_out(words[at + 1], int(words[at + 2]))


if __name__ == "__main__":
    main(sys.argv[1:])
