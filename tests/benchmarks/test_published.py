"""Published datasets in miniature: each real layout, its splits, and every fault that `data check` must name."""

import csv
import json
import os
import runpy
import shutil
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.signal import resample

from mrsr_bench import UserError
from mrsr_bench.benchmarks import check as checking
from mrsr_bench.benchmarks.bandwidth import bandwidth
from mrsr_bench.benchmarks.check import check
from mrsr_bench.benchmarks.datasets import datasets
from mrsr_bench.benchmarks.datasets.phantom import PhantomDataset
from mrsr_bench.benchmarks.datasets.split_lists import (
    committed,
    families_of,
    scaled_sizes,
    seeded_split,
    share_split,
    splits_sha256,
)
from mrsr_bench.benchmarks.protocol import sha256_of
from mrsr_bench.cli import main


def image(path, spacing=(1.0, 1.0, 1.0), shape=(6, 7, 8), seed=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(map(ord, str(path))) if seed is None else seed)
    data = rng.normal(100, 20, shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([*spacing, 1.0])), path)
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MRSR_BENCH_DATA", str(tmp_path))
    return tmp_path


def found(name, split="all"):
    return [(case.subject, case.image) for case in datasets.get(name).cases(split)]


HCP_IMAGES = {
    "hcp": "unprocessed/3T/T1w_MPR1/{}_3T_T1w_MPR1.nii.gz",
    "hcp_t2w": "unprocessed/3T/T2w_SPC1/{}_3T_T2w_SPC1.nii.gz",
    "hcp_preprocessed": "T1w/T1w_acpc_dc_restore.nii.gz",
    "hcp_preprocessed_brain": "T1w/T1w_acpc_dc_restore_brain.nii.gz",
    "hcp_preprocessed_t2w": "T1w/T2w_acpc_dc_restore.nii.gz",
}


@pytest.mark.parametrize("folder", ["hcp", "HCP_1200"])
def test_hcp_as_its_bucket_has_it(root, folder):
    for subject in ("100206", "100307"):
        for path in HCP_IMAGES.values():
            image(root / folder / subject / path.format(subject), (0.7,) * 3)
        image(root / folder / subject / "unprocessed/3T/T1w_MPR2" / f"{subject}_3T_T1w_MPR2.nii.gz", (0.7,) * 3)
    for name in HCP_IMAGES:
        assert [subject for subject, _ in found(name)] == ["100206", "100307"], name
    assert found("hcp_preprocessed")[0] == ("100206", "100206_T1w_acpc_dc_restore")
    assert found("hcp")[1] == ("100307", "100307_3T_T1w_MPR1")


def hcp_tables(root, count=1113):
    """Subjects 100001.. and some without T1w; two siblings (one mother) in every ten."""
    (root / "hcp").mkdir()
    with (root / "hcp" / "unrestricted_x.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Subject", "T1_Count"])
        rows.writerows([[100001 + i, 1] for i in range(count)] + [[900001, 0]])
    restricted = root / "hcp" / "RESTRICTED_x.csv"
    with restricted.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Subject", "Family_ID", "Mother_ID", "Father_ID"])
        rows.writerows([[100001 + i, "x", f"m{i - (i % 10 == 1)}", f"f{i}"] for i in range(count)])
    return restricted


def test_hcp_is_split_in_the_sizes_of_the_paper_and_families_stay_together(root):
    restricted = hcp_tables(root)
    hcp = datasets.get("hcp")
    with_families = hcp.splits()
    side = {subject: split for split, members in with_families.items() for subject in members}
    assert Counter(side.values()) == {"train": 780, "val": 111, "evaluation": 111, "test": 111}
    siblings = [(str(100001 + i), str(100000 + i)) for i in range(1, 1113, 10)]
    assert all(side[a] == side[b] for a, b in siblings)
    facts = hcp.split_facts()
    assert len(facts["restricted_table_sha256"]) == 64
    assert "m1" not in json.dumps(facts)
    restricted.unlink()
    alone = hcp.splits()
    assert {split: len(members) for split, members in alone.items()} == Counter(side.values())
    assert any(a in alone[split] and b not in alone[split] for a, b in siblings for split in alone)
    assert hcp.split_facts()["final"]


