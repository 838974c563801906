"""Where things lie, wherever a test does."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
TOY_PLUGIN = TESTS / "toy_plugin"
