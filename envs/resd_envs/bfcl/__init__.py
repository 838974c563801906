"""Multi-turn tool use: the scenarios of the Berkeley Function Calling Leaderboard."""

from resd_envs.bfcl.env import BfclEnv

__all__ = ["BfclEnv"]
