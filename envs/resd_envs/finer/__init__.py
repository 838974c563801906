"""FiNER: XBRL tags for numbers in company reports.

`score` grades an answer; `FinerEnv` is the environment. The real data is not included: `load` reads
it from a file or from Hugging Face.
"""

from typing import Any

from resd_envs.finer.data import Item, load
from resd_envs.finer.env import FinerEnv
from resd_envs.finer.scoring import score


def few(**options: Any) -> FinerEnv:
    """One question and four tags, for small language models."""
    return FinerEnv(**{"few": True} | options)


__all__ = ["FinerEnv", "Item", "few", "load", "score"]
