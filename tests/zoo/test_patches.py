"""Patches are a function of (seed, step), and LR and HR are changed together."""

from dataclasses import replace

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
        lr, hr, _ = chosen.get(step)
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
    hr = sampler(augment=(), volumes=[corner]).get(0).hr
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
    first, again = fixed_patches(volumes, 4, (10, 10, 10), 0), fixed_patches(volumes, 4, (10, 10, 10), 0)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert first[0][0].shape == (1, 1, 10, 10, 10)
    assert not torch.equal(first[0][1], first[1][1])


def native(seed, step=(4, 4, 1), factor=4.0):
    """HR whose every LR voxel is the mean of its block."""
    rng = np.random.default_rng(seed)
    shape = tuple(n * s for n, s in zip((6, 7, 5), step, strict=True))
    hr = rng.random(shape).astype(np.float32)
    blocks = [part for n, s in zip((6, 7, 5), step, strict=True) for part in (n, s)]
    lr = hr.reshape(blocks).mean(axis=(1, 3, 5))
    return Prepared("s", lr, hr, np.arange(hr.size, dtype=np.int32), 1.0, step, factor)


def test_native_patches_cover_the_same_place_in_lr_and_hr():
    chosen = PatchSampler([native(0), native(1)], (12, 12, 1), 3, 0, ("flip", "swap"), dims=2)
    for step in range(6):
        lr, hr, factor = chosen.get(step)
        assert lr.shape == (3, 1, 3, 3)
        assert hr.shape == (3, 1, 12, 12)
        assert factor == 4.0
        torch.testing.assert_close(torch.nn.functional.avg_pool2d(hr, 4), lr)


def test_height_is_the_later_axis_of_a_slice():
    hr = np.zeros((8, 10, 6), dtype=np.float32)
    hr += np.arange(10, dtype=np.float32)[:, None]
    volumes = [Prepared("s", hr, hr, np.arange(hr.size, dtype=np.int32), 1.0)]
    image = PatchSampler(volumes, (8, 10, 1), 1, 0, dims=2).get(0).hr[0, 0]
    assert image.shape == (10, 8)
    assert torch.equal(image[:, 0], torch.arange(10.0))


def test_through_the_plane_both_stacks_are_seen_and_the_height_is_along_s():
    shape = (9, 9, 8)
    hr = np.zeros(shape, dtype=np.float32)
    hr += 100 * np.arange(9, dtype=np.float32)[:, None, None] + np.arange(8, dtype=np.float32)
    volumes = [Prepared("s", hr[..., ::4], hr, np.arange(hr.size, dtype=np.int32), 1.0, (1, 1, 4), 4.0)]
    images = PatchSampler(volumes, (6, 1, 8), 24, 0, dims=2, turn=True).get(0)
    assert images.hr.shape == (24, 1, 8, 6)
    assert images.lr.shape == (24, 1, 2, 6)
    spread = (images.hr[:, 0, 0].amax(1) - images.hr[:, 0, 0].amin(1)).tolist()
    assert set(spread) == {0.0, 500.0}
    along = images.hr[:, 0, 1, 0] - images.hr[:, 0, 0, 0]
    assert torch.equal(along, torch.ones(24))


def test_a_batch_holds_one_factor_and_every_factor_has_its_turn():
    volumes = [
        Prepared("s", v.lr, v.hr, v.foreground, 1.0, (1, 1, 1), f) for f, v in ((2.0, volume(0)), (5.0, volume(1)))
    ]
    chosen = sampler(volumes=volumes, augment=())
    seen = [chosen.get(step) for step in range(12)]
    assert {batch.factor for batch in seen} == {2.0, 5.0}
    for batch in seen:
        source = volumes[batch.factor == 5.0]
        assert np.isin(batch.hr.numpy(), source.hr).all()


def test_patches_that_split_an_lr_voxel_or_a_2d_networks_cubes_are_refused():
    with pytest.raises(UserError, match="whole LR voxels"):
        PatchSampler([native(0)], (10, 12, 1), 1, 0, dims=2)
    with pytest.raises(UserError, match="patches of one slice"):
        PatchSampler([volume(0)], (8, 8, 8), 1, 0, dims=2)


def test_validation_slices_of_a_2d_network():
    found = fixed_patches([native(0), native(1)], 3, (12, 12, 1), 0, dims=2)
    assert {sample.hr.shape for sample in found} == {(1, 1, 12, 12)}
    assert {sample.lr.shape for sample in found} == {(1, 1, 3, 3)}
    both = fixed_patches([native(0, (1, 1, 4))], 2, (8, 1, 8), 0, dims=2, turn=True)
    assert [sample.hr.shape for sample in both] == [(1, 1, 8, 6), (1, 1, 8, 7)]


def of_factor(factor):
    return replace(volume(), factor=factor)


def test_shares_say_how_often_a_factor_is_drawn():
    volumes = [of_factor(2.0), of_factor(5.0)]
    drawn = PatchSampler(volumes, (8, 8, 6), 1, 0, shares={5: 3})
    factors = [drawn._make(step, 0, 1).factor for step in range(400)]
    assert 270 < factors.count(5.0) < 330
    even = PatchSampler(volumes, (8, 8, 6), 1, 0)
    assert 170 < [even._make(step, 0, 1).factor for step in range(400)].count(5.0) < 230
    with pytest.raises(UserError, match=r"no task of this training has the factor 4; it has 2, 5"):
        PatchSampler(volumes, (8, 8, 6), 1, 0, shares={4: 1})
