"""A coronal stack super-resolved and seen from the axial scanner: moved and scaled back, scored where both reach."""

from dataclasses import dataclass

import numpy as np
import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks.check import check
from mrsr_bench.benchmarks.dataset import Case
from mrsr_bench.benchmarks.datasets import open_dataset
from mrsr_bench.benchmarks.datasets.orthogonal import AxialView, OrthogonalCase, translation
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.benchmarks.evaluate import acquired, reference_under
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.volume import Grid, Volume, save


def blobs(points):
    """A smooth object in world coordinates (mm), zero outside a ball."""
    x, y, z = points
    texture = 100 + 30 * np.sin(x / 5) * np.cos(y / 6) + 20 * np.cos(z / 5)
    return texture / (1 + np.exp((np.sqrt(x**2 + y**2 + z**2) - 20) / 1.5))


def sampled(shape, affine, shift=(0, 0, 0), gain=1.0):
    grid = Grid(shape, affine)
    voxels = np.indices(shape).reshape(3, -1)
    points = affine[:3, :3] @ voxels + affine[:3, 3:] - np.array(shift, dtype=float)[:, None]
    return Volume((gain * blobs(points)).reshape(shape).astype(np.float32), grid.affine)


def coronal(**options):
    """Slices along A-P, 3 mm apart; in plane 1 mm."""
    affine = np.array([[1.0, 0, 0, -30], [0, 0, 3.0, -30], [0, 1.0, 0, -30], [0, 0, 0, 1]])
    return sampled((61, 61, 21), affine, **options)


def axial(**options):
    """Slices along S, 3 mm apart; in plane 1 mm; reaches further to the right than the coronal stack."""
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    affine[:3, 3] = (-40, -25, -24)
    return sampled((66, 51, 17), affine, **options)


@dataclass
class Stack(Case):
    volume: Volume
    subject: str = "sub-01"
    image: str = "T2w"

    @property
    def fingerprint(self):
        return str(float(self.volume.data.sum()))

    def hr(self):
        return self.volume


def pair_of(cor, tra):
    protocol = get_protocol("prostate2019-orthogonal")
    case = OrthogonalCase(Stack(cor), Stack(tra))
    return acquired(case, degradations.get("as_acquired"), protocol, 0), protocol


def test_a_fine_volume_is_seen_as_the_axial_scanner_sees_it():
    affine = np.eye(4)
    affine[:3, 3] = -32
    fine = sampled((65, 65, 65), affine)
    there = axial()
    view = AxialView(fine.grid, there.grid)
    seen, inside = view(fine.data), view.inside()
    thick = np.mean([sampled(there.data.shape, _raised(there.affine, dz)).data for dz in (-1.2, -0.6, 0, 0.6, 1.2)], 0)
    assert np.abs(seen - thick)[inside].max() < 0.5
    assert not inside[:8].any()
    assert inside[30, 25, 8]


def _raised(affine, dz):
    moved = affine.copy()
    moved[2, 3] += dz
    return moved


def test_the_translation_and_the_gain_between_the_scans_are_found_and_recorded():
    moved = (2.0, -1.5, 1.0)
    pair, _ = pair_of(coronal(), axial(shift=moved, gain=1.4))
    assert pair.unaligned is None
    assert pair.params["shift_mm"] == pytest.approx(moved, abs=0.4)
    assert pair.params["gain"] == pytest.approx(1.4, rel=0.05)
    assert pair.params["correlation"] > 0.8


def test_stacks_askew_in_the_box_that_they_share_are_compared_where_both_are():
    """As a prostate's are: turned about R-L; much of the box around such a stack lies outside it."""
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(0.35), -np.sin(0.35)], [np.sin(0.35), np.cos(0.35)]]
    tra = axial()
    narrow = np.array([[1.0, 0, 0, -30], [0, 0, 3.0, -18], [0, 1.0, 0, -30], [0, 0, 0, 1]])
    cor = sampled((61, 61, 13), turn @ narrow)
    tra = sampled(tra.data.shape, turn @ tra.affine, shift=(2.0, -1.5, 1.0))
    shift, correlation = translation(cor, tra)
    assert shift == pytest.approx((2.0, -1.5, 1.0), abs=0.4)
    assert correlation > 0.8


def test_the_right_volume_scores_better_than_interpolation():
    pair, protocol = pair_of(coronal(), axial(shift=(2, -1.5, 1), gain=1.4))
    reference = reference_under(protocol, pair)
    assert reference.is_hr
    assert not reference.region[~pair.overlap].any()
    truth = sampled(pair.target.shape, pair.target.affine)
    blurred = truth.data.mean() + 0.7 * (truth.data - truth.data.mean())
    errors = [np.abs(pair.view(sr) - pair.hr.data)[reference.region].mean() for sr in (truth.data, blurred)]
    assert errors[0] < 0.5 * errors[1]
    assert pair.view(truth.data).shape == pair.hr.data.shape
    assert pair.target.shape[2] > 3 * pair.lr.data.shape[2]


def test_stacks_of_two_bodies_are_not_compared():
    noise = np.random.default_rng(0).normal(100, 30, axial().data.shape)
    pair, protocol = pair_of(coronal(), axial().with_data(noise))
    assert "do not lie on one another" in pair.unaligned
    assert not reference_under(protocol, pair).is_hr


def test_stacks_that_share_no_place_are_refused():
    far = axial()
    far.affine[2, 3] += 300
    with pytest.raises(UserError, match="share less than 8 mm"):
        translation(coronal(), far)


def test_a_folder_gives_the_pairs_of_its_subjects(tmp_path):
    for name, volume in (("sub-1_acq-cor", coronal()), ("sub-1_acq-tra", axial()), ("sub-2_acq-cor", coronal())):
        save(volume, tmp_path / f"{name}_T2w.nii.gz")
    cases = open_dataset(f"orthogonal:{tmp_path}").cases("all")
    assert [case.subject for case in cases] == ["sub-1"]
    assert cases[0].hr().data.shape == (61, 61, 21)


def test_an_image_without_a_real_partner_is_no_pair(bench):
    protocol = get_protocol("real-paired")
    with pytest.raises(UserError, match="real-paired compares with a real HR scan, and T1w has none"):
        acquired(bench.dataset.all_cases[0], degradations.get("as_acquired"), protocol, 0)


def test_a_check_reads_both_stacks_measures_their_fit_and_names_who_has_one(tmp_path):
    turned = axial(shift=(2.0, -1.5, 1.0))
    stacks = {"1_acq-cor": coronal(), "1_acq-tra": turned, "2_acq-cor": coronal(gain=1.1), "3_acq-tra": axial()}
    for name, volume in stacks.items():
        save(volume, tmp_path / f"sub-{name}_T2w.nii.gz")
    report = check(f"orthogonal:{tmp_path}", jobs=1)
    (problem,) = report["problems"]
    assert problem["kind"] == "partner"
    assert problem["items"] == ["sub-2 has no axial stack", "sub-3 has no coronal stack"]
    assert report["pairs"]["largest_shift_mm"] == pytest.approx(np.linalg.norm((2.0, -1.5, 1.0)), abs=0.5)
    damaged = tmp_path / "sub-1_acq-tra_T2w.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:500])
    problems = {problem["kind"]: problem["items"] for problem in check(f"orthogonal:{tmp_path}", jobs=1)["problems"]}
    assert [item.partition(":")[0] for item in problems["corrupt"]] == ["sub-1 axial"]
