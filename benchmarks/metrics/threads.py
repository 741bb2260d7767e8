"""Work on parts of a volume in threads, each of which has torch to itself on one core.

Parts that stay in the cache of a core are too small for torch's own threads, which meet after every operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

MAX_WORKERS = 16
T = TypeVar("T")
R = TypeVar("R")


def workers() -> int:
    """How many threads `in_threads` uses: as many as torch may, at most 16."""
    import torch

    return min(torch.get_num_threads(), MAX_WORKERS)


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """``[work(item) for item in items]``, under torch's inference mode, several items at a time."""
    import torch

    def one(item: T) -> R:
        with torch.inference_mode():  # of this thread
            return work(item)

    count = min(workers(), len(items))
    if count < 2:
        return [one(item) for item in items]
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(one, items))
    finally:
        torch.set_num_threads(threads)


def shares(items: Sequence[T]) -> list[Sequence[T]]:
    """``items`` cut into runs of neighbours of about the same length, one for each thread."""
    count = max(1, min(workers(), len(items)))
    ends = [len(items) * share // count for share in range(count + 1)]
    return [items[start:stop] for start, stop in pairwise(ends)]
