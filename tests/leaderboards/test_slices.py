"""What is drawn, what is not, and that a page gives the true reason."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import made_up
import numpy as np
import pytest

from mrsr_bench.benchmarks.entrants import can_do
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.leaderboards import site, slices
from mrsr_bench.volume import Volume
from mrsr_bench.zoo.methods import methods

WEIGHTS = sorted(Path(str(files("mrsr_bench.zoo.methods"))).glob("*/weights/*--*"))
DRAWN = {name for model in slices.MODELS for name in (model, *methods.get(model).alias_for)}


@pytest.mark.parametrize("folder", WEIGHTS, ids=lambda folder: folder.name)
def test_every_method_that_ships_for_a_task_is_drawn_or_known_to_be_slow(folder):
    name, task = folder.name.split("--")
    tasks = [t for t in slices.TASKS if t.startswith(task) and can_do(methods.get(name), get_protocol(t))]
    assert not tasks or name in DRAWN or name in slices.TOO_SLOW


@pytest.mark.parametrize(("axis", "apart"), [(1, False), (2, False), (2, True)])
def test_the_slices_shown_are_those_of_the_whole_head(axis, apart):
    shape = (6, 70, 60)
    hr = Volume(np.random.default_rng(0).random(shape, dtype=np.float32), np.diag([2.0, 2, 2, 1]))
    wanted = [round(float(i)) for i in np.linspace(12, 50, slices.SLICES)]
    part, indices = slices._seen(hr, axis, wanted, apart=apart)
    assert part.data.shape[axis] < shape[axis]
    step = (50 - 12) // (slices.SLICES - 1)
    places = [12 + step * i for i in range(slices.SLICES)] if apart else wanted
    for index, place in zip(indices, places, strict=True):
        assert np.array_equal(np.take(part.data, index, axis), np.take(hr.data, place, axis))
        assert (part.affine @ [*slices._centre(axis, index), 1])[axis] == 2 * place


def test_a_page_without_pictures_says_why():
    def why(name, stacks, **changes):
        one = made_up.submission(name, source={"package": "mrsr-bench", "package_version": "1"})
        weights = one.weights.model_copy(update={"shipped": True})
        return site._why_no_pictures(name, made_up.bypassing(one, **{"weights": weights, **changes}), stacks)

    missing = {"slow": slices.too_slow(60)}
    stack = slices.Stack("thick-4", "", "axial", (0.0,), 1, 1, (slices.Picture("HR", "HR", "", ("h.png",)),), missing)
    assert why("slow", []) == "this site was built without pictures"
    assert why("slow", [stack]) == "too slow to draw here: 60 s a head"
    assert "thick-4 alone" in why("other", [stack])
    assert "weights do not ship" in why("other", [stack], weights=made_up.submission("other").weights)
    assert "code is not in this package" in why("other", [stack], source=made_up.submission("other").source)