def test_a_part_of_hcp_is_split_provisionally_and_says_so(root):
    for subject in range(100100, 100120):
        image(root / "hcp" / str(subject) / HCP_IMAGES["hcp"].format(subject), (0.7,) * 3)
    facts = datasets.get("hcp").split_facts()
    assert (sum(facts["sizes"].values()), facts["final"]) == (20, False)
    assert "another copy may be split otherwise" in facts["note"]


def ixi(root, *names, folder="ixi/IXI-{}"):
    spacing = {"T1": (0.9375, 0.9375, 1.2), "T2": (0.9375, 0.9375, 1.25), "PD": (0.9375, 0.9375, 1.25)}
    for name in names:
        contrast = name[-2:]
        image(root / folder.format(contrast) / f"{name}.nii.gz", spacing[contrast], (5, 5, 3))


def test_ixi_by_contrast_and_site_and_a_subject_is_on_one_side_in_every_contrast(root):
    people = [f"IXI{i:03d}-{('Guys', 'HH', 'IOP')[i % 3]}-{800 + i}" for i in range(2, 42)]
    ixi(root, *[f"{p}-T1" for p in people], *[f"{p}-T2" for p in people[::2]], *[f"{p}-PD" for p in people[1::2]])
    assert len(found("ixi")) == 40
    assert {subject for subject, _ in found("ixi_guys_t2")} == {p[:6] for p in people[::2] if "Guys" in p}
    for split in ("train", "val", "test"):
        of_t1 = {subject for subject, _ in found("ixi", split)}
        assert of_t1
        assert {subject for subject, _ in found("ixi_t2", split)} == of_t1 & {p[:6] for p in people[::2]}


@pytest.mark.parametrize("folder", ["ixi/IXI-{}", "ixi", "IXI/{}"])
def test_ixi_lies_as_it_is_fetched_or_as_others_unpack_it(root, folder):
    ixi(root, "IXI002-Guys-0828-T1", "IXI012-HH-1211-T2", folder=folder)
    assert found("ixi") == [("IXI002", "IXI002-Guys-0828-T1")]
    assert found("ixi_t2") == [("IXI012", "IXI012-HH-1211-T2")]


def test_a_part_of_ixi_is_no_complete_copy_of_a_site_or_a_contrast(root):
    ixi(root, "IXI002-Guys-0828-T2")
    (count, *_), empty = (
        [p["sentence"] for p in check("ixi_guys_t2", jobs=1)["problems"] if p["kind"] == kind]
        for kind in ("count", "split")
    )
    assert count == "1 T2 images of all sites where a complete copy has 578"
    assert empty == ["no subject that is here is in the split train or test"]
    ixi(root, *[f"IXI{i:03d}-Guys-{800 + i}-T2" for i in range(3, 9)], "IXI050-HH-1211-T2")
    ixi(root, "IXI002-Guys-0828-PD", "IXI050-HH-1211-PD")
    (absent,) = [p for p in check("ixi_pd", jobs=1)["problems"] if p["kind"] == "contrast"]
    assert absent["items"] == [f"IXI{i:03d}" for i in range(3, 9)]
    ixi(root, *[f"IXI{i:03d}-Guys-{800 + i}-PD" for i in range(3, 6)])
    assert "contrast" not in {p["kind"] for p in check("ixi_pd", jobs=1)["problems"]}, "a complete copy lacks four too"


def test_the_slice_wise_split_of_ixi_has_the_same_subjects_on_both_sides(root):
    ixi(root, *[f"IXI{i:03d}-Guys-{800 + i}-T2" for i in range(2, 12)])
    train, test = (datasets.get("ixi_guys_t2_slicewise_leaks").cases(split) for split in ("train", "test"))
    assert len(train) + len(test) == 30
    assert {case.subject for case in test} <= {case.subject for case in train}
    assert test[0].hr().data.shape == (5, 5, 1)
    assert "leaks" in datasets.get("ixi_guys_t2_slicewise_leaks").name


