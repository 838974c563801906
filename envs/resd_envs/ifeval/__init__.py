"""IFEval: instructions that a program can check, the forgetting probe of the paper.

`check` judges a response strictly and loosely; `IFEvalEnv` is the environment.
"""

from resd_envs.ifeval.check import Verdicts, check
from resd_envs.ifeval.env import IFEvalEnv

__all__ = ["IFEvalEnv", "Verdicts", "check"]
