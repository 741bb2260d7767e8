"""The phantom: the same head for the same seed, in the contrast asked for, scanned twice rather than shrunk."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks.datasets import datasets
from mrsr_bench.benchmarks.datasets.head_rendering import LABELS
from mrsr_bench.benchmarks.datasets.phantom import (
    FIELD_OF_VIEW,
    PhantomCase,
    PhantomDataset,
    noise_ratio,
)
from mrsr_bench.benchmarks.datasets.signal import (
    CONTRASTS,
    TISSUES,
    Sequence,
    Tissue,
    csf_null_time,
    inversion_recovery,
    signal_of,
    spin_echo,
    spoiled_gradient_echo,
)
from mrsr_bench.benchmarks.degradations import degradations

BRAIN_BOX = (26, 24, 22)
"""Voxels of 4 mm: the middle of the head, which renders in a moment."""


def small(snr: float | None = None, *, contrast: str = "T1w", seed: int = 0, number: int = 0) -> PhantomCase:
    dataset = PhantomDataset(contrast=contrast, spacing=4.0, shape=BRAIN_BOX, snr=snr, seed=seed, train=number + 1)
    return dataset.cases("train")[number]


@lru_cache(maxsize=1)
def whole_head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    case = PhantomDataset(spacing=4.0, snr=20.0).cases("test")[0]
    return case.hr().data, case.noise_free().data, case.labels()


def mean_of(case: PhantomCase, *structures: str) -> float:
    inside = np.isin(case.labels(), [LABELS[name] for name in structures])
    inside[:, :, :10] = False  # where the excited slab ends
    assert inside.sum() > 20, structures
    return float(np.median(case.noise_free().data[inside]))


class TestSubjects:
    def test_the_same_seed_gives_the_same_voxels(self) -> None:
        first = small(30.0)
        voxels, labels = first.hr().data.copy(), first.labels().copy()
        small(30.0, number=1).hr()  # pushes the first out of the cache
        again = small(30.0)
        np.testing.assert_array_equal(again.hr().data, voxels)
        np.testing.assert_array_equal(again.labels(), labels)

    @pytest.mark.parametrize("other", [{"number": 1}, {"seed": 1}])
    def test_another_subject_or_seed_has_another_anatomy(self, other: dict[str, int]) -> None:
        labels = small().labels().copy()
        changed = (small(**other).labels() != labels).mean()
        assert changed > 0.2

    def test_contrasts_of_a_subject_share_its_anatomy(self) -> None:
        labels = small().labels().copy()
        np.testing.assert_array_equal(small(contrast="T2w").labels(), labels)

    def test_splits_are_disjoint_and_make_up_all(self) -> None:
        dataset = PhantomDataset()
        names = {split: [c.subject for c in dataset.cases(split)] for split in ("train", "val", "test", "all")}
        assert [len(names[s]) for s in ("train", "val", "test")] == [8, 2, 3]
        assert names["all"] == names["train"] + names["val"] + names["test"] == sorted(set(names["all"]))
        assert names["train"][0] == "phantom-000"

    def test_more_subjects_move_none_to_another_split(self) -> None:
        few, many = PhantomDataset(train=2, test=1), PhantomDataset(train=50, test=9)
        assert [c.subject for c in few.cases("test")] == [c.subject for c in many.cases("test")][:1]
        assert {c.subject for c in many.cases("train")}.isdisjoint(c.subject for c in many.cases("test"))

    def test_the_fingerprint_names_everything_the_voxels_depend_on(self) -> None:
        variants = [
            {},
            {"contrast": "T2w"},
            {"spacing": 2.0},
            {"shape": (64, 64, 64)},
            {"snr": 10.0},
            {"snr": None},
            {"seed": 3},
        ]
        prints = [PhantomDataset(**v).cases("train")[n].fingerprint for v in variants for n in (0, 1)]  # type: ignore[arg-type]
        assert len(set(prints)) == len(prints)
        assert PhantomDataset("other_name").cases("train")[0].fingerprint == prints[0]

    def test_both_built_in_configurations_are_registered(self) -> None:
        assert datasets.get("phantom").settings.shape == (160, 192, 160)  # type: ignore[attr-defined]
        assert datasets.get("phantom_2mm").settings.shape == (80, 96, 80)  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        "wrong",
        [{"contrast": "DWI"}, {"spacing": 0.0}, {"shape": (160, 192)}, {"snr": -1.0}, {"train": 801}, {"val": -1}],
    )
    def test_impossible_configurations_are_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(UserError, match=next(iter(wrong))):
            PhantomDataset(**wrong)  # type: ignore[arg-type]

    def test_an_unknown_split_is_refused(self) -> None:
        with pytest.raises(UserError, match="nosuch"):
            PhantomDataset().cases("nosuch")


class TestHead:
    def test_tissues_have_plausible_shares(self) -> None:
        labels = whole_head()[2]
        litres = {name: (labels == value).sum() * 4.0**3 / 1e6 for name, value in LABELS.items()}
        white = litres["white_matter"] + litres["cerebellar_white_matter"]
        grey = litres["cortex"] + litres["cerebellar_cortex"]
        assert 0.75 < white + grey < 1.5
        assert 0.8 < grey / white < 2.5
        assert 0.003 < litres["ventricle"] < 0.12
        assert litres["cerebellar_cortex"] + litres["cerebellar_white_matter"] > 0.06
        for name in ("caudate", "putamen", "thalamus"):
            assert 0.002 < litres[name] < 0.03, name
        for name in ("bone", "marrow", "fat", "muscle", "brainstem", "csf"):
            assert litres[name] > 0.005, name

    def test_the_head_lies_inside_the_field_of_view(self) -> None:
        labels = whole_head()[2]
        for face in (labels[0], labels[-1], labels[:, 0], labels[:, -1], labels[:, :, -1]):
            assert (face != 0).mean() < 0.02

    def test_both_hemispheres_are_joined_by_white_matter_and_parted_above_it(self) -> None:
        case = PhantomDataset(spacing=(1.0, 4.0, 4.0), shape=(24, 24, 30), snr=None).cases("train")[2]
        labels = case.labels()
        bridge = (labels == LABELS["white_matter"]).all(axis=0)
        parted = np.isin(labels, [LABELS["csf"], LABELS["other_soft_tissue"]]).any(axis=0)
        assert bridge.any()
        top_of_bridge = np.argwhere(bridge)[:, 1].max()
        assert parted[:, top_of_bridge + 3].mean() > 0.8

    @pytest.mark.parametrize("contrast", CONTRASTS)
    def test_tissues_are_ordered_as_the_contrast_demands(self, contrast: str) -> None:
        case = PhantomDataset(contrast=contrast, spacing=1.5, shape=(104, 28, 44), snr=None).cases("train")[0]
        white, grey, fluid = mean_of(case, "white_matter"), mean_of(case, "cortex"), mean_of(case, "ventricle")
        if contrast == "T1w":
            assert white > 1.15 * grey > 1.15 * 1.3 * fluid
        elif contrast == "T2w":
            assert fluid > 1.3 * grey > 1.3 * 1.1 * white
        elif contrast == "PD":
            assert grey > 1.04 * white
        else:
            assert grey > 1.04 * white > 1.04 * 1.8 * fluid

    def test_the_background_is_rayleigh(self) -> None:
        noisy, clean, _ = whole_head()
        corner = noisy[:6, :6, -12:].ravel().astype(float)
        assert np.abs(clean[:6, :6, -12:]).max() < 0.01 * clean.max()
        assert corner.mean() / corner.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.12)

    def test_noise_has_the_stated_snr(self) -> None:
        noisy, clean, labels = whole_head()
        brain = (labels >= LABELS["cortex"]) & (labels <= LABELS["brainstem"]) & (labels != LABELS["ventricle"])
        difference = (noisy - clean)[brain]
        assert clean[brain].mean() / difference.std() == pytest.approx(20.0, rel=0.1)

    def test_without_noise_hr_is_the_magnitude_of_the_noise_free_volume(self) -> None:
        case = small(None)
        np.testing.assert_array_equal(case.hr().data, np.abs(case.noise_free().data))

    def test_the_anatomy_does_not_depend_on_the_resolution(self) -> None:
        coarse = PhantomDataset(spacing=4.0, shape=(21, 21, 21), snr=None).cases("train")[0].labels().copy()
        fine = PhantomDataset(spacing=2.0, shape=(41, 41, 41), snr=None).cases("train")[0].labels()[::2, ::2, ::2]
        assert (coarse == fine).mean() > 0.93

    def test_the_field_of_view_is_covered_at_every_spacing(self) -> None:
        for spacing in (0.5, 0.7, 1.0, 2.0):
            shape = PhantomDataset(spacing=spacing).settings.shape
            assert all(abs(n * spacing - length) <= spacing for n, length in zip(shape, FIELD_OF_VIEW, strict=True))


class TestAcquisition:
    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("kspace_truncation", {"factor": [2, 2, 1]}),
            ("kspace_truncation", {"factor": [1.5, 1, 2], "window": "hamming"}),
            ("thick_slices", {"factor": [1, 1, 4]}),
            ("thick_slices", {"factor": [1, 3, 1], "profile": "gaussian"}),
            ("thin_slices", {"factor": [1, 1, 4]}),
            ("bicubic_downsample", {"factor": [2, 2, 1]}),
        ],
    )
    def test_lr_lies_where_the_degradation_says(self, name: str, settings: dict[str, object]) -> None:
        case, degradation = small(30.0), degradations.get(name)
        pair = case.acquire(degradation, settings, seed=5)
        place = degradation.geometry(case.hr().grid, pair.params)
        assert pair.lr.grid.same_as(place.lr)
        assert pair.lr.acquisition == place.acquisition
        reference = case.hr().grid.cropped(place.start, place.stop)
        assert pair.hr.grid.same_as(reference)
        assert pair.noise_free is not None
        assert pair.labels is not None
        assert pair.noise_free.grid.same_as(reference)
        assert pair.labels.shape == reference.shape
        assert pair.labels.dtype.kind == "i"

    def test_truncated_kspace_of_the_object_is_that_of_the_noise_free_hr(self) -> None:
        case, degradation = small(None), degradations.get("kspace_truncation")
        pair = case.acquire(degradation, {"factor": [2, 2, 1]}, seed=0)
        expected = np.abs(degradation.apply(case.noise_free(), pair.params).data)
        np.testing.assert_allclose(pair.lr.data, expected, atol=2e-4 * expected.max())

    @pytest.mark.parametrize("profile", ["box", "gaussian"])
    def test_thick_slices_are_close_to_the_mean_of_hr_but_not_made_of_it(self, profile: str) -> None:
        case, degradation = small(None), degradations.get("thick_slices")
        pair = case.acquire(degradation, {"factor": [1, 1, 3], "profile": profile}, seed=0)
        from_hr = degradation.apply(case.noise_free(), pair.params).data
        error = np.sqrt(np.mean((pair.lr.data - from_hr) ** 2) / np.mean(from_hr**2))
        assert 1e-4 < error < 0.06

    def test_thin_slices_are_slices_of_hr(self) -> None:
        case, degradation = small(None), degradations.get("thin_slices")
        pair = case.acquire(degradation, {"factor": [1, 1, 3]}, seed=0)
        np.testing.assert_allclose(pair.lr.data, case.hr().data[:, :, ::3], rtol=1e-4, atol=0.05)

    def test_mean_signal_survives_truncation(self) -> None:
        case = small(None)
        clean = degradations.get("kspace_truncation").apply(
            case.noise_free(), {**degradations.get("kspace_truncation").defaults, "factor": [2, 2, 2]}
        )
        assert float(clean.data.mean()) == pytest.approx(float(case.noise_free().data.mean()), rel=1e-4)

    @pytest.mark.parametrize(
        ("name", "settings", "ratio"),
        [
            ("kspace_truncation", {"factor": [2, 2, 1]}, 0.5),
            ("thick_slices", {"factor": [1, 1, 2]}, 0.5),
            ("thin_slices", {"factor": [1, 1, 2]}, 1.0),
        ],
    )
    def test_lr_noise_follows_voxel_volume_and_samples(
        self, name: str, settings: dict[str, object], ratio: float
    ) -> None:
        degradation = degradations.get(name)
        case = small(25.0)
        pair, again = (case.acquire(degradation, settings, seed=seed) for seed in (1, 2))
        noise_in_hr = float((case.hr().data - case.noise_free().data)[case.labels() == LABELS["white_matter"]].std())
        bright = pair.lr.data > np.quantile(pair.lr.data, 0.6)
        noise_in_lr = float((pair.lr.data - again.lr.data)[bright].std() / np.sqrt(2))
        place = degradation.geometry(case.hr().grid, pair.params)
        assert noise_ratio(place, case.hr()) == pytest.approx(ratio, rel=0.02)
        assert noise_in_lr / noise_in_hr == pytest.approx(ratio, rel=0.12)

    def test_lr_noise_is_independent_of_hr_noise_and_follows_the_seed(self) -> None:
        case, degradation = small(10.0), degradations.get("thin_slices")
        settings = {"factor": [1, 1, 2]}
        first, again, other = (case.acquire(degradation, settings, seed=s).lr.data for s in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        clean = case.noise_free().data[:, :, ::2]
        noise = [(v - clean)[clean > clean.mean()] for v in (first, other, case.hr().data[:, :, ::2])]
        correlation = np.corrcoef(noise)
        assert np.abs(correlation[np.triu_indices(3, 1)]).max() < 0.1

    def test_a_degradation_with_noise_of_its_own_gets_no_more(self) -> None:
        case, degradation = small(10.0), degradations.get("kspace_truncation")
        pair = case.acquire(degradation, {"factor": [2, 1, 1], "snr": 40.0}, seed=3)
        np.testing.assert_array_equal(pair.lr.data, degradation.apply(case.noise_free(), pair.params).data)


class TestSignal:
    def test_the_ernst_angle_maximises_a_spoiled_gradient_echo(self) -> None:
        tissue, tr = Tissue(1000, 80, 50, 1.0), 20.0
        ernst = np.degrees(np.arccos(np.exp(-tr / tissue.t1)))
        best = spoiled_gradient_echo(tissue, tr, 3.0, ernst)
        assert best > max(spoiled_gradient_echo(tissue, tr, 3.0, ernst + d) for d in (-3, 3))

    def test_a_long_spin_echo_tends_to_density_times_t2_decay(self) -> None:
        assert spin_echo(Tissue(500, 80, 50, 0.7), tr=1e5, te=80) == pytest.approx(0.7 * np.exp(-1))

    def test_inversion_nulls_fluid_at_its_null_time(self) -> None:
        fluid, tr = TISSUES["csf"], 9000.0
        ti = csf_null_time(tr)
        assert inversion_recovery(fluid, tr, 120, ti, fluid.t2) < 1e-12
        assert inversion_recovery(TISSUES["grey"], tr, 120, ti, TISSUES["grey"].t2) > 0.1

    def test_flowing_blood_is_dark_in_a_spin_echo(self) -> None:
        sequence = Sequence("spin_echo", tr=4000, te=90)
        assert signal_of(TISSUES["artery"], sequence) < 0.3 * signal_of(TISSUES["grey"], sequence)
