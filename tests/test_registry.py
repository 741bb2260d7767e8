"""Registries find components by looking, suggest near names, and take in other packages' entry points."""

import importlib.metadata

import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.registry import Registry
from mrsr_bench.zoo.methods import methods

INTERPOLATIONS = ["nearest", "linear", "cubic", "lanczos", "zero_fill"]


@pytest.fixture
def registry():
    return Registry(
        "method", "mrsr_bench.zoo.methods", "METHODS", submodule="method", entry_points="mrsr_bench.methods"
    )


def with_entry_point(monkeypatch, name, value):
    point = importlib.metadata.EntryPoint(name, value, "mrsr_bench.methods")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == point.group else [])


def test_interpolations_come_in_the_order_of_declaration():
    names = methods.names()
    assert [name for name in names if name in INTERPOLATIONS] == INTERPOLATIONS


def test_interpolations_have_no_parameters_and_no_weights_to_load():
    assert all(methods.get(name).parameters == 0 for name in INTERPOLATIONS)


@pytest.mark.parametrize(("typed", "meant"), [("cubik", "cubic"), ("zerofill", "zero_fill"), ("neares", "nearest")])
def test_unknown_names_get_near_ones(typed, meant):
    with pytest.raises(UserError, match=rf"{typed!r}; did you mean .*{meant}"):
        methods.get(typed)


def test_a_name_near_to_none_gets_the_list():
    with pytest.raises(UserError, match=r"there are: .*kspace_truncation"):
        degradations.get("qqqqqq")


def test_an_entry_point_joins_under_its_name(registry, monkeypatch):
    with_entry_point(monkeypatch, "theirs", "fractions:Fraction")
    assert registry.names()[-1] == "theirs"
    assert registry.get("theirs").__name__ == "Fraction"


def test_an_entry_point_may_not_take_a_name_that_exists(registry, monkeypatch):
    with_entry_point(monkeypatch, "cubic", "fractions:Fraction")
    with pytest.raises(UserError, match="cubic"):
        registry.names()


def test_an_entry_point_that_does_not_load_is_named(registry, monkeypatch):
    with_entry_point(monkeypatch, "broken", "no_such_module:METHOD")
    with pytest.raises(UserError, match=r"broken.*no_such_module"):
        registry.names()
