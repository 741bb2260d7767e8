"""Walks: whatever way a volume is stored, its axes meet the network as in training and the result lies where it should.

Fake networks interpolate exactly, by code of their own, so that a ramp in world coordinates must come out as that ramp.
"""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mrsr_bench.benchmarks.dataset import Case
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.volume import AxisAcquisition, Grid, Volume
from mrsr_bench.zoo import inference
from mrsr_bench.zoo.inference import NetworkUpscaler, build_network, preferred_mode, set_batch_norm
from mrsr_bench.zoo.method import MethodSpec, Tiling
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.methods.srgan.method import receptive_radius
from mrsr_bench.zoo.patches import as_slices, prepare
from mrsr_bench.zoo.tiling import run_stack
from mrsr_bench.zoo.upscale import target_grid
from mrsr_bench.zoo.walks import factors, nearest_task, place, task_factor, task_kinds
from mrsr_bench.zoo.weights import Weights

GRADIENT = np.array([0.7, -0.45, 0.9])  # per mm along R, A, S: the ramp that every volume here holds
NETWORK = MethodSpec(name="fake", kind="network", summary="-", paper="-", build="-")
NATIVE = replace(NETWORK, input="native")
SLICES = replace(NATIVE, dims=2, walk="slices", scale=(4, 4))
HEIGHT = replace(NATIVE, dims=2, walk="slices", scale=(4, 1))
THROUGH = replace(NATIVE, dims=2, walk="through_plane", scale=(4, 1))
VOLUME = replace(NATIVE, walk="volume", scale=(1, 1, 4))
FLAT_2D = replace(NETWORK, dims=2, walk="slices")
THICK = {"degradation": "thick_slices", "parameters": {"factor": [1, 1, 4], "profile": "box", "gap": 0.0}}
THIN = {"degradation": "thin_slices", "parameters": {"factor": [1, 1, 4]}}
INPLANE = {"degradation": "bicubic_downsample", "parameters": {"factor": [4, 4, 1]}}
HEIGHTWISE = {"degradation": "bicubic_downsample", "parameters": {"factor": [1, 4, 1]}}
KSPACE = {"degradation": "kspace_truncation", "parameters": {"factor": [2, 2, 1]}}
TILING = Tiling(window=64, margin=6)