def test_the_decathlon_prostate_takes_the_t2_channel_and_no_mac_files(root):
    folder = root / "msd_prostate" / "Task05_Prostate" / "Task05_Prostate"
    for sub, number in (("imagesTr", "00"), ("imagesTs", "03")):
        image(folder / sub / f"prostate_{number}.nii.gz", (0.6, 0.6, 4.0), (6, 7, 8, 2))
        image(folder / sub / f"._prostate_{number}.nii.gz", (0.6, 0.6, 4.0))
    image(folder / "labelsTr" / "prostate_00.nii.gz", (0.6, 0.6, 4.0))
    first, second = datasets.get("msd_prostate").cases("all")
    assert (first.subject, second.subject) == ("prostate_00", "prostate_03")
    expected = nibabel.load(first.path).get_fdata(dtype=np.float32)[..., 0]
    np.testing.assert_array_equal(first.hr().data, expected)


def test_oasis_is_read_from_analyze_with_sagittal_axes(root):
    raw = root / "oasis1" / "disc1" / "OAS1_0001_MR1" / "RAW"
    raw.mkdir(parents=True)
    data = np.random.default_rng(1).integers(0, 99, (8, 7, 6, 1)).astype(np.int16)
    for run in (1, 2):
        header = nibabel.AnalyzeHeader()
        header.set_data_dtype(np.int16)
        header.set_data_shape(data.shape)
        header.set_zooms((1.0, 1.0, 1.25, 1.0))
        nibabel.AnalyzeImage(data, np.diag([1.0, 1.0, 1.25, 1.0]), header).to_filename(
            raw / f"OAS1_0001_MR1_mpr-{run}_anon.img"
        )
    (case,) = datasets.get("oasis1").cases("all")
    volume = case.hr()
    assert (case.subject, case.image, volume.data.shape) == ("OAS1_0001", "OAS1_0001_MR1_mpr-1_anon", (8, 7, 6))
    assert nibabel.aff2axcodes(volume.affine) == ("A", "S", "L")
    np.testing.assert_allclose(volume.spacing, (1.0, 1.0, 1.25))
    table = root / "oasis1" / "oasis_cross-sectional.csv"
    table.write_text("ID,M/F\nOAS1_0001_MR1,F\nOAS1_0002_MR1,M\nOAS1_0002_MR2,M\n")
    (missing,) = [p for p in checking.check("oasis1", jobs=1)["problems"] if p["kind"] == "missing"]
    assert missing["items"] == ["OAS1_0002"]
    table.write_text("subject\nOAS1_0001_MR1\n")
    with pytest.raises(UserError, match="has no column ID; expected the table of OASIS-1"):
        checking.check("oasis1", jobs=1)


def test_kirby_needs_to_know_which_sessions_are_one_person(root):
    for session in ("KKI2009-01", "KKI2009-02", "KKI2009-03"):
        image(root / "kirby21" / session / f"{session}-MPRAGE.nii.gz", (1.0, 1.0, 1.2))
    with pytest.raises(UserError, match="which sessions are one person's"):
        found("kirby21")
    table = root / "kirby21" / "subjects.csv"
    table.write_text("session,subject\nKKI2009-01,113\nKKI2009-02,742\nKKI2009-03,113\n")
    assert [subject for subject, _ in found("kirby21")] == ["kirby-113", "kirby-113", "kirby-742"]
    table.write_text("session,subject\nKKI2009-01,113\nKKI2009-02,742\nKKI2009-03,113\nKKI2009-04,849\n")
    (missing,) = [p for p in checking.check("kirby21", jobs=1)["problems"] if p["kind"] == "missing"]
    assert missing["items"] == ["kirby-849"]
    table.write_text("session,subject\nKKI2009-01,113\n")
    with pytest.raises(UserError, match=r"subjects\.csv: has no row for KKI2009-02"):
        found("kirby21")


