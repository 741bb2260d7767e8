"""DICOM series: real ones of several vendors against other people's conversions, and what must be refused."""

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

import mrsr_bench
from mrsr_bench import UserError
from mrsr_bench.benchmarks.check import check
from mrsr_bench.benchmarks.datasets.dicom import find_series, is_dicom, load_series
from mrsr_bench.benchmarks.datasets.folder import FolderDataset

SHARED = Path(mrsr_bench.__file__).parent.parent / "shared" / "data" / "dicom"
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/dicom is not here")


def series_of(folder):
    return find_series([path for path in sorted(folder.rglob("*")) if path.is_file() and is_dicom(path)])


def same_in_world(volume, path):
    ours = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume.data, volume.affine))
    theirs = nibabel.as_closest_canonical(nibabel.load(path))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-3)
    np.testing.assert_array_equal(ours.get_fdata(), theirs.get_fdata())


@shared
@pytest.mark.parametrize(
    "name",
    [
        "d2n_ge/anatomical/001",
        "d2n_ge/anatomical/001_implicit",
        "d2n_hitachi/anatomical/001",
        "d2n_hitachi/anatomical/001_implicit",
        "d2n_hyperfine/anatomical/001",
        "d2n_siemens_multiframe/anatomical/001",
        "failing/slicecount/001",
    ],
)
def test_a_series_is_where_dicom2nifti_puts_it_voxel_by_voxel(name):
    (series,) = series_of(SHARED / name)
    same_in_world(load_series(series.files), SHARED / f"{name}_ground_truth.nii.gz")


@shared
def test_an_oblique_prostate_is_where_dcm2niix_puts_it(tmp_path):
    dcm2niix = pytest.importorskip("dcm2niix")
    folder = SHARED / "prostatex0000_t2_tra"
    subprocess.run([dcm2niix.bin, "-z", "y", "-o", tmp_path, "-f", "x", folder], check=True, capture_output=True)
    (series,) = series_of(folder)
    volume = load_series(series.files)
    same_in_world(volume, tmp_path / "x.nii.gz")
    assert (series.description, series.patient, volume.data.shape) == ("t2_tse_tra", "ProstateX-0000", (384, 384, 19))


@shared
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("failing/sliceorientation/001", "different orientations"),
        ("failing/notavolume/001", "lie at one place"),
        ("failing/gantrytilting/001", r"gantry tilt of 14\.0 degrees"),
        ("d2n_ge/anatomical/001_single_slice", "one slice that states no thickness"),
    ],
)
def test_what_is_no_volume_is_refused_with_its_reason(name, sentence):
    (series,) = series_of(SHARED / name)
    with pytest.raises(UserError, match=sentence):
        load_series(series.files)


@shared
def test_every_shared_dicom_file_is_in_a_series_that_is_read_or_refused():
    files = sorted(SHARED.rglob("*.dcm"))
    found = series_of(SHARED)
    assert sorted(path for series in found for path in series.files) == files
    outcomes = []
    for series in found:
        try:
            outcomes.append(load_series(series.files).data.ndim == 3)
        except UserError as error:
            outcomes.append("\n" not in str(error))
    assert all(outcomes)
    assert len(outcomes) == 12


@shared
def test_a_missing_slice_of_a_real_series_is_counted():
    (series,) = series_of(SHARED / "prostatex0000_t2_tra")
    with pytest.raises(UserError, match=r"18 slices are not at equal distances \(1 slices are missing\)"):
        load_series([path for path in series.files if path.name != "1-10.dcm"])


