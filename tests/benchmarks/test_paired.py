"""Real pairs: LR and HR of one subject are compared only where they lie on one another."""

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from mrsr_bench import UserError
from mrsr_bench.benchmarks.check import check
from mrsr_bench.benchmarks.datasets import open_dataset
from mrsr_bench.benchmarks.datasets.paired import alignment
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.volume import Volume, load


def head(shift=(0.0, 0.0, 0.0), turn=0.0, thick=2, contrast=1.0, other=False):
    """Blobs at 1 mm, moved by ``shift`` mm and turned by ``turn`` degrees, ``thick`` slices averaged."""
    rng = np.random.default_rng(5 if other else 4)
    data = ndimage.gaussian_filter(rng.normal(size=(56, 60, 48)), 2.5)
    data = np.where(np.abs(data) > data.std(), 900.0, 300.0) * contrast
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in data.shape), indexing="ij")
    data = ndimage.gaussian_filter(data * (x**2 + y**2 + z**2 < 0.8), 0.8)
    data = ndimage.shift(ndimage.rotate(data, turn, reshape=False, order=1), shift, order=1)
    data = data.reshape(56, 60, 48 // thick, thick).mean(3)
    affine = np.diag([1.0, 1.0, thick, 1.0])
    affine[2, 3] = (thick - 1) / 2
    rng = np.random.default_rng(6)
    return Volume((data + rng.normal(0, 8, data.shape)).astype(np.float32), affine)


def test_a_registered_pair_is_aligned_whatever_its_slices_and_gain():
    found = alignment(head(), head(thick=1, contrast=2.0))
    assert found.aligned
    assert found.reason is None
    assert found.shift_mm < 0.3


@pytest.mark.parametrize("moved", [{"shift": (2.0, 0, 0)}, {"shift": (0, 1.5, 0)}, {"turn": 8.0}])
def test_a_moved_or_turned_subject_is_not(moved):
    found = alignment(head(**moved), head(thick=1))
    assert not found.aligned
    assert "not registered" in found.reason


def test_the_shift_is_measured():
    found = alignment(head(shift=(2.0, 0, 0)), head(thick=1))
    assert found.shift_mm == pytest.approx(2.0, abs=0.5)


def test_another_subject_correlates_less_and_noise_not_at_all():
    same, other = alignment(head(), head(thick=1)), alignment(head(other=True), head(thick=1))
    assert other.correlation < same.correlation - 0.2
    noise = np.random.default_rng(3).normal(500, 100, (56, 60, 24)).astype(np.float32)
    assert not alignment(Volume(noise, head().affine), head(thick=1)).aligned


def write(path, volume):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume.data, volume.affine), path)


@pytest.fixture
def pairs(tmp_path):
    for name, shift in (("sub-01_T2w", (0.0, 0, 0)), ("sub-02_T2w", (3.0, 0, 0))):
        write(tmp_path / "lr" / f"{name}.nii.gz", head(shift=shift))
        write(tmp_path / "hr" / f"{name}.nii.gz", head(thick=1))
    return tmp_path


def test_a_pair_gives_its_own_lr_and_says_when_hr_is_no_reference(pairs):
    good, bad = open_dataset(f"paired:{pairs}").cases("all")
    pair = good.acquire(degradations.get("as_acquired"), {}, 0)
    np.testing.assert_array_equal(pair.lr.data, load(pairs / "lr" / "sub-01_T2w.nii.gz").data)
    assert (good.subject, pair.hr.data.shape, pair.unaligned, pair.params["pair"]) == (
        "sub-01",
        (56, 60, 48),
        None,
        "real",
    )
    assert "not registered" in bad.acquire(degradations.get("as_acquired"), {}, 0).unaligned
    simulated = bad.acquire(degradations.get("thick_slices"), {"factor": [1, 1, 2]}, 0)
    assert (simulated.unaligned, simulated.lr.data.shape) == (None, (56, 60, 24))


def test_an_image_without_partner_and_a_missing_folder_are_named(pairs, tmp_path):
    (pairs / "lr" / "sub-02_T2w.nii.gz").unlink()
    with pytest.raises(UserError, match=r"sub-02_T2w\.nii\.gz is only in hr"):
        open_dataset(f"paired:{pairs}").cases("all")
    with pytest.raises(UserError, match=r"is not there; expected lr/NAME\.nii\.gz"):
        open_dataset(f"paired:{tmp_path / 'no'}").cases("all")


def test_a_check_reads_both_images_measures_the_fit_and_names_who_has_no_partner(pairs):
    write(pairs / "hr" / "sub-03_T2w.nii.gz", head(thick=1, other=True))
    write(pairs / "lr" / "sub-04_T2w.nii.gz", head(other=True))
    write(pairs / "hr" / "sub-05_T2w.nii.gz", head(thick=1, shift=(1, 0, 0)))
    write(pairs / "lr" / "sub-05_T2w.nii.gz", head(shift=(1, 0, 0)))
    damaged = pairs / "lr" / "sub-05_T2w.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    report = check(f"paired:{pairs}", jobs=1)
    named = {problem["kind"]: problem["items"] for problem in report["problems"]}
    assert set(named) == {"partner", "corrupt", "alignment", "duplicate"}
    assert named["partner"] == ["sub-03_T2w.nii.gz is only in hr", "sub-04_T2w.nii.gz is only in lr"]
    assert [item.partition(":")[0] for item in named["corrupt"]] == ["sub-05 lr"]
    assert len(named["alignment"]) == 1
    assert named["alignment"][0].startswith("sub-02: LR and HR are not registered")
    assert (report["images"], report["subjects"], report["pairs"]["measured"]) == (6, 3, 2)
    assert [axis["part"] for axis in report["bandwidth"]] == ["lr"] * 3 + ["hr"] * 3


def test_a_good_pair_has_no_problem_and_a_copied_one_has(pairs):
    for part in ("lr", "hr"):
        (pairs / part / "sub-02_T2w.nii.gz").unlink()
    report = check(f"paired:{pairs}", jobs=1)
    assert report["ok"], report["problems"]
    assert report["pairs"]["largest_shift_mm"] < 0.5
    write(pairs / "lr" / "sub-01_T2w.nii.gz", head(thick=1))
    (problem,) = check(f"paired:{pairs}", jobs=1)["problems"]
    assert (problem["kind"], problem["items"]) == ("duplicate", ["sub-01 lr/sub-01_T2w = sub-01 hr/sub-01_T2w"])
