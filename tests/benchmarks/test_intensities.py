"""Pairs in 8 bits: one line for the whole volume, whole numbers, and nothing of it where a protocol does not ask."""

import numpy as np
import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks.dataset import Pair
from mrsr_bench.benchmarks.intensities import as_stated, in_eight_bits
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.volume import Volume


def pair(**changes):
    rng = np.random.default_rng(5)
    hr = Volume(rng.normal(700, 300, (8, 9, 10)).astype(np.float32), np.eye(4))
    lr = Volume(hr.data[::2] * 1.4, np.diag([2, 1, 1, 1.0]))
    return Pair(
        lr, hr, {}, **{"noise_free": hr.with_data(hr.data + 0.3), "labels": np.ones((8, 9, 10), np.int16), **changes}
    )


def test_hr_fills_the_range_in_whole_numbers_and_lr_follows_the_same_line():
    given = pair()
    made = in_eight_bits(given)
    low, high = given.hr.data.min(), given.hr.data.max()
    expected = (given.hr.data - low) * (255 / (high - low))
    assert (made.hr.data.min(), made.hr.data.max()) == (0, 255)
    assert np.abs(made.hr.data - expected).max() <= 0.501
    inside = (given.lr.data > low) & (given.lr.data < high)
    assert np.abs(made.lr.data - (given.lr.data - low) * (255 / (high - low)))[inside].max() <= 0.501
    for volume in (made.hr, made.lr):
        np.testing.assert_array_equal(volume.data, np.round(volume.data))
        assert volume.data.min() >= 0
        assert volume.data.max() <= 255


def test_the_noise_free_object_is_not_rounded():
    made = in_eight_bits(pair())
    assert np.abs(made.noise_free.data - np.round(made.noise_free.data)).max() > 0.1


def test_a_constant_volume_has_no_8_bit_scale():
    flat = Volume(np.full((4, 4, 4), 3, dtype=np.float32), np.eye(4))
    with pytest.raises(UserError, match="HR is constant"):
        in_eight_bits(Pair(flat, flat, {}))


def test_only_a_protocol_that_asks_for_8_bits_gets_them():
    given = pair()
    assert as_stated(given, get_protocol("inplane-4x4x1")) is given
    assert as_stated(given, get_protocol("prostate2019-iso-4x")).hr.data.max() == 255


def test_without_a_reference_no_truth_is_left():
    made = as_stated(pair(), get_protocol("real"))
    assert made.noise_free is None
    assert made.labels is None
