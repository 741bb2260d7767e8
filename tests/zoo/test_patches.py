"""Patches are a function of (seed, step), and LR and HR are changed together."""

import numpy as np
import pytest
import torch

from mrsr_bench import UserError
from mrsr_bench.zoo.patches import PatchSampler, Prepared, fixed_patches


def volume(seed=0, shape=(20, 22, 18), subject="s"):
    rng = np.random.default_rng(seed)
    hr = rng.random(shape).astype(np.float32)
    return Prepared(subject, hr * 2, hr, np.arange(hr.size, dtype=np.int32), 1.0)


def sampler(seed=0, augment=("flip", "swap", "scale"), batch=3, volumes=None):
    return PatchSampler(volumes or [volume(0), volume(1)], (8, 8, 6), batch, seed, augment)


def test_a_batch_depends_on_seed_and_step_alone():
    one, other = sampler(), sampler()
    forward = [one.get(step)[0] for step in range(5)]
    backward = [other.get(step)[0] for step in reversed(range(5))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert not torch.equal(forward[0], forward[1])
    assert not torch.equal(sampler(seed=1).get(0)[0], forward[0])


def test_lr_and_hr_are_augmented_together():
    chosen = sampler()
    for step in range(10):
        lr, hr = chosen.get(step)
        assert lr.shape == hr.shape == (3, 1, 8, 8, 6)
        torch.testing.assert_close(lr, hr * 2)


def test_augmentation_happens():
    plain, changed = sampler(augment=()), sampler()
    assert any(not torch.equal(plain.get(s)[1], changed.get(s)[1]) for s in range(3))
    assert plain.get(0)[1].max() <= 1


def test_processes_share_a_batch_without_overlap():
    whole = sampler(batch=4).get(2)[1]
    parts = [sampler(batch=4).get(2, rank, 2)[1] for rank in (0, 1)]
    assert torch.equal(whole[0::2], parts[0])
    assert torch.equal(whole[1::2], parts[1])


def test_patches_stay_inside_and_are_centred_on_the_foreground():
    base = volume()
    corner = Prepared("s", base.lr, base.hr, np.array([0], dtype=np.int32), 1.0)
    _, hr = sampler(augment=(), volumes=[corner]).get(0)
    assert np.array_equal(hr[0, 0].numpy(), base.hr[:8, :8, :6])


def test_a_volume_smaller_than_the_patch_is_named():
    with pytest.raises(
        UserError, match=r"small: a volume of shape \(20, 22, 5\) is smaller than the patch of 8 x 8 x 6"
    ):
        sampler(volumes=[volume(shape=(20, 22, 5), subject="small")])
    with pytest.raises(UserError, match="no volume"):
        PatchSampler([], (8, 8, 8), 1, 0)


def test_validation_patches_are_fixed_and_take_turns():
    volumes = [volume(0), volume(1)]
    first, again = fixed_patches(volumes, 4, 10, 0), fixed_patches(volumes, 4, 10, 0)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert first[0][0].shape == (1, 1, 10, 10, 10)
    assert not torch.equal(first[0][1], first[1][1])
