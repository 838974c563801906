"""IFEval: instructions that a program can verify, the paper's probe of forgetting.

`check` judges a response strictly and loosely; `IFEvalEnv` is the environment.
"""

from typing import Any

from resd_envs.ifeval.check import Verdicts, check
from resd_envs.ifeval.env import IFEvalEnv


def one(**options: Any) -> IFEvalEnv:
    """A single instruction, for small language models."""
    return IFEvalEnv(**{"one": True} | options)


__all__ = ["IFEvalEnv", "Verdicts", "check", "one"]
