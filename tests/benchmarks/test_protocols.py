"""Protocols are frozen: a changed definition is another protocol."""

import hashlib
import json
from importlib.resources import files

import pytest
import yaml

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.benchmarks.metrics import metrics
from mrsr_bench.benchmarks.protocol import Protocol, canonical_json, get_protocol, protocol_names, subject_seed

FROZEN = {
    "kspace-2x2x1": "1f3a411ba9b2142f14468167379179dca37965a911c222ffe533c84c32d75090",
    "thick-4": "e32eff595850fd33955f35205a2dcbf10a3963f9af6929e2cf404b210a047ecb",
    "thin-4": "9fe393c66d95fc65b94d8035d7fe972ec675f885e9bc4dd5b6277cd8699114d3",
    "mdcsrn2020": "03e7cce7a1f473f20dfab8570f9179847aa5bf6d48ec2307fac8b6f010bc3058",
    "inplane-1x4x1": "3a0a7422a32080e36e99de29aeb5d78c9405ede49a9376d1f91a940f8823adbf",
    "inplane-1x8x1": "d76ae068769fe8daeb1a610d8d31f5e70707c960a9bec24547c42f1b354dce50",
    "inplane-4x4x1": "246f1e3c4f89bc03a7a50e302d5f079d4ad06ca517f58d5a62910135c468092f",
    "inplane-8x8x1": "00dbd4cd90d6c2c7aac816f56c5ce38212127edf8d1c105b59b86bd435202755",
    "prostate2019-aniso-4x": "fff2a23a393db7870159f75ffca3cba629d0126191f9bdb31c2293af5049b3de",
    "prostate2019-aniso-8x": "7f072ae3429e02c7054c8493b59e071e457f09edda2639b162a317f10d289109",
    "prostate2019-iso-4x": "f043cef0ad56338ca984107670a9a0c61c72df3e89477655e0ff233ca406a409",
    "prostate2019-iso-8x": "cb4fbeb4884e7290f90abf78398e7168b08221f9caf424d0248263554628a63b",
    "prostate2019-through-plane": "cdde1725ebc3b0eaaedf4c0b824eeeec5e8ec418aff3b919f9545eb6301005f3",
    "real": "82cd253999a7e287dc2a87962b4a2bbec1022a0a129aeb6e7bc351f4a95b56b8",
    "real-thick-4": "8b2aadcc9f506dfcf1720f7f0e405263ff8061fb727435786fc961fb40e6886a",
    "soup2022-thick-2": "524a4af39793c79f53d0a978924760d2f77b86eab481cd582e41bd5b2b5cdb22",
    "soup2022-thick-3": "3434796d286f5ff5223a3fcbd7ee7d08318280956590d308aec3280348df02d4",
    "soup2022-thick-4": "ad1bb7227f9624e13db74e07a8da13ae081e28848e7573554f7e91df8e132f67",
    "soup2022-thick-5": "d8ac8f12d673a65d54d9c3af33213068dd3a52eee95d51f75bf3cf0277bd3c39",
    "soup2022-thick-6": "c58538297368f357c34419f3d616c78a95e0d54988ae406bcce70b3ec35acc36",
    "soup2022-thin-2": "48c393524f8c8312e22e55ba060c95a0497c115aa50bdb8e9ef4cf0e108000b8",
    "soup2022-thin-3": "bae390f5d044275e3b34f4c08a137c1487babca9d1d6f084f4b0340f23ea22d6",
    "soup2022-thin-4": "8cd204314ab867a52a60ba903d6df66f7f62bb1f9ead9c9bca8242739a6cccca",
    "soup2022-thin-5": "8c567536f043c8eb17dcbd9c025642a8a4e04538f436a1c7b5642578ca683421",
    "soup2022-thin-6": "1292f7402d525df25d6a308066b00d6fad819005c4a9536c9dd34015553e865d",
    "thick-2": "49313573f02ce0f183ccff618cf9a3c32300fe797691ad8a54ff3eb6c6771ee7",
    "thick-3": "6eb551290db572a127434ef43ab856f87670e2e13c4f04294d5483d372c41e7f",
    "thick-5": "0b6d130297b12168b390b78f1e8cf7867f0d2457c3f4523111ecb8568d411254",
    "thick-6": "273a4480ff0c65a62df1870834a9d4f72a88819406e0b67f75dd49cf36d9bf98",
    "thin-2": "6368a555c74c7709985e17413d0faa967bda8d2d167ac9613d3403e3aeb46156",
    "thin-3": "c882df3dd235a0228f4c58dbd0f222b41fbe9509afa5c564bb2c1f73c1d76c73",
    "thin-5": "4e3b97b05013cb3b6b60b68cab39328ebc4217c9e894a6d1fae7adb269fd2870",
    "thin-6": "6caf01555ec1c732b3dd4125b339444299b6facb0c30a5fa0ce293842d424f1e",
    "ixi2019-t2-kspace2": "0606a1fb2b0e7464ac0e41ac9f98a46279a0faaf7190a541f4da01b4c7cdbd61",
    "mdcsrn2020-segmentation": "0e1022adff094468be3821bbe0ef20f4ca0d396a288463ef9cf6c52ce62fb292",
    "prostate2019-orthogonal": "8abbde2de6875d0c09b5dd97e6bad2fae8fb5178361d5e8a8e30fe9f29aefe1e",
    "real-paired": "75ef1e1464dceeb47fb4518fd917ec0be13793c85e54f94a25b08e48c79a6b93",
    "real-paired-thick-4": "b59776f7a10c190bbaadcdad8e7fc6f625e63acac9d1e3a08c5ed63cd803bd2d",
}


