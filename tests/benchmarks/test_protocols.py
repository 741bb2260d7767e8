"""Protocols are frozen: a changed definition is another protocol."""

import hashlib
import json
from importlib.resources import files

import pytest
import yaml

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.benchmarks.protocol import Protocol, canonical_json, get_protocol, protocol_names, subject_seed

FROZEN = {
    "kspace-2x2x1": "1f3a411ba9b2142f14468167379179dca37965a911c222ffe533c84c32d75090",
    "thick-4": "e32eff595850fd33955f35205a2dcbf10a3963f9af6929e2cf404b210a047ecb",
    "thin-4": "9fe393c66d95fc65b94d8035d7fe972ec675f885e9bc4dd5b6277cd8699114d3",
    "mdcsrn2020": "03e7cce7a1f473f20dfab8570f9179847aa5bf6d48ec2307fac8b6f010bc3058",
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
    assert len(protocol.metrics) == len(set(protocol.metrics)) >= 7


@pytest.mark.parametrize(
    ("name", "factor"),
    [("kspace-2x2x1", (2, 2, 1)), ("mdcsrn2020", (2, 2, 1)), ("thick-4", (1, 1, 4)), ("thin-4", (1, 1, 4))],
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
    with pytest.raises(UserError, match="there are: kspace-2x2x1"):
        get_protocol("qqq")


def test_the_seed_of_a_subject_is_that_of_the_protocol_page():
    digest = hashlib.sha256(b"7:sub-01").digest()
    assert subject_seed(7, "sub-01") == int.from_bytes(digest[:8], "big")
    assert subject_seed(7, "sub-01") != subject_seed(8, "sub-01")


@pytest.mark.parametrize("entry", ["region", "range", "normalisation"])
def test_a_protocol_that_states_what_is_not_implemented_is_refused(entry):
    content = get_protocol("kspace-2x2x1").content
    with pytest.raises(UserError, match=rf"asks for the {entry} .*implements .* only"):
        Protocol({**content, entry: "something else"})