def test_any_accession_of_openneuro_is_a_dataset(root):
    image(root / "openneuro_ds000011" / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    image(root / "ds000123" / "sub-A1" / "ses-x" / "anat" / "sub-A1_ses-x_run-1_T1w.nii.gz")
    image(root / "ds000123" / "sub-A1" / "ses-x" / "anat" / "sub-A1_ses-x_T2w.nii.gz")
    assert found("openneuro_ds000011") == [("sub-01", "sub-01_T1w")]
    assert found("openneuro_ds000123") == [("sub-A1", "sub-A1_ses-x_run-1_T1w")]


def commons(folder, *series):
    """A DICOM collection as the Commons lay it out: of each series the patient, UID, number and description."""
    dicom = runpy.run_path(str(Path(__file__).with_name("test_dicom.py")))["dicom"]
    for patient, uid, number, description in series:
        for index in range(3):
            path = folder / patient / "study" / f"MR_{uid}" / f"{index}.dcm"
            dicom(path, index, uid=uid, patient=patient, description=description, SeriesNumber=number)


def test_prostatex_takes_the_last_series_of_the_plane(root):
    commons(
        root / "prostatex",
        ("ProstateX-0000", "1.1", 3, "t2_tse_tra"),
        ("ProstateX-0000", "1.2", 7, "t2_tse_tra"),
        ("ProstateX-0000", "1.3", 8, "t2_tse_sag"),
        ("ProstateX-0001", "1.4", 4, "ep2d_diff_tra"),
    )
    (case,) = datasets.get("prostatex").cases("all")
    assert (case.subject, case.path.name, case.hr().data.shape) == ("ProstateX-0000", "MR_1.2", (4, 5, 3))
    assert found("prostatex_sag") == [("ProstateX-0000", "ProstateX-0000_t2_tse_sag")]


OF_THE_COMMONS = {
    "prostatex": ["t2_tse_tra", "t2_tse_tra_Grappa3", "t2_tse_tra_320_p2", "t2_tse_tra_exacte_copy_diffusie"],
    "prostatex_sag": ["t2_tse_sag", "t2_tse_sag_320_p2", "t2_tse_sag_S3_ND"],
    "prostatex_cor": ["t2_tse_cor", "t2_tse_cor_320_p2"],
    "prostate_diagnosis": ["T2W_TSE_AX", "T2W_TSE_AX5MM", "T2W_TSE_AX 5mm"],
}
"""Descriptions that series have there, by the dataset they are meant for."""
OTHERS = {
    "prostatex": ["t2_loc tra", "t2_localizer", "t2_localizer_prostate", "ep2d_diff_tra_DYNDIST", "tfl_3d PD ref_tra"],
    "prostate_diagnosis": ["T2W_TSE_COR", "T2W_TSE_CORA", "T1W_TSE_AX", "AX BLISS_GAD_8", "dyn_THRIVE"],
}
"""Descriptions there that are meant for none, by collection."""


@pytest.mark.parametrize("name", OF_THE_COMMONS)
def test_a_description_of_the_commons_belongs_to_one_dataset(name):
    collection = datasets.get(name).sources[0].collection
    same = [other for other in OF_THE_COMMONS if datasets.get(other).sources[0].collection == collection]
    everything = [text for other in same for text in OF_THE_COMMONS[other]] + OTHERS[collection]
    assert [text for text in everything if datasets.get(name).description.search(text)] == OF_THE_COMMONS[name]


@pytest.mark.parametrize("folder", ["prostate_diagnosis", "PROSTATE-DIAGNOSIS"])
def test_prostate_diagnosis_as_the_commons_or_the_archive_lay_it_out(root, folder):
    commons(
        root / folder,
        ("ProstateDx-01-0001", "1.1", 401, "T2W_TSE_COR"),
        ("ProstateDx-01-0001", "1.2", 501, "T2W_TSE_AX"),
        ("ProstateDx-01-0001", "1.3", 801, "AX BLISS_GAD_8"),
        ("ProstateDx-01-0009", "1.4", 601, "T1W_TSE_AX"),
        ("ProstateDx-01-0025", "1.5", 901, "T2W_TSE_AX5MM"),
    )
    assert found("prostate_diagnosis") == [
        ("ProstateDx-01-0001", "ProstateDx-01-0001_T2W_TSE_AX"),
        ("ProstateDx-01-0025", "ProstateDx-01-0025_T2W_TSE_AX5MM"),
    ]


def test_who_has_no_such_series_is_not_missed():
    axial, coronal, other = (datasets.get(name) for name in ("prostatex", "prostatex_cor", "prostate_diagnosis"))
    assert set(axial.known_subjects()) - set(coronal.known_subjects()) == {"ProstateX-0298", "ProstateX-0299"}
    assert "ProstateDx-01-0009" not in other.known_subjects()
    for dataset in (axial, coronal, other):
        assert dataset.expected.subjects == dataset.expected.images == len(dataset.known_subjects())


def test_what_is_not_there_says_how_to_fetch_it(root):
    for name in ("hcp", "ixi", "prostatex", "msd_prostate", "oasis1"):
        with pytest.raises(UserError, match=rf"is not there; run: mrsr-bench data fetch {name}"):
            found(name)
    with pytest.raises(UserError, match="ixi has no split 'dev'"):
        found("ixi", "dev")


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(checking.__file__).parent.glob("datasets/splits/*")))
def test_a_committed_split_has_its_hash_and_no_subject_twice(name):
    content = committed(name)
    assert content["rule"]
    if "splits" in content:
        everyone = [subject for members in content["splits"].values() for subject in members]
        assert len(everyone) == len(set(everyone))
        assert splits_sha256(content["splits"]) == content["sha256"]


