"""Scores and costs that cannot be true: by arithmetic, and beside what was accepted on the same subjects."""

import pytest
import sound_submission as helpers

from mrsr_bench.benchmarks.metrics import metrics
from mrsr_bench.benchmarks.protocol import get_protocol, protocol_names
from mrsr_bench.leaderboards.plausible import POSSIBLE, agrees, required_metrics
from mrsr_bench.leaderboards.schema import file_name_of, make
from mrsr_bench.leaderboards.submit import plain_text
from mrsr_bench.leaderboards.verify import check

LEVEL_DB, SUBJECTS = helpers.LEVEL_DB, helpers.SUBJECTS
content, score, scores, sound = helpers.content, helpers.score, helpers.scores, helpers.sound


def problems(one, *others):
    return " ".join(check(one, others).problems)


def with_scores(**values):
    """A submission with these values of its first subject."""
    changed = content()
    for key, value in values.items():
        found = changed["scores"].get(key, score(dict.fromkeys(SUBJECTS, 0.5)))
        per_subject = {**found["per_subject"], "sub-01": value}
        changed["scores"][key] = score(per_subject)
        changed["conventions"][key] = plain_text(metrics.get(key).convention)
    return make(changed, "test")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("psnr", 90.0), ("ssim", 1.0), ("ssim", -1.5), ("nrmse", 0.0), ("piqe", 101.0), ("ma", 1e9)],
        *[("psnr_slice", 90.0), ("ssim_volume", 2.0), ("hfen", 0.0), ("gmsd", 0.0), ("gmsd", 0.9)],
        *[("in_band_error", -1.0), ("out_of_band_error", 0.0), ("resolution", 0.0), ("resolution_s", -2.0)],
    ],
)
def test_scores_that_no_degradation_allows_are_refused(key, value):
    assert "no degradation allows" in problems(with_scores(**{key: value}))


def test_scores_against_the_noise_free_object_have_the_same_bounds():
    changed = content()
    changed["scores"]["psnr_noise_free"] = score({s: 90.0 + i for i, s in enumerate(SUBJECTS)})
    changed["conventions"]["psnr_noise_free"] = (
        plain_text(metrics.get("psnr").convention) + "; against the noise-free object"
    )
    assert "psnr_noise_free of sub-01 (heads) is 90, which no degradation allows" in problems(make(changed, "test"))


def test_psnr_and_nrmse_must_be_of_one_image():
    assert "cannot be of one image" in problems(with_scores(nrmse=0.9, psnr=45.0))
    other = content(start=29.0, method="mdcsrn_b4u4")
    other["scores"]["nrmse"] = score({s: v * 1.05 for s, v in other["scores"]["nrmse"]["per_subject"].items()})
    assert "another HR" in problems(make(other, "test"), sound())


def several(gains, **changes):
    """A submission whose subjects have two images each, of 27 and 33 dB without the ``gains`` of the method."""
    psnr = [27.0 + gains[0], 33.0 + gains[1]]
    nrmse = [10 ** ((LEVEL_DB - value) / 20) for value in psnr]
    means = {
        "psnr": score({s: sum(psnr) / 2 + 0.01 * i for i, s in enumerate(SUBJECTS)}),
        "ssim": score({s: 0.6 + sum(psnr) / 1000 + 0.01 * i for i, s in enumerate(SUBJECTS)}),
        "nrmse": score({s: sum(nrmse) / 2 - 1e-4 * i for i, s in enumerate(SUBJECTS)}),
    }
    return sound(scores=means, images=dict.fromkeys(SUBJECTS, 2), **changes)


def test_subjects_with_several_images_may_gain_unequally_on_them():
    one, other = several((0.0, 0.0)), several((1.0, 3.0), method="mdcsrn_b4u4")
    assert problems(other, one) == ""
    assert "another HR" in problems(several((0.0, 9.0), method="mdcsrn_b4u4"), one)
    alone = several((1.0, 3.0), method="mdcsrn_b4u4").model_dump(mode="json")
    assert "another number of images of sub-01" in problems(make(without_digest(alone, images={}), "test"), one)