def turned(angles):
    """A rotation about R, A, S by ``angles`` (degrees)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        i, j = [k for k in range(3) if k != axis]
        step = np.eye(3)
        step[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = matrix @ step
    return matrix


def world_grid(shape, spacing, angles=(0, 0, 0)):
    """A grid whose array axes are R, A, S, but for a rotation."""
    affine = np.eye(4)
    affine[:3, :3] = turned(angles) * np.asarray(spacing)
    affine[:3, 3] = [-31.0, 12.5, 40.0]
    return Grid(tuple(shape), affine)


def stored(grid, order, flips):
    """The same voxels with array axes permuted and flipped."""
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for new, old in enumerate(order):
        change[old, new] = -1 if flips[new] else 1
        change[old, 3] += grid.shape[old] - 1 if flips[new] else 0
    return Grid(tuple(grid.shape[axis] for axis in order), grid.affine @ change)


def ramp(grid):
    """GRADIENT times the world coordinates of every voxel, and a constant that keeps it positive."""
    index = np.indices(grid.shape).reshape(3, -1)
    world = grid.affine[:3, :3] @ index + grid.affine[:3, 3:]
    return (500 + GRADIENT @ world).reshape(grid.shape)


def volume_on(grid, kind, factor):
    by_axis = grid.factor_by_axis(factor)
    acquisition = tuple(AxisAcquisition(kind if f > 1 else "full") for f in by_axis)
    return Volume(ramp(grid), grid.affine, acquisition), target_grid(grid, acquisition, by_axis)


class Interpolating(nn.Module):
    """Linear interpolation to ``scale`` times the samples, straight on beyond the edges; ``edges`` or first sample."""

    def __init__(self, scale, convention):
        super().__init__()
        self.scale, self.convention = scale, convention
        self.sizes = set()

    def forward(self, x):
        self.sizes.add(tuple(x.shape[2:]))
        for axis, factor in enumerate(self.scale, start=2):
            size = x.shape[axis]
            at = (np.arange(size * factor) - ((factor - 1) / 2 if self.convention == "edges" else 0)) / factor
            low = np.clip(np.floor(at), 0, size - 2).astype(int)
            share = torch.from_numpy(at - low).to(x).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            x = x.index_select(axis, torch.from_numpy(low)) * (1 - share) + share * x.index_select(
                axis, torch.from_numpy(low + 1)
            )
        return x


def upscaler(network, spec, *tasks, tiling=TILING):
    return NetworkUpscaler(network, "linear", tiling, "cpu", False, spec=spec, tasks=tasks)


def misplaced(sr, lr, margin=2.5):
    """The largest distance, in target voxels along the gradient, of the interior of ``sr`` from where it should be."""
    back = np.linalg.inv(lr.affine) @ sr.affine
    index = np.indices(sr.data.shape).reshape(3, -1)
    at = back[:3, :3] @ index + back[:3, 3:]
    inside = ((at > margin) & (at < np.array(lr.data.shape)[:, None] - 1 - margin)).all(axis=0)
    assert inside.sum() > 50
    apart = np.abs(sr.data - ramp(sr.grid)).ravel()[inside].max()
    steepest = np.abs(GRADIENT @ (sr.affine[:3, :3] / np.linalg.norm(sr.affine[:3, :3], axis=0))).min()
    return apart / (steepest * min(sr.spacing))


ORIENTATIONS = [
    ((0, 0, 0), (0, 1, 2), (0, 0, 0)),
    ((0, 0, 0), (2, 0, 1), (0, 1, 0)),
    ((14, -8, 11), (1, 2, 0), (1, 0, 1)),
    ((-20, 5, 9), (2, 1, 0), (1, 1, 1)),
]
CASES = [
    # spec, tasks, LR kind, LR samples and spacing along R, A, S, factor R x A x S
    ("in plane", SLICES, INPLANE, "bicubic", (11, 12, 9), (2.0, 2.0, 3.0), (4, 4, 1)),
    ("in plane, sagittal", SLICES, INPLANE, "bicubic", (9, 11, 12), (3.0, 2.0, 2.0), (1, 4, 4)),
    ("in plane, factor 3", SLICES, INPLANE, "bicubic", (11, 12, 9), (2.0, 2.0, 3.0), (3, 3, 1)),
    ("height", HEIGHT, HEIGHTWISE, "bicubic", (10, 12, 9), (0.5, 2.0, 3.0), (1, 4, 1)),
    ("height, factor 5", HEIGHT, HEIGHTWISE, "bicubic", (10, 12, 9), (0.4, 2.0, 3.0), (1, 5, 1)),
    ("through, thick", THROUGH, THICK, "box", (10, 9, 12), (1.0, 1.0, 4.0), (1, 1, 4)),
    ("through, coronal thick", THROUGH, THICK, "box", (10, 12, 9), (1.0, 4.0, 1.0), (1, 4, 1)),
    ("through, thick, factor 3", THROUGH, THICK, "box", (10, 9, 12), (1.0, 1.0, 3.0), (1, 1, 3)),
    ("through, thick, factor 5", THROUGH, THICK, "box", (10, 9, 12), (1.0, 1.0, 5.0), (1, 1, 5)),
    ("through, thin", THROUGH, THIN, "sample", (10, 9, 12), (1.0, 1.0, 4.0), (1, 1, 4)),
    ("through, sagittal thin, factor 3", THROUGH, THIN, "sample", (12, 9, 10), (3.0, 1.0, 1.0), (3, 1, 1)),
    ("volume, thick", VOLUME, THICK, "box", (10, 9, 12), (1.0, 1.0, 4.0), (1, 1, 4)),
    ("volume, coronal thin, factor 5", VOLUME, THIN, "sample", (10, 12, 9), (1.0, 5.0, 1.0), (1, 5, 1)),
    ("volume, k-space for thick", VOLUME, THICK, "kspace", (10, 9, 12), (1.0, 1.0, 4.0), (1, 1, 4)),
]


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=["plain", "permuted", "oblique", "reversed"])
@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_what_an_upscaling_network_gives_lies_where_it_should(case, orientation):
    _, spec, task, kind, shape, spacing, factor = case
    angles, order, flips = orientation
    lr, target = volume_on(stored(world_grid(shape, spacing, angles), order, flips), kind, factor)
    network = Interpolating(spec.scale, "first" if task is THIN else "edges")
    method = upscaler(network, spec, task)
    for grid in (target, stored(target, (1, 2, 0), (1, 0, 0))):
        sr = method.upscale(lr, grid)
        assert sr.grid.same_as(grid)
        assert misplaced(sr, lr) < 0.01
    assert len(network.sizes) == (2 if spec is THROUGH else 1)


def test_the_other_convention_would_be_noticed():
    lr, target = volume_on(world_grid((10, 9, 12), (1, 1, 4)), "box", (1, 1, 4))
    assert misplaced(upscaler(Interpolating((4, 1), "edges"), THROUGH, THICK).upscale(lr, target), lr) < 0.01
    assert misplaced(upscaler(Interpolating((4, 1), "first"), THROUGH, THICK).upscale(lr, target), lr) > 1


@pytest.mark.parametrize("convention", ["edges", "first"])
@pytest.mark.parametrize("factor", [3, 4, 5])
def test_a_fiducial_ends_at_its_place_in_the_world(factor, convention):
    """A Gaussian blob: the centre of mass, in world coordinates, of what comes out of an oblique coronal stack."""
    kind, task = ("box", THICK) if convention == "edges" else ("sample", THIN)
    grid = stored(world_grid((50, 17, 50), (1, factor, 1), (8, 4, -9)), (1, 0, 2), (1, 0, 0))
    lr, target = volume_on(grid, kind, (1, factor, 1))
    centre = lr.affine @ [8.3, 24.8, 24.1, 1]
    index = np.indices(lr.data.shape).reshape(3, -1)
    away = lr.affine[:3, :3] @ index + lr.affine[:3, 3:] - centre[:3, None]
    blob = np.exp(-0.5 * (away**2).sum(axis=0) / factor**2).reshape(lr.data.shape)
    sr = upscaler(Interpolating((4, 1), convention), THROUGH, task).upscale(lr.with_data(blob), target)
    places = sr.affine[:3, :3] @ np.indices(sr.data.shape).reshape(3, -1) + sr.affine[:3, 3:]
    weights = sr.data.ravel()
    found = (places * weights).sum(axis=1) / weights.sum()
    assert np.abs(np.linalg.inv(sr.affine)[:3, :3] @ (found - centre[:3])).max() < 0.01


def test_a_crop_of_the_networks_grid_is_taken_as_it_is_and_anything_else_is_said_once():
    lr, target = volume_on(world_grid((10, 9, 12), (1, 1, 4)), "sample", (1, 1, 4))
    assert target.shape == (10, 9, 45)
    method = upscaler(Interpolating((4, 1), "first"), THROUGH, THIN)
    method.upscale(lr, target.cropped((2, 0, 5), (9, 9, 40)))
    assert method.notes == []
    _, other = volume_on(lr.grid, "sample", (1, 1, 3))
    for _ in range(2):
        method.upscale(lr, other)
    assert len(method.notes) == 1
    assert "fake refines by 4x1 and the target is finer by 3" in method.notes[0]


class Marking(nn.Module):
    """Adds to every voxel the digits of its place along each of the network's axes, and the factor if told."""

    def forward(self, x, factor=None):
        self.size, self.factor = tuple(x.shape[2:]), factor
        for axis, size in enumerate(x.shape[2:], start=2):
            shape = [1] * x.ndim
            shape[axis] = size
            x = x + torch.arange(size, dtype=x.dtype).reshape(shape) * 100.0 ** (x.ndim - 1 - axis)
        return x