def test_no_protocol_is_missing_or_unlisted():
    assert set(protocol_names()) == set(FROZEN)


@pytest.mark.parametrize("name", FROZEN)
def test_a_frozen_protocol_never_changes(name):
    assert get_protocol(name).hash == FROZEN[name], f"{name} was changed; make a new protocol instead"


@pytest.mark.parametrize("name", FROZEN)
def test_the_hash_is_that_of_the_canonical_json_of_the_file(name):
    text = (files("mrsr_bench.benchmarks.protocols") / f"{name}.yaml").read_text(encoding="utf-8")
    canonical = json.dumps(yaml.safe_load(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert get_protocol(name).hash == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize("name", FROZEN)
def test_a_protocol_names_a_degradation_that_takes_its_parameters(name):
    protocol = get_protocol(name)
    degradation = degradations.get(protocol.degradation)
    assert set(protocol.settings) <= set(degradation.defaults)
    assert protocol.name == name
    assert len(protocol.metrics) == len(set(protocol.metrics)) >= (7 if protocol.has_reference else 5)
    assert set(protocol.metrics) <= set(metrics.names())
    assert protocol.has_reference or not any(metrics.get(key).reference for key in protocol.metrics)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("kspace-2x2x1", (2, 2, 1)),
        ("mdcsrn2020", (2, 2, 1)),
        *((f"{kind}-{s}", (1, 1, s)) for s in range(2, 7) for kind in ("thick", "thin")),
        *((f"soup2022-{kind}-{s}", (1, 1, s)) for s in range(2, 7) for kind in ("thick", "thin")),
        *((f"inplane-{f}x{f}x1", (f, f, 1)) for f in (4, 8)),
        *((f"inplane-1x{f}x1", (1, f, 1)) for f in (4, 8)),
        *((f"prostate2019-iso-{f}x", (f, f, 1)) for f in (4, 8)),
        *((f"prostate2019-aniso-{f}x", (1, f, 1)) for f in (4, 8)),
        ("prostate2019-through-plane", (1, 1, 4)),
        ("real", (2, 2, 1)),
        ("real-thick-4", (1, 1, 4)),
        ("real-paired", (2, 2, 1)),
        ("real-paired-thick-4", (1, 1, 4)),
        ("prostate2019-orthogonal", (1, 1, 4)),
        ("ixi2019-t2-kspace2", (2, 2, 1)),
        ("mdcsrn2020-segmentation", (2, 2, 1)),
    ],
)
def test_factors(name, factor):
    assert get_protocol(name).factor == factor


def test_the_factor_of_a_composition_is_the_product_of_its_steps():
    steps = [
        {"degradation": "thick_slices", "parameters": {"factor": [1, 1, 4]}},
        {"degradation": "kspace_truncation", "parameters": {"factor": [2, 1.5, 1]}},
    ]
    content = {
        "name": "both",
        "summary": "",
        "metrics": [],
        "task": {"degradation": "composed", "parameters": {"steps": steps}},
    }
    assert Protocol(content).factor == (2, 1.5, 4)


