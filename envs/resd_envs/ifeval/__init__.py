"""IFEval: instructions that a program can verify, the paper's probe of forgetting.

`check` judges a response strictly and loosely; `IFEvalEnv` is the environment.
"""

from resd_envs.ifeval.check import Verdicts, check
from resd_envs.ifeval.env import IFEvalEnv

__all__ = ["IFEvalEnv", "Verdicts", "check"]