def marks(spec, task, lr, target):
    """What `Marking` added, in voxels of the target's array, and the network afterwards."""
    network = Marking()
    method = NetworkUpscaler(network, "linear", TILING, "cpu", False, spec=spec, tasks=[task])
    sr = method.upscale(lr, target)
    from mrsr_bench.benchmarks.metrics.region import intensity_range
    from mrsr_bench.zoo.regrid import regrid

    scale = intensity_range(lr.data)
    return (sr.data - regrid(lr, target, "linear").data) / scale, network


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize(("factor", "places"), [((1, 1, 4), (0, 1, 2)), ((1, 4, 1), (0, 2, 1)), ((4, 1, 1), (1, 2, 0))])
def test_a_stack_of_thick_slices_meets_a_network_trained_along_s(factor, places, order):
    """``places``: the world axis that takes each of the network's places; the degraded one is last."""
    lr, target = volume_on(stored(world_grid((5, 6, 7), factor), order, (0, 0, 0)), "box", factor)
    found, network = marks(replace(NETWORK, conditioned=True), THICK, lr, target)
    array = target.world_to_array()
    by_world = found.transpose(array)
    assert network.size == tuple(by_world.shape[world] for world in places)
    steps = [by_world[1, 0, 0], by_world[0, 1, 0], by_world[0, 0, 1]]
    np.testing.assert_allclose([s - by_world[0, 0, 0] for s in (steps[w] for w in places)], [1e4, 100, 1], atol=0.01)
    assert network.factor == 4.0