def dicom(path, index=0, *, size=(5, 4), uid="1.2.3", patient="P1", description="t2_tse_tra", **changes):
    """A slice: 4 columns, 5 rows, axial, 2 mm apart; value = 100 * slice + 10 * row + column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.SeriesInstanceUID, header.PatientID, header.SeriesDescription = uid, patient, description
    header.Modality, header.SeriesNumber = "MR", 3
    header.Rows, header.Columns = size
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 0
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.ImagePositionPatient = [-10, -20, 2.0 * index]
    header.PixelSpacing = [0.7, 0.5]
    header.SliceThickness = 1.6
    rows, columns = np.mgrid[: size[0], : size[1]]
    header.PixelData = (100 * index + 10 * rows + columns).astype("<u2").tobytes()
    for name, value in changes.items():
        setattr(header, name, value)
    header.save_as(path, enforce_file_format=True)
    return path


def test_voxels_and_places_of_a_series_by_hand(tmp_path):
    files = [dicom(tmp_path / f"{9 - i}.dcm", i, RescaleSlope=2, RescaleIntercept=-1) for i in range(6)]
    volume = load_series(files)
    assert volume.data.shape == (4, 5, 6)
    assert volume.data[3, 2, 4] == 2 * (400 + 20 + 3) - 1
    np.testing.assert_allclose(volume.spacing, (0.5, 0.7, 2.0))
    np.testing.assert_allclose(volume.affine @ [3, 2, 4, 1], [10 - 1.5, 20 - 1.4, 8, 1])


def test_a_two_dimensional_acquisition_says_how_thick_its_slices_are(tmp_path):
    files = [dicom(tmp_path / f"{i}.dcm", i, MRAcquisitionType="2D") for i in range(4)]
    along = load_series(files).acquisition[2]
    assert (along.kind, along.width, round(along.gap, 6)) == ("unknown", 1.6, 0.4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"PixelSpacing": [0.7, 0.6]}, "differ in matrix or pixel size"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "different orientations"),
        ({"ImagePositionPatient": [-10, -20, 5.0]}, "not at equal distances"),
        ({"ImagePositionPatient": [-10, -20, 2.0]}, "lie at one place"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "impossible"),
        ({"ImagePositionPatient": None}, "does not say where its slice lies"),
        ({"PixelData": b"abc"}, "its voxels cannot be read"),
    ],
)
def test_a_slice_that_does_not_fit_is_named(tmp_path, changes, sentence):
    files = [dicom(tmp_path / f"{i}.dcm", i) for i in range(3)] + [dicom(tmp_path / "odd.dcm", 3, **changes)]
    with pytest.raises(UserError, match=sentence) as raised:
        load_series(files)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 64])
def test_bytes_that_are_no_dicom_give_a_sentence(tmp_path, content):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(UserError):
        load_series([path])
    assert find_series([path]) == []


def test_a_truncated_slice_is_refused(tmp_path):
    files = [dicom(tmp_path / f"{i}.dcm", i) for i in range(3)]
    files[1].write_bytes(files[1].read_bytes()[:-20])
    with pytest.raises(UserError, match=r"1\.dcm: its voxels cannot be read"):
        load_series(files)


def test_a_folder_of_dicom_is_a_dataset_and_a_patient_is_one_subject_without_his_name(tmp_path):
    for folder, uid, patient in [
        ("a/ax", "1.1", "DOE^JOHN"),
        ("a/sag", "1.2", "DOE^JOHN"),
        ("b/ax", "1.3", "ROE^JANE"),
    ]:
        for index in range(3):
            dicom(tmp_path / folder / f"IM{index}", index, uid=uid, patient=patient, description=folder[2:])
    cases = FolderDataset(tmp_path, "ax").cases("all")
    assert [(case.subject, case.image) for case in cases] == [("a", "ax"), ("b-ax", "ax")]
    assert cases[0].hr().data.shape == (4, 5, 3)
    assert cases[0].fingerprint != cases[1].fingerprint
    with pytest.raises(UserError, match="choose with --suffix, one of: ax, sag"):
        FolderDataset(tmp_path).cases("all")


def test_reading_dicom_is_not_paid_for_before_it_is_done():
    code = "import sys, mrsr_bench.benchmarks.datasets as d; d.datasets.names(); assert 'pydicom' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_pydicom_itself_reads_what_this_test_writes(tmp_path):
    assert pydicom.dcmread(dicom(tmp_path / "x.dcm", 2)).pixel_array[1, 3] == 213


def test_dicom_files_beside_a_nifti_are_passed_over_and_a_check_says_so(tmp_path):
    for index in range(3):
        dicom(tmp_path / "scan" / f"{index}.dcm", index)
    assert FolderDataset(tmp_path).faults() == []
    data = np.random.default_rng(0).normal(100, 20, (6, 7, 8)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / "sub-01_T1w.nii.gz")
    report = check(str(tmp_path), jobs=1)
    (problem,) = report["problems"]
    assert (problem["kind"], report["images"]) == ("passed over", 1)
    assert problem["sentence"].startswith("3 DICOM files beside NIfTI files are passed over")
