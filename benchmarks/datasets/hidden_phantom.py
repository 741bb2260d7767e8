"""phantom_hidden-HASH: procedural heads that nobody can have trained on, since HASH follows from the weights.

A submission carries the scores on two of them, so that whoever holds the weights can repeat the run without any data.
"""

from __future__ import annotations

import re

from mrsr_bench.benchmarks.datasets.phantom import PhantomDataset
from mrsr_bench.benchmarks.protocol import sha256_of

PREFIX = "phantom_hidden-"
SPACING = 2.5
SHAPE = (64, 80, 56)
SUBJECTS = 2
_NAME = re.compile(rf"{PREFIX}([0-9a-f]{{16}})")


def hidden_name(method: str, weights_sha256: str | None, protocol_hash: str) -> str:
    """The name of the heads for a method with these weights under this protocol."""
    return PREFIX + sha256_of([method, weights_sha256, protocol_hash])[:16]


def variant(name: str) -> PhantomDataset | None:
    """The dataset of such a name; None for any other."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return PhantomDataset(name, spacing=SPACING, shape=SHAPE, train=0, val=0, test=SUBJECTS, seed=int(match[1], 16))