def test_a_conditioned_network_is_told_a_fractional_factor():
    lr, target = volume_on(world_grid((5, 6, 7), (1, 2.5, 1)), "box", (1, 2.5, 1))
    assert marks(replace(NETWORK, conditioned=True), THICK, lr, target)[1].factor == 2.5


@pytest.mark.parametrize(
    ("factor", "spacing", "plane"),
    [
        ((2, 2, 1), (2, 2, 1), (1, 0)),  # axial: height A, width R
        ((1, 2, 2), (1, 2, 2), (2, 1)),  # sagittal: height S, width A
        ((2, 1, 2), (2, 1, 2), (0, 2)),  # coronal: S takes the place of R, the height is the later place
    ],
)
def test_slices_lie_in_the_degraded_plane(factor, spacing, plane):
    lr, target = volume_on(stored(world_grid((5, 6, 7), spacing), (2, 0, 1), (0, 1, 0)), "kspace", factor)
    found, network = marks(FLAT_2D, KSPACE, lr, target)
    world_shape = [target.shape[axis] for axis in target.world_to_array()]
    degraded = {axis for axis in range(3) if factor[axis] > 1}
    assert sorted(network.size) == sorted(world_shape[axis] for axis in degraded)
    by_world = found.transpose(target.world_to_array())
    other = next(axis for axis in range(3) if axis not in degraded)
    assert np.ptp(np.diff(by_world, axis=other)) < 0.01  # nothing was added along the stack
    assert network.size[0] in {world_shape[axis] for axis in plane}


def test_one_degraded_axis_is_met_with_the_finest_other_one():
    for spacing, wanted in [((0.5, 4, 0.7), (24, 5)), ((0.7, 4, 0.5), (7, 24))]:
        lr, target = volume_on(world_grid((5, 6, 7), spacing), "kspace", (1, 4, 1))
        assert marks(FLAT_2D, HEIGHTWISE, lr, target)[1].size == wanted


class OneCase(Case):
    """A noisy box on a stack of slices."""

    subject, image, fingerprint = "sub-1", "T2w", "one"

    def __init__(self, grid):
        self.grid = grid

    def hr(self):
        data = np.random.default_rng(3).random(self.grid.shape) + 5
        data[tuple(slice(2, -2) for _ in range(3))] += 40
        return Volume(data, self.grid.affine)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize(
    ("name", "protocol", "shape", "spacing"),
    [
        ("srresnet2d_4x", "inplane-4x4x1", (40, 48, 9), (1, 1, 3)),
        ("srresnet2d_4x", "inplane-4x4x1", (9, 40, 48), (3, 1, 1)),
        ("srresnet2d_4x", "inplane-4x4x1", (48, 9, 40), (1, 3, 1)),
        ("srresnet2d_aniso_4x", "inplane-1x4x1", (40, 48, 9), (1, 1, 3)),
        ("srgan_through_plane", "thick-4", (20, 24, 40), (1, 1, 1)),
        ("srgan_through_plane", "thin-5", (20, 24, 41), (1, 1, 1)),
        ("gan_cpce", "kspace-2x2x1", (40, 48, 9), (1, 1, 1)),
    ],
)
def test_a_2d_network_works_on_the_slices_that_it_learnt_from(name, protocol, shape, spacing, order, tmp_path):
    """What goes into the network at inference is, slice by slice, what `patches` would give it in training."""
    spec, task = methods.get(name), get_protocol(protocol)
    case = OneCase(stored(world_grid(shape, spacing), order, (0, 1, 0)))
    (prepared,) = prepare([case], [task], "linear", 0, tmp_path, spec)
    pair = case.acquire(degradations.get(task.degradation), task.settings, 0)
    seen = []

    class Recording(Interpolating):
        def forward(self, x):
            seen.append(x.clone())
            return super().forward(x)

    tiling = Tiling(window=128, margin=2)
    network = Recording(spec.scale or (1, 1), "edges")
    NetworkUpscaler(network, "linear", tiling, "cpu", False, spec=spec, tasks=[task.content["task"]]).upscale(
        pair.lr, pair.hr.grid
    )
    wanted = []
    for still in (1, 0) if spec.walk == "through_plane" else (2,):
        for index in range(prepared.lr.shape[still]):
            cut = np.take(prepared.lr, [index], axis=still)
            wanted.append(as_slices((cut if still else cut.transpose(1, 0, 2))[None]))
    assert len(seen) == len(wanted)
    if spec.walk == "through_plane":
        seen.sort(key=lambda x: x.shape[3] != wanted[0].shape[3])
    for got, slice_ in zip(seen, wanted, strict=True):
        torch.testing.assert_close(got, slice_, rtol=1e-5, atol=1e-6)


