"""A folder of one's own images: which are found, whose they are and on which side of a split."""

import gzip
import json
import os

import nibabel
import numpy as np
import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks.datasets import open_dataset
from mrsr_bench.benchmarks.datasets.folder import FolderDataset
from mrsr_bench.benchmarks.degradations import degradations


def image(path, *shape, value=None):
    """A small random NIfTI at ``path``, folders made on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(abs(len(str(path))))
    data = rng.normal(100, 20, shape or (6, 7, 8)) if value is None else np.full(shape or (6, 7, 8), value)
    nibabel.save(nibabel.Nifti1Image(data.astype(np.float32), np.diag([1, 1, 2, 1.0])), path)
    return path


def found(dataset, split="all", **more):
    return [(case.subject, case.image) for case in dataset.cases(split, **more)]


def subjects(dataset, split, **more):
    return [case.subject for case in dataset.cases(split, **more)]


def refusal(path, split="all", suffix=None, **more):
    with pytest.raises(UserError) as raised:
        FolderDataset(path, suffix).cases(split, **more)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_file_is_one_case(tmp_path):
    path = image(tmp_path / "sub-07_T1w.nii.gz")
    assert found(FolderDataset(path)) == [("sub-07", "sub-07_T1w")]
    assert found(FolderDataset(image(tmp_path / "head.nii"))) == [("head", "head")]


def test_a_case_gives_its_volume_and_an_acquisition(tmp_path):
    path = image(tmp_path / "a.nii.gz")
    case = FolderDataset(path).cases("all")[0]
    np.testing.assert_array_equal(case.hr().data, nibabel.load(path).get_fdata(dtype=np.float32))
    pair = case.acquire(degradations.get("thick_slices"), {"factor": [1, 1, 2]}, seed=0)
    assert (pair.lr.data.shape, pair.hr.data.shape) == ((6, 7, 4), (6, 7, 8))


def test_plain_files_at_any_depth_are_subjects_in_sorted_order(tmp_path):
    for name in ("b.nii.gz", "deep/er/c.nii", "a.NII.GZ"):
        image(tmp_path / name.lower()).rename(tmp_path / name)
    assert found(FolderDataset(tmp_path)) == [("a", "a"), ("b", "b"), ("c", "c")]


def test_a_bids_tree_has_the_subjects_of_its_entities(tmp_path):
    image(tmp_path / "sub-02" / "anat" / "sub-02_T1w.nii.gz")
    image(tmp_path / "sub-01" / "ses-a" / "anat" / "sub-01_ses-a_T1w.nii.gz")
    image(tmp_path / "sub-03" / "anat" / "t1.nii.gz")
    assert found(FolderDataset(tmp_path)) == [
        ("sub-01", "sub-01_ses-a_T1w"),
        ("sub-02", "sub-02_T1w"),
        ("sub-03", "t1"),
    ]


def test_folders_are_subjects_where_their_files_have_the_same_names(tmp_path):
    for patient in ("patient1", "patient2"):
        image(tmp_path / patient / "t1.nii.gz")
        image(tmp_path / patient / "flair.nii.gz")
    assert subjects(FolderDataset(tmp_path, "t1"), "all") == ["patient1", "patient2"]
    assert "patient1 has 2 images" in refusal(tmp_path)


def test_what_is_no_image_of_intensities_is_passed_over(tmp_path):
    image(tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    image(tmp_path / "sub-01" / "anat" / "sub-01_desc-brain_mask.nii.gz")
    image(tmp_path / "sub-01" / "anat" / "sub-01_dseg.nii.gz")
    image(tmp_path / "derivatives" / "sub-01" / "sub-01_T1w.nii.gz")
    image(tmp_path / "sourcedata" / "sub-09_T1w.nii.gz")
    image(tmp_path / ".git" / "annex" / "sub-08_T1w.nii.gz")
    image(tmp_path / "._sub-07_T1w.nii.gz")
    (tmp_path / "sub-01" / "anat" / "sub-01_T1w.json").write_text("{}")
    (tmp_path / "README").write_text("about")
    (tmp_path / ".nii").write_text("no name")
    assert found(FolderDataset(tmp_path)) == [("sub-01", "sub-01_T1w")]


def test_derivatives_are_read_when_they_are_what_is_named(tmp_path):
    image(tmp_path / "derivatives" / "prep" / "sub-01_T1w.nii.gz")
    assert "holds no images outside derivatives" in refusal(tmp_path)
    assert subjects(FolderDataset(tmp_path / "derivatives"), "all") == ["sub-01"]


def test_a_mask_is_read_when_it_is_asked_for(tmp_path):
    image(tmp_path / "sub-01_T1w.nii.gz")
    image(tmp_path / "sub-01_mask.nii.gz")
    assert found(FolderDataset(tmp_path, "mask")) == [("sub-01", "sub-01_mask")]


def test_several_images_of_a_subject_are_listed_and_a_suffix_chooses(tmp_path):
    for name in ("sub-01_T1w", "sub-01_T2w", "sub-02_T1w", "sub-02_T2w", "sub-03_T1w"):
        image(tmp_path / f"{name}.nii.gz")
    said = refusal(tmp_path)
    assert "sub-01 has 2 images (sub-01_T1w.nii.gz, sub-01_T2w.nii.gz), as have 1 other" in said
    assert "--suffix, one of: T1w, T2w" in said
    assert subjects(FolderDataset(tmp_path, "T1w"), "all") == ["sub-01", "sub-02", "sub-03"]
    assert subjects(FolderDataset(tmp_path, "t2W"), "all") == ["sub-01", "sub-02"]
    assert "no image has the suffix 'FLAIR'; there are: T1w, T2w" in refusal(tmp_path, suffix="FLAIR")


def test_a_longer_suffix_is_more_exact_and_runs_of_one_suffix_are_cases_of_one_subject(tmp_path):
    for name in ("sub-01_acq-thick_T2w", "sub-01_acq-thin_T2w"):
        image(tmp_path / f"{name}.nii.gz")
    assert found(FolderDataset(tmp_path, "acq-thick_T2w")) == [("sub-01", "sub-01_acq-thick_T2w")]
    assert subjects(FolderDataset(tmp_path, "T2w"), "all") == ["sub-01", "sub-01"]


def test_a_series_is_several_cases_of_one_subject(tmp_path):
    path = image(tmp_path / "sub-01_asl.nii.gz", 5, 6, 7, 12)
    cases = FolderDataset(tmp_path).cases("all")
    assert [case.image for case in cases[:4:3]] == ["sub-01_asl_vol-000", "sub-01_asl_vol-003"]
    assert ({case.subject for case in cases}, len(cases)) == ({"sub-01"}, 12)
    assert len({case.fingerprint for case in cases}) == 12
    np.testing.assert_array_equal(cases[3].hr().data, nibabel.load(path).get_fdata(dtype=np.float32)[..., 3])


def test_one_bad_file_hides_no_other_and_says_so_itself(tmp_path):
    image(tmp_path / "good.nii.gz")
    (tmp_path / "bad.nii.gz").write_bytes(b"not gzip")
    bad, good = FolderDataset(tmp_path).cases("all")
    assert good.hr().data.shape == (6, 7, 8)
    with pytest.raises(UserError, match=r"bad\.nii\.gz: not a readable image"):
        bad.hr()


def test_an_hdr_img_pair_is_one_image_and_both_files_count(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(np.ones((4, 4, 4), np.float32), np.eye(4)), tmp_path / "pair.img")
    (case,) = FolderDataset(tmp_path).cases("all")
    assert case.hr().data.shape == (4, 4, 4)
    before = case.fingerprint
    (tmp_path / "pair.hdr").write_bytes((tmp_path / "pair.hdr").read_bytes()[:-4] + b"abcd")
    assert case.fingerprint != before
    assert found(FolderDataset(tmp_path / "pair.hdr")) == [("pair", "pair")]


def test_the_fingerprint_is_of_the_bytes(tmp_path):
    path, copy = image(tmp_path / "a.nii"), tmp_path / "b" / "other.nii"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    case, same = FolderDataset(path).cases("all")[0], FolderDataset(copy).cases("all")[0]
    before = case.fingerprint
    assert before == same.fingerprint
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(1, 1))
    assert case.fingerprint != before
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        _ = case.fingerprint


def test_split_folders_are_honoured(tmp_path):
    for split, name in [("train", "c"), ("train", "a"), ("val", "b"), ("test", "d")]:
        image(tmp_path / split / f"{name}.nii.gz")
    dataset = FolderDataset(tmp_path)
    assert subjects(dataset, "train") == ["a", "c"]
    assert subjects(dataset, "val") == ["b"]
    assert subjects(dataset, "test") == ["d"]
    assert subjects(dataset, "all") == subjects(dataset, "all", seed=9) == ["a", "b", "c", "d"]


def test_a_split_that_is_not_among_the_declared_ones_is_refused(tmp_path):
    image(tmp_path / "train" / "a.nii.gz")
    image(tmp_path / "test" / "b.nii.gz")
    assert "declare no val split, only train, test" in refusal(tmp_path, "val")
    assert "there is no split 'dev'" in refusal(tmp_path, "dev")


def test_a_subject_in_two_splits_is_refused(tmp_path):
    image(tmp_path / "train" / "sub-01_T1w.nii.gz")
    image(tmp_path / "test" / "sub-01_T1w.nii.gz")
    assert "sub-01 is in" in refusal(tmp_path, "test")


def participants(tmp_path, rows):
    for name in ("sub-01", "sub-02", "sub-03", "sub-04"):
        image(tmp_path / name / "anat" / f"{name}_T1w.nii.gz")
    (tmp_path / "participants.tsv").write_text("\ufeffparticipant_id\tage\tsplit\n" + rows, encoding="utf-8")
    return FolderDataset(tmp_path)


def test_participants_with_a_split_column_are_honoured(tmp_path):
    dataset = participants(tmp_path, "sub-01\t30\ttest\n02\t31\ttrain\nsub-03\t\tn/a\nsub-99\t2\tval\n")
    assert subjects(dataset, "test") == ["sub-01"]
    assert subjects(dataset, "train") == ["sub-02"]
    assert len(subjects(dataset, "all")) == 4
    assert "participants.tsv declare no val split" in refusal(tmp_path, "val")


def test_participants_with_an_odd_split_or_no_column(tmp_path):
    participants(tmp_path, "sub-01\t30\tholdout\n")
    assert "sub-01 has the split 'holdout'; expected train, val, test or n/a" in refusal(tmp_path, "test")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t3\n")
    assert len(subjects(FolderDataset(tmp_path), "test", seed=0)) == 1
    (tmp_path / "participants.tsv").write_bytes(b"\xff\xfe\x00")
    assert "not a readable table" in refusal(tmp_path, "test")


@pytest.mark.parametrize("count", [3, 8, 20])
def test_an_undeclared_split_is_drawn_by_subject_from_the_seed(tmp_path, count):
    for index in range(count):
        for run in (1, 2):
            image(tmp_path / f"sub-{index:02d}_run-{run}_T1w.nii", 3, 3, 3)
    dataset = FolderDataset(tmp_path, "T1w")
    parts = {split: set(subjects(dataset, split, seed=4)) for split in ("train", "val", "test")}
    assert all(parts.values())
    assert sum(len(part) for part in parts.values()) == len(set.union(*parts.values())) == count
    assert len(parts["train"]) >= count - 2 * max(1, round(0.15 * count))
    assert set(subjects(dataset, "test", seed=4)) == parts["test"]
    if count == 20:
        assert set(subjects(dataset, "test", seed=5)) != parts["test"]


def test_two_subjects_cannot_be_split(tmp_path):
    image(tmp_path / "a.nii")
    image(tmp_path / "b.nii")
    assert "takes 3 subjects where there are 2" in refusal(tmp_path, "train")


def test_links_are_followed_and_loops_are_not(tmp_path):
    image(tmp_path / "store" / "x1.nii.gz")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "sub-01_T1w.nii.gz").symlink_to(tmp_path / "store" / "x1.nii.gz")
    (tree / "again").symlink_to(tree, target_is_directory=True)
    (tree / "up").symlink_to(tmp_path, target_is_directory=True)
    (tree / "gone").symlink_to(tmp_path / "nowhere", target_is_directory=True)
    assert found(FolderDataset(tree)) == [("sub-01", "sub-01_T1w"), ("x1", "x1")]


def test_a_link_without_its_file_says_what_to_do(tmp_path):
    (tmp_path / "sub-01_T1w.nii.gz").symlink_to(tmp_path / ".git" / "annex" / "objects" / "key")
    (case,) = FolderDataset(tmp_path).cases("all")
    with pytest.raises(UserError, match="link to a file that is not here"):
        case.hr()


def test_folders_without_images_say_what_was_expected(tmp_path):
    assert "holds no images; expected files that end in" in refusal(tmp_path)
    (tmp_path / "slice1.dcm").write_bytes(b"DICM")
    assert "holds DICOM files and no NIfTI" in refusal(tmp_path)
    (tmp_path / "a.png").write_bytes(b"png")
    assert "a.png: cannot read this format" in refusal(tmp_path / "a.png")


def test_a_missing_path_is_refused_at_once(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        FolderDataset(tmp_path / "missing")


def test_a_dataset_is_opened_by_name_or_path(tmp_path, monkeypatch):
    image(tmp_path / "heads" / "a.nii.gz")
    monkeypatch.chdir(tmp_path)
    assert found(open_dataset("heads")) == found(open_dataset(tmp_path / "heads")) == [("a", "a")]
    assert open_dataset("heads").name == "heads"
    with pytest.raises(UserError, match="no such file or folder"):
        open_dataset("heads/b.nii.gz")
    with pytest.raises(UserError, match=r"there is no dataset called 'haeds'.*, or a path") as raised:
        open_dataset("haeds")
    assert "\n" not in str(raised.value)


def test_a_registered_name_comes_before_a_path_and_takes_no_suffix(tmp_path, monkeypatch):
    from mrsr_bench.benchmarks.datasets import datasets

    image(tmp_path / "known" / "a.nii.gz")
    registered = FolderDataset(tmp_path / "known")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "_components", {"known": registered})
    assert open_dataset("known") is registered
    with pytest.raises(UserError, match="leave it out"):
        open_dataset("known", suffix="T1w")


def test_a_bids_tree_as_it_is_published(tmp_path):
    """Everything at once: description, participants, two contrasts, a fieldmap, a derivative, a compressed table."""
    (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.9.0"}))
    with gzip.open(tmp_path / "stim.tsv.gz", "wt") as file:
        file.write("onset")
    for name in ("sub-A1", "sub-B2", "sub-C3"):
        for kind, suffix in [("anat", "T1w"), ("anat", "T2w"), ("fmap", "phasediff"), ("func", "task-rest_bold")]:
            image(tmp_path / name / kind / f"{name}_{suffix}.nii.gz", 3, 3, 3)
    image(tmp_path / "derivatives" / "seg" / "sub-A1" / "anat" / "sub-A1_dseg.nii.gz")
    assert "sub-A1 has 4 images" in refusal(tmp_path)
    assert subjects(FolderDataset(tmp_path, "T1w"), "all") == ["sub-A1", "sub-B2", "sub-C3"]
    assert len(subjects(FolderDataset(tmp_path, "T1w"), "val")) == 1
