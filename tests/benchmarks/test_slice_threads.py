"""Slices are measured in threads where there are cores: the values and their order are those of one after another."""

import os
import threading

import numpy as np

from mrsr_bench.benchmarks.metrics import no_reference


def test_threads_change_neither_values_nor_order(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    names = set()
    barrier = threading.Barrier(3, timeout=30)

    def measure(image):
        names.add(threading.get_ident())
        barrier.wait()
        if image.max() == 4:
            raise ValueError("flat")
        return float(image.sum())

    slices = [np.full((2, 2), float(i)) for i in range(6)]
    found = no_reference._values(measure, slices)
    assert found[:4] == [0.0, 4.0, 8.0, 12.0]
    assert found[4] == "pyiqa cannot measure it: flat"
    assert found[5] == 20.0
    assert len(names) == 3, "the barrier opens only if three slices are under way at once"