class Counting(nn.Module):
    """Nearest-neighbour upscaling of the height by 4, plus the width of the slice."""

    def forward(self, x):
        return x.repeat_interleave(4, 2) + x.shape[3]


def test_the_two_stacks_through_the_plane_are_averaged():
    lr, target = volume_on(world_grid((10, 6, 8), (1, 1, 4)), "box", (1, 1, 4))
    from mrsr_bench.benchmarks.metrics.region import intensity_range

    sr = upscaler(Counting(), THROUGH, THICK).upscale(lr, target)
    added = (sr.data - lr.data.repeat(4, axis=2)) / intensity_range(lr.data)
    np.testing.assert_allclose(added, (10 + 6) / 2, rtol=1e-5)


def test_the_grid_follows_what_the_network_was_trained_on_not_what_it_is_given():
    sampled, _ = volume_on(world_grid((10, 9, 12), (1, 1, 4)), "kspace", (1, 1, 4))
    assert place(sampled, sampled.grid, THICK).kinds[2] == "box"
    assert place(sampled, sampled.grid, None).kinds[2] == "kspace"


def test_factors_do_not_depend_on_how_either_grid_is_stored():
    lr, target = volume_on(world_grid((5, 6, 7), (1, 2, 3), (10, 5, 0)), "kspace", (1, 2, 3))
    for order in itertools.permutations(range(3)):
        for flips in [(0, 0, 0), (1, 0, 1)]:
            assert factors(lr.grid, stored(target, order, flips)) == pytest.approx((1, 2, 3))
            assert factors(stored(lr.grid, order, flips), target) == pytest.approx((1, 2, 3))


def test_a_composed_task_multiplies_its_factors_and_is_of_the_last_kind():
    steps = [KSPACE, {"degradation": "thick_slices", "parameters": {"factor": [1, 2, 3], "profile": "gaussian"}}]
    composed = {"degradation": "composed", "parameters": {"steps": steps}}
    assert task_factor(composed) == (2, 4, 3)
    assert task_kinds(composed) == ("kspace", "gaussian", "gaussian")


# ------------------------------------------------------------------------------------------ the weights that fit


def kinds_of_slices(kind, factor):
    return volume_on(world_grid((10, 9, 12), (1, 1, factor)), kind, (1, 1, factor))


def at_factor(task, factor):
    return {**task, "parameters": {**task["parameters"], "factor": [1, 1, factor]}}


@pytest.mark.parametrize(
    ("kind", "wanted"), [("box", THICK), ("gaussian", THICK), ("sample", THIN), ("kspace", THICK), ("unknown", THICK)]
)
@pytest.mark.parametrize("factor", [2, 2.4, 4, 6])
def test_the_task_nearest_to_an_acquisition(kind, wanted, factor):
    tasks = [at_factor(task, f) for task in (THIN, THICK) for f in (2, 4, 6)]
    assert nearest_task(tasks, *kinds_of_slices(kind, factor)) == at_factor(wanted, round(factor))