def without_digest(plain, **changes):
    kept = {key: value for key, value in plain.items() if key not in ("digest", "badge", "verification", "format")}
    return {**kept, **changes}


def test_one_value_for_all_subjects_is_refused():
    changed = content(scores=scores(dict.fromkeys(SUBJECTS, 30.0)))
    assert "for every subject" in problems(make(changed, "test"))


def one_subject(method="mdcsrn_b4u4", **values):
    """A submission of one subject with these values of it."""
    changed = content(method)
    changed |= {"subjects": ["sub-01"], "scores": scores({"sub-01": values.pop("psnr", 28.0)})}
    for key, value in values.items():
        changed["scores"][key] = score({"sub-01": value})
        changed["conventions"][key] = plain_text(metrics.get(key).convention)
    return make(changed, "test")


def test_scores_of_another_entry_are_refused():
    assert "its psnr, ssim, nrmse is to the last digit that of cubic" in problems(sound(method="mdcsrn_b4u4"), sound())
    changed = content("mdcsrn_b4u4", start=28.0)
    changed["scores"]["ssim"] = content()["scores"]["ssim"]
    assert "its ssim is to the last digit that of cubic" in problems(make(changed, "test"), sound())


def test_scores_of_another_entry_are_refused_where_there_is_but_one_subject():
    cubic = one_subject("cubic", hfen=0.4, gmsd=0.1)
    assert "its psnr, ssim, nrmse is to the last digit" in problems(one_subject(), cubic)
    assert "its hfen, gmsd is to the last digit" in problems(one_subject(psnr=28.1, hfen=0.4, gmsd=0.1), cubic)
    found = check(one_subject(psnr=28.1, hfen=0.4), [cubic])
    assert found.problems == []
    assert any("its hfen is to the last digit" in doubt for doubt in found.doubts)
    near = check(one_subject(psnr=28.001), [cubic])
    assert near.problems == []
    assert any("is it the same network?" in doubt for doubt in near.doubts)


def test_scores_all_but_those_of_another_entry_are_for_a_person_to_look_at():
    near = content("mdcsrn_b4u4", start=27.001)
    doubts = check(make(near, "test"), [sound()]).doubts
    assert any("is it the same network?" in doubt for doubt in doubts)
    psnr = near["scores"]["psnr"]["per_subject"]
    near["scores"] = scores({**psnr, next(iter(psnr)): 30.5})
    assert not any("is it the same network?" in doubt for doubt in check(make(near, "test"), [sound()]).doubts)


def test_a_gain_beyond_belief_is_refused():
    assert "above the best interpolation" in problems(sound(method="mdcsrn_b4u4", start=40.0), sound())


def test_weights_that_are_on_the_board_are_refused():
    first, second = (sound(method="mdcsrn_b4u4", start=s) for s in (29.0, 29.5))
    assert "on the board already" in problems(second, first)


def test_a_baseline_must_be_ours():
    assert "cubic is a baseline, and its psnr of sub-01 is 27.0200 and not 27.0000" in problems(
        sound(start=27.02), sound()
    )
    found = check(sound(start=27.005), [sound()])
    assert found.problems == []
    assert found.repeats == file_name_of(sound())


@pytest.mark.parametrize(("key", "value"), [("ssim", 0.9), ("hfen", 0.2), ("piqe", 10.0), ("niqe", 3.0)])
def test_a_baseline_must_be_ours_in_every_metric(key, value):
    ours, theirs = with_scores(**{key: 0.5}), with_scores(**{key: value})
    assert f"cubic is a baseline, and its {key} of sub-01 is {value:.4f} and not 0.5000" in problems(theirs, ours)


def test_a_baseline_of_another_seed_met_other_noise_and_is_no_repetition():
    found = check(sound(start=27.3, seed=1), [sound()])
    assert found.problems == []
    assert found.repeats is None


def without(*keys, where="scores"):
    """A submission that lacks these metrics."""
    changed = content()
    if where == "rehearsal":
        changed["rehearsal"] = {"dataset": "phantom_hidden-0", "scores": content()["scores"]}
    place = changed if where == "scores" else changed["rehearsal"]
    place["scores"] = {key: found for key, found in place["scores"].items() if key not in keys}
    return make(changed, "test")