def test_the_committed_lists_follow_their_rule():
    everyone = [f"ProstateX-{i:04d}" for i in range(346)]
    assert seeded_split(everyone, {"train": 242, "val": 52, "test": 52}, 0) == committed("prostatex")["splits"]
    listed = committed("prostate_diagnosis")
    everyone = [subject for members in listed["splits"].values() for subject in members]
    assert share_split(everyone, listed["shares"], listed["seed"]) == listed["splits"]


RULES = {
    "by_share": "d163dd3fa0185c11aaed775c10a3846c0d351c3a9ae5138a4fcb009e7d4ffbce",
    "hcp": "a11750d5dc462a7291d1a9c65bc9ad2ce7e42ddb22287f147a7466bbff9c380a",
    "ixi": "9f67c67422082fa46f3815bc7732367194cb5c65d809c4db8eb44bd85b7daadf",
    "ixi_slicewise_leaks": "8950751c82607ab656c5252d0a0a5f68dde34223cb745857de5860dfe6ca1796",
}
"""SHA-256 of the canonical JSON of each file that holds a rule and no list."""


@pytest.mark.parametrize("name", RULES)
def test_a_rule_without_a_list_is_what_it_was(name):
    """Another seed or share would move subjects from one side to the other without a word."""
    assert sha256_of(committed(name)) == RULES[name]


def test_every_split_file_has_its_hash_or_is_pinned_here():
    names = {path.stem for path in Path(checking.__file__).parent.glob("datasets/splits/*.json")}
    assert {name for name in names if "splits" not in committed(name)} == set(RULES)


def test_the_rules_put_these_subjects_where_they_did():
    of_ixi, of_hcp = committed("ixi"), committed("hcp")
    shared = share_split([f"IXI{i:03d}" for i in range(2, 662)], of_ixi["shares"], of_ixi["seed"])
    sized = seeded_split([str(100001 + i) for i in range(1113)], of_hcp["sizes"], of_hcp["seed"])
    of_slices = committed("ixi_slicewise_leaks")
    slices = seeded_split([f"slice-{i:04d}" for i in range(8955)], of_slices["sizes"], of_slices["seed"])
    pinned = [splits_sha256(splits)[:16] for splits in (shared, sized, slices)]
    assert pinned == [
        "a6139b0fa119d567",
        "d86615ab0466b344",
        "5010064729e79032",
    ]