@pytest.fixture
def shelf(monkeypatch):
    """Weights of ``srgan_through_plane`` for groups of tasks, without any file; which were loaded."""
    held = []

    def find_weights(spec, task, path=None, *, hub=False):
        for name, tasks in held:
            if task is None or task in tasks:
                config = {"task": tasks[0], "tasks": tasks, "network": {}, "regrid": "cubic"}
                return Weights(SimpleNamespace(), name, config | {"tiling": {"window": 64, "margin": 2}})
        return None

    monkeypatch.setattr(inference, "find_weights", find_weights)
    monkeypatch.setattr(inference, "build_network", lambda spec, overrides: Counting())
    monkeypatch.setattr(inference, "load_into", lambda network, weights: None)
    return held


def group(kind):
    names = methods.get("srgan_through_plane").groups[kind]
    return kind, [get_protocol(name).content["task"] for name in names]


def test_the_acquisition_picks_the_weights_and_a_task_is_taken_at_its_word(shelf):
    shelf += [group("thin"), group("thick")]
    load = inference.load_method
    for kind, wanted in [("box", "thick"), ("sample", "thin"), ("kspace", "thick")]:
        lr, target = kinds_of_slices(kind, 4)
        found = load("srgan_through_plane", task=None, lr=lr, target=target)
        assert (found.weights_sha256, len(found.trained_for)) == (wanted, 5)
        assert load("srgan_through_plane", task="thin-5", lr=lr, target=target).weights_sha256 == "thin"
    del shelf[1]
    lr, target = kinds_of_slices("box", 4)
    assert load("srgan_through_plane", task=None, lr=lr, target=target).weights_sha256 == "thin"


# ------------------------------------------------------------------------------------------ batches, tiles, modes


def small_network(name, **arguments):
    network = build_network(replace(methods.get(name), arguments=methods.get(name).arguments | arguments)).train()
    with torch.no_grad():
        network(torch.from_numpy(np.random.default_rng(1).random((2, 1, 16, 16), dtype=np.float32)))
    return network.eval()


@pytest.mark.parametrize("scale", [(4, 4), (8, 1)])
def test_slices_do_not_depend_on_the_batch_nor_on_tiles(scale):
    network = small_network("srresnet2d_4x", scale=scale, width=8, blocks=2)
    stack = np.random.default_rng(0).random((3, 61, 40), dtype=np.float32)
    margin = receptive_radius(scale, 2)
    whole = run_stack(network, stack, Tiling(window=64, margin=margin), scale=scale)
    assert whole.shape == (3, 61 * scale[0], 40 * scale[1])
    tiled = run_stack(network, stack, Tiling(window=40, margin=margin), scale=scale, batch=4)
    np.testing.assert_allclose(tiled, whole, rtol=1e-4, atol=1e-4 * np.abs(whole).max())
    short = run_stack(network, stack, Tiling(window=36, margin=2), scale=scale)
    assert np.abs(short - whole).max() > 1e-3 * np.abs(whole).max()
    alone = run_stack(network, stack[1:2], Tiling(window=64, margin=margin), scale=scale)
    np.testing.assert_allclose(alone[0], whole[1], rtol=1e-5, atol=1e-5)


def test_a_constant_tile_passes_through_an_upscaling_network_in_tile_mode():
    flat = np.full((2, 6, 5), 0.25, np.float32)
    out = run_stack(Counting(), flat, Tiling(window=8, margin=1, batch_norm="tile"), scale=(4, 1))
    assert np.array_equal(out, np.full((2, 24, 5), 0.25, np.float32))


@pytest.mark.parametrize("mode", ["eval", "tile"])
def test_the_mode_that_validates_better_on_real_tiles_is_preferred(mode):
    network = build_network(methods.get("mdcsrn_b1u2_k2")).train()
    rng = np.random.default_rng(4)
    image = np.cumsum(rng.standard_normal((20, 20, 20)), axis=0).astype(np.float32)
    with torch.no_grad():
        network(torch.from_numpy(2 * image + 1)[None, None])  # running statistics that are not those of the image
        set_batch_norm(network.eval(), mode)
        wanted = network(torch.from_numpy(image)[None, None])[0, 0].numpy()
    val = [SimpleNamespace(lr=image, hr=wanted, range=1.0)]
    chosen, scores = preferred_mode(network, val, 4, Tiling(window=24, margin=3))
    assert chosen == mode
    assert scores[mode] > 80 > scores["tile" if mode == "eval" else "eval"]
    assert not any(getattr(module, "per_tile", False) for module in network.modules())


def test_a_network_that_knows_no_tiles_is_not_compared():
    assert preferred_mode(Counting(), [], 4) == ("eval", {})