@pytest.mark.parametrize("key", ["psnr", "ssim", "nrmse"])
def test_the_metrics_that_a_protocol_is_about_must_be_there(key):
    assert f"it has no {key} (heads), which kspace-2x2x1 takes" in problems(without(key))
    assert f"it has no {key} (hidden heads), which kspace-2x2x1 takes" in problems(without(key, where="rehearsal"))


def test_an_entry_without_any_value_is_refused():
    none = {"mean": None, "ci95": None, "n": 0, "per_subject": {}, "reason": "forgotten"}
    assert "it has no value of any metric" in problems(make(content(scores={"psnr": none}), "test"))


def test_a_subject_with_one_score_has_the_others_too():
    changed = content()
    per_subject = {**changed["scores"]["psnr"]["per_subject"]}
    known = {subject: value for subject, value in per_subject.items() if subject != "sub-02"}
    changed["scores"]["psnr"] = {**score(known), "per_subject": {**per_subject, "sub-02": None}}
    assert "it has no psnr of sub-02 (heads), which has other scores" in problems(make(changed, "test"))


def test_a_protocol_without_reference_requires_none():
    without_reference = [name for name in protocol_names() if not get_protocol(name).has_reference]
    assert without_reference
    assert {required_metrics(name) for name in without_reference} == {()}
    assert required_metrics("kspace-2x2x1") == ("psnr", "ssim", "nrmse")


def test_every_metric_has_bounds():
    assert [name for name in metrics.names() if name not in POSSIBLE] == []
    assert [spec.name for spec in metrics.all() if POSSIBLE[spec.name][0] == float("-inf")] == []


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [("psnr_noise_free", 30.011, False), ("nrmse_slice", 30.05, True), ("nrmse", 30.07, False), ("piqe", 31.0, True)],
)
def test_a_value_that_is_computed_again_may_be_off_a_little(key, value, same):
    assert agrees(key, value, 30.0) is same


def test_an_entry_in_a_table_of_its_own_is_looked_at():
    def doubts(**changes):
        return " ".join(check(sound(method="mdcsrn_b4u4", start=29.0, **changes), [sound()]).doubts)

    assert "nothing here to compare it with" not in doubts()
    assert "nothing here to compare it with" in doubts(dataset="elsewhere_t1")
    assert "nothing here to compare it with" in doubts(seed=1)
    assert "Heads differs from heads of accepted results by the case of its letters alone" in doubts(dataset="Heads")


def test_the_case_of_letters_hides_nothing():
    assert "to the last digit" in problems(sound(method="mdcsrn_b4u4", dataset="HEADS"), sound())
    assert "holds scans, which it does not" in problems(sound(dataset="Phantom_2mm"))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"seconds_per_volume": 1e-18}, "seconds_per_volume is 1e-18, which no method can have"),
        ({"seconds_per_volume": 0.0}, "seconds_per_volume is 0"),
        ({"seconds_per_volume": 1e11}, "seconds_per_volume is 1e+11"),
        ({"peak_memory_mb": 0.0}, "peak_memory_mb is 0"),
        ({"hardware": {"cpu": "a processor", "memory_mb": 0}}, "no core or no memory"),
        ({"hardware": {"cpu": "a processor", "cores": 0}}, "no core or no memory"),
    ],
)
def test_costs_that_nothing_has_are_refused(changes, part):
    assert part in problems(sound(**changes))


def test_costs_that_hardly_anything_has_are_looked_at():
    training = {**content("mdcsrn_b4u4")["training"], "hours": 1e-18}
    found = check(helpers.foreign(parameters=1, training=training), [])
    assert found.problems == []
    assert {"it states 1 parameters; is that so?", "it states 1e-18 h of training; is that so?"} <= set(found.doubts)
    assert "it is a network without parameters" in problems(helpers.foreign(parameters=0))
    assert not any("is that so?" in doubt for doubt in check(helpers.foreign(), []).doubts)