def test_the_order_of_keys_and_white_space_do_not_change_a_hash_and_values_do():
    one, other = {"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}
    assert canonical_json(one) == canonical_json(other) == '{"a":1,"b":[1,2]}'
    assert canonical_json({"a": 2, "b": [1, 2]}) != canonical_json(one)
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_near_names_are_suggested():
    with pytest.raises(UserError, match=r"did you mean .*kspace-2x2x1"):
        get_protocol("kspace-2x2x2")
    with pytest.raises(UserError, match=r"there are: .*kspace-2x2x1"):
        get_protocol("qqq")


def test_the_seed_of_a_subject_is_that_of_the_protocol_page():
    digest = hashlib.sha256(b"7:sub-01").digest()
    assert subject_seed(7, "sub-01") == int.from_bytes(digest[:8], "big")
    assert subject_seed(7, "sub-01") != subject_seed(8, "sub-01")


@pytest.mark.parametrize(
    ("paper", "common"),
    [
        ("mdcsrn2020", "kspace-2x2x1"),
        ("mdcsrn2020-segmentation", "kspace-2x2x1"),
        ("ixi2019-t2-kspace2", "kspace-2x2x1"),
        ("prostate2019-aniso-8x", "inplane-1x8x1"),
        ("prostate2019-iso-4x", "inplane-4x4x1"),
    ]
    + [(f"soup2022-{kind}-{s}", f"{kind}-{s}") for kind in ("thick", "thin") for s in range(2, 7)],
)
def test_a_papers_degradation_is_that_of_a_common_protocol_so_that_weights_serve_both(paper, common):
    assert get_protocol(paper).content["task"] == get_protocol(common).content["task"]
    assert get_protocol(paper).of_a_paper
    assert not get_protocol(common).of_a_paper


@pytest.mark.parametrize("entry", ["region", "range", "normalisation", "reference", "intensities"])
def test_a_protocol_that_states_what_is_not_implemented_is_refused(entry):
    content = get_protocol("kspace-2x2x1").content
    with pytest.raises(UserError, match=rf"asks for the {entry} .*implements .*"):
        Protocol({**content, entry: "something else"})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ensembles": 5}, "ensembles"),
        ({"task": {"degradation": "thin_slices", "parameters": {}, "planes": 2}}, "task.planes"),
        ({"inference": {"tiling": "method", "dtype": "float32", "ensemble": 8}}, "inference.ensemble"),
    ],
)
def test_an_entry_that_nothing_reads_is_refused(change, named):
    with pytest.raises(UserError, match=rf"unknown entries {named};"):
        Protocol({**get_protocol("kspace-2x2x1").content, **change})


def test_scored_runs_are_float32():
    with pytest.raises(UserError, match=r'inference dtype "bfloat16".*float32 only'):
        Protocol({**get_protocol("kspace-2x2x1").content, "inference": {"tiling": "method", "dtype": "bfloat16"}})


@pytest.mark.parametrize(("name", "reference"), [("kspace-2x2x1", "none"), ("real", "hr")])
def test_only_what_was_acquired_so_has_no_reference(name, reference):
    content = {**get_protocol(name).content, "reference": reference}
    content = {key: value for key, value in content.items() if key not in ("region", "range")}
    with pytest.raises(UserError, match="reference: none if, and only if"):
        Protocol(content)


def test_without_a_reference_nothing_may_claim_the_range_of_hr():
    content = {**get_protocol("real").content, "range": get_protocol("thick-4").content["range"]}
    with pytest.raises(UserError, match="asks for the range"):
        Protocol(content)


@pytest.mark.parametrize("folds", [{"count": 1, "seed": 0}, {"count": 5}, {"count": 2.5, "seed": 0}, 5, []])
def test_folds_that_cannot_be_drawn_are_refused(folds):
    with pytest.raises(UserError, match="asks for the folds"):
        Protocol({**get_protocol("ixi2019-t2-kspace2").content, "folds": folds})


def test_real_pairs_are_compared_with_hr_but_not_made_from_it():
    paired = get_protocol("real-paired")
    assert (paired.has_reference, paired.of_real_pairs, paired.degradation) == (True, True, "as_acquired")
    with pytest.raises(UserError, match="reference: none if, and only if"):
        Protocol({**get_protocol("kspace-2x2x1").content, "reference": "paired"})
