"""Parts are measured in threads where there are cores: the values and their order are those of one after another."""

import threading

import numpy as np
import pytest
import torch

from mrsr_bench.benchmarks.metrics import no_reference, reference
from mrsr_bench.benchmarks.metrics.threads import in_threads, shares


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_threads_change_neither_values_nor_order(threads):
    threads(3)
    names = set()
    barrier = threading.Barrier(3, timeout=30)

    def measure(image):
        names.add(threading.get_ident())
        barrier.wait()
        assert torch.get_num_threads() == 1
        if image.max() == 4:
            raise ValueError("flat")
        return float(image.sum())

    slices = [np.full((2, 2), float(i)) for i in range(6)]
    found = no_reference._values(measure, slices)
    assert found[:4] == [0.0, 4.0, 8.0, 12.0]
    assert found[4] == "pyiqa cannot measure it: flat"
    assert found[5] == 20.0
    assert len(names) == 3, "the barrier opens only if three slices are under way at once"
    assert torch.get_num_threads() == 3


def test_an_error_in_a_thread_is_raised_and_torch_gets_its_threads_back(threads):
    threads(2)
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda item: 1 / item, [1, 0])
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_shares_are_neighbours_and_lose_nothing(threads, count):
    threads(3)
    cut = shares(range(count))
    assert [item for share in cut for item in share] == list(range(count))
    assert max(map(len, cut)) - min(map(len, cut)) <= 1


def test_the_number_of_threads_changes_no_bit_of_a_score(threads):
    rng = np.random.default_rng(3)
    hr = rng.random((45, 37, 41), dtype=np.float32)
    sr = hr + rng.normal(0, 0.1, hr.shape).astype(np.float32)
    box = (slice(3, 44), slice(0, 37), slice(2, 40))
    mask = rng.random(tuple(side.stop - side.start for side in box)) > 0.3
    found = []
    for count in (1, 2, 5):
        threads(count)
        found.append(
            (
                reference.ssim_volume_mean(sr, hr, 1.0, box, mask),
                reference.ssim_slice_means(sr, hr, 1.0, [0, 1, 2, 7, 8, 20, 44]),
                reference._squares(sr, hr).tolist(),
            )
        )
    assert found[0] == found[1] == found[2]