def test_seeded_splits_depend_on_names_and_seed_alone():
    names = [f"s{i:02d}" for i in range(40)]
    sizes = {"train": 30, "val": 5, "test": 5}
    assert seeded_split(names[::-1], sizes, 1) == seeded_split(names, sizes, 1) != seeded_split(names, sizes, 2)
    few = share_split(names[:10], {"train": 0.5, "test": 0.5}, 3)
    many = share_split(names, {"train": 0.5, "test": 0.5}, 3)
    assert all(set(few[split]) <= set(many[split]) for split in few)
    assert scaled_sizes({"train": 780, "val": 111, "evaluation": 111, "test": 111}, 3) == dict(
        zip(("train", "val", "evaluation", "test"), (3, 0, 0, 0), strict=True)
    )
    with pytest.raises(UserError, match="cannot be made of 40"):
        seeded_split(names, {"train": 1}, 0)


def test_half_siblings_are_one_family_and_other_tables_are_refused(tmp_path):
    table = tmp_path / "RESTRICTED.csv"
    table.write_text("Subject,Mother_ID,Father_ID\n1,m1,f1\n2,m1,f2\n3,m3,f2\n4,m4,f4\n")
    assert families_of(table) == {"1": "1", "2": "1", "3": "1", "4": "4"}
    table.write_text("Subject,Age\n1,2\n")
    with pytest.raises(UserError, match="expected HCP's restricted table"):
        families_of(table)


def planted(root):
    """hcp with one fault of each kind."""
    for subject in range(100001, 100007):
        image(root / "hcp" / str(subject) / HCP_IMAGES["hcp"].format(subject), (0.7,) * 3)
    (root / "hcp" / "100007").mkdir()
    path = {n: root / "hcp" / str(n) / HCP_IMAGES["hcp"].format(n) for n in range(100001, 100007)}
    shutil.copy(path[100001], path[100002])
    path[100003].write_bytes(path[100003].read_bytes()[:200])
    image(path[100004], (0.8, 0.7, 0.7))
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 5, 5), np.float32), np.diag([0.7, 0.7, 0.7, 1])), path[100005])


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_planted_fault_is_named(root, jobs):
    planted(root)
    report = check("hcp", jobs=jobs)
    named = {problem["kind"]: problem for problem in report["problems"]}
    assert set(named) == {"count", "missing", "corrupt", "spacing", "duplicate"}
    assert named["missing"]["items"] == ["100007"]
    assert [item[:6] for item in named["corrupt"]["items"]] == ["100003", "100005"]
    assert named["spacing"]["items"] == ["100004_3T_T1w_MPR1 (0.8 x 0.7 x 0.7 mm)"]
    assert named["duplicate"]["items"] == ["100001/100001_3T_T1w_MPR1 = 100002/100002_3T_T1w_MPR1"]
    assert (report["ok"], report["subjects"]) == (False, 6)


