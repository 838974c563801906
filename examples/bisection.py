"""A scripted model for `guess-number`: the middle of what the hints leave."""

import re
from collections.abc import Mapping, Sequence
from typing import Any


def guess(messages: Sequence[Mapping[str, Any]]) -> str:
    """The next guess of a chat."""
    low, high = 1, 200
    for message in messages[1:]:
        if found := re.match(r"(\d+) is too (low|high)", str(message["content"])):
            number = int(found[1])
            low, high = (number + 1, high) if found[2] == "low" else (low, number - 1)
    return str((low + high) // 2)
