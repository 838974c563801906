"""Named seed streams: randomness is an argument, and every use of it has a name.

The same run seed gives every method the same task order, the same environment seeds and the same
sampler streams, so that runs can be compared pairwise.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends only on `seed` and `names`, the same on every machine."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The random stream called `names` of a run with `seed`."""
    import numpy as np

    return np.random.default_rng(derive(seed, *names))