def test_the_command_prints_a_table_or_one_object_and_exits_by_what_it_found(root, capsys):
    planted(root)
    for arguments in (["data", "check", "hcp", "--jobs", "1"], ["data", "check", "hcp", "--jobs", "1", "--json"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        out = capsys.readouterr().out
        assert stop.value.code == 2
        assert all(word in out for word in ("duplicate", "corrupt", "missing", "spacing", "100004"))
    assert json.loads(out)["dataset"] == "hcp"
    image(root / "mine" / "a.nii.gz")
    with pytest.raises(SystemExit) as stop:
        main(["data", "check", str(root / "mine")])
    assert (stop.value.code, "no problem found" in capsys.readouterr().out) == (0, True)


@pytest.fixture(scope="module")
def head():
    return PhantomDataset(spacing=2.5).cases("val")[0].hr().data


def test_a_fully_measured_head_is_not_called_zero_filled(head):
    assert [axis.fraction for axis in bandwidth(head)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("share", [0.4, 0.5, 0.65, 0.8])
def test_known_zero_filling_is_recovered(head, axis, share):
    size = head.shape[axis]
    measured = round(size * share)
    filled = np.abs(resample(resample(head, measured, axis=axis), size, axis=axis)).astype(np.float32)
    found = bandwidth(filled)
    assert found[axis].fraction == pytest.approx(measured / size, abs=0.05)
    assert [other.fraction for i, other in enumerate(found) if i != axis] == [1.0, 1.0]


@pytest.mark.parametrize("sigma", [0.6, 0.8, 1.0, 1.3])
def test_a_smoothed_head_rolls_off_and_is_not_called_zero_filled(head, sigma):
    found = bandwidth(gaussian_filter(head, sigma))
    assert [axis.fraction for axis in found] == [1.0, 1.0, 1.0]
    assert sigma < 1 or all(axis.rolls_off for axis in found)
    assert not any(axis.rolls_off for axis in bandwidth(head))


@pytest.mark.parametrize("sigma", [0.5, 0.8])
def test_zero_filling_is_found_in_a_smoothed_head_too(head, sigma):
    measured = resample(gaussian_filter(head, sigma), 38, axis=1)
    filled = np.abs(resample(measured, head.shape[1], axis=1)).astype(np.float32)
    found = bandwidth(filled)[1]
    assert found.fraction == pytest.approx(0.5, abs=0.05)
    assert not found.rolls_off


def test_short_and_constant_axes_tell_nothing(head):
    assert [axis.fraction for axis in bandwidth(head[:, :, :20])][2] is None
    assert bandwidth(np.ones((64, 64, 64), np.float32))[0].fraction is None


def test_the_report_names_a_zero_filled_axis_with_its_fraction(root, head):
    filled = np.abs(resample(resample(head, 48, axis=1), 96, axis=1)).astype(np.float32)
    (root / "mine").mkdir()
    nibabel.save(nibabel.Nifti1Image(filled, np.diag([2.0, 2.0, 2.0, 1.0])), root / "mine" / "a.nii.gz")
    says = [axis["says"] for axis in check(str(root / "mine"))["bandwidth"]]
    assert says[0] == says[2] == "measured to Nyquist as far as can be seen"
    assert says[1].startswith("1 of 1 images are zero-filled: measured to 0.5")


def test_the_report_says_that_smoothed_images_roll_off_however_many(root, head):
    (root / "mine").mkdir()
    for number, factor in enumerate((1.0, 1.1, 1.2, 1.3)):
        smooth = gaussian_filter(head, 1.0) * np.float32(factor)
        nibabel.save(nibabel.Nifti1Image(smooth, np.diag([2.5, 2.5, 2.5, 1.0])), root / "mine" / f"{number}.nii.gz")
    for axis in check(str(root / "mine"), jobs=1)["bandwidth"]:
        assert (axis["fraction"], axis["roll_off"]) == (None, 4)
        assert axis["says"] == "4 of 4 images roll off without an edge: smoothed, as far as can be seen"


SHARED = Path(checking.__file__).parents[2] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here")
@pytest.mark.parametrize(
    ("name", "axis", "measured"),
    [
        ("brain_2d/sub-adi_acq-axial_T2w", 0, 0.69),
        ("knee/sub-fl_acq-cor_PDw", 0, 0.7),
        ("brain_t1/train/sub-uiha_T1w", 0, 1),
    ],
)
def test_the_resolution_of_real_scans_is_what_is_known_of_them(name, axis, measured):
    data = nibabel.load(SHARED / f"{name}.nii.gz").get_fdata(dtype=np.float32)
    assert bandwidth(data)[axis].fraction == pytest.approx(measured, abs=0.06)


def test_an_unreadable_folder_of_data_is_no_crash(root):
    (root / "ixi").write_text("a file")
    with pytest.raises(UserError, match="run: mrsr-bench data fetch ixi"):
        found("ixi")
    assert os.environ["MRSR_BENCH_DATA"] == str(root)
