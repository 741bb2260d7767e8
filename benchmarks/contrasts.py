"""Which contrasts (T1w, T2w, PD, FLAIR) a dataset or a training has, by the names that declare it.

A claim that what was trained on one contrast serves another can be tested only where the other was not in training.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

KINDS = {"t1": "T1w", "t2": "T2w", "pd": "PD", "flair": "FLAIR"}
_NAMED = re.compile(r"(?<![a-z0-9])(t1|t2|pd|flair)w?(?![a-z0-9])")


def contrasts_in(text: str) -> frozenset[str]:
    """The contrasts that a name or a summary says: ``brain_t1_flair`` T1w and FLAIR."""
    return frozenset(KINDS[found] for found in _NAMED.findall(text.lower()))


def contrasts_of(dataset: str) -> frozenset[str]:
    """The contrasts of a dataset by its name, else by the summary of a dataset that is known here; may be empty."""
    from mrsr_bench.benchmarks.datasets import datasets

    return contrasts_in(dataset) or (
        contrasts_in(datasets.get(dataset).summary) if dataset in datasets.names() else frozenset()
    )


def told(contrasts: frozenset[str]) -> str:
    """The contrasts in words, in the order of `KINDS`."""
    return " and ".join(kind for kind in KINDS.values() if kind in contrasts)


def why_no_transfer(trained: Mapping[str, Any], dataset: str) -> str | None:
    """Why scores on ``dataset`` show no transfer of what was ``trained`` to another contrast; None if they may.

    Args:
        trained: what weights declare about their training (``dataset``).
        dataset: what they are tested on.
    """
    tested, seen = contrasts_of(dataset), contrasts_of(str(trained.get("dataset", "")))
    if not seen:
        return "its weights do not say which contrast they were trained on"
    if not tested:
        return f"nothing says which contrast {dataset} has; name it in the dataset's name (T1w, T2w, PD or FLAIR)"
    if tested & seen:
        return (
            f"its weights saw {told(tested & seen)} in training ({trained['dataset']}), the contrast they are tested on"
        )
    return None
