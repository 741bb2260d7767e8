"""The contract suite: what every registered network must do. A network joins with one line of `CONTRACTS`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from mrsr_bench.zoo.inference import build_network, set_batch_norm
from mrsr_bench.zoo.method import Tiling
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.tiling import run_stack, run_tiled, tiles


@dataclass(frozen=True)
class Contract:
    """What the suite must know of a network beyond its `MethodSpec`.

    ``small``: constructor arguments of a little one of its kind, and ``margin``: the radius of that one's receptive
    field. ``start``: arguments with which it starts at the interpolation, and ``left``: what that one may leave of the
    input's error when it has learnt a patch. ``published``: the count of parameters that
    the paper, its code or the arithmetic of its layers gives, without the parameters named in ``beyond``.
    """

    name: str
    small: dict[str, Any]
    margin: int
    start: dict[str, Any] = field(default_factory=dict)
    left: float = 0.6
    published: int | None = None
    beyond: tuple[str, ...] = ()


MDCSRN = {"small": {"blocks": 2, "units": 3, "growth": 6}, "margin": 7, "start": {"global_skip": True}}
MDCSRN |= {"beyond": ("stem.bias", "head.bias", "head.2.bias")}
MDCSRN_R = {**MDCSRN, "margin": 8}
SRGAN = {"small": {"width": 8, "blocks": 2}, "margin": 16, "start": {"global_skip": "edges"}}
SOUP = {"small": {"features": 8, "depth": 2}, "margin": 8}

CONTRACTS = {
    contract.name: contract
    for contract in (
        Contract("mdcsrn_b4u4", published=228_480, **MDCSRN),
        Contract("mdcsrn_b6u4", published=353_040, **MDCSRN),
        Contract("mdcsrn_b8u4", published=484_512, **MDCSRN),
        Contract("mdcsrn_b4u4_r", published=260_904, **MDCSRN_R),
        Contract("densenet_b1u12_r", published=246_504, **MDCSRN_R),
        Contract("densenet_b1u16_r", published=350_904, **MDCSRN_R),
        Contract("mdcsrn_gan_b4u4", published=228_480, **MDCSRN),
        Contract("mdcsrn_gan_b8u4", published=484_512, **MDCSRN),
        Contract("fsrcnn3d", {"features": 8, "shrunk": 4, "mappings": 1}, 7, {"global_skip": True}, 0.15),
        Contract("srdensenet3d", {"blocks": 2, "units": 3, "growth": 6}, 8, {"global_skip": True}),
        Contract("srresnet3d", {"filters": 8, "blocks": 1}, 12, {"global_skip": True}),
        Contract("gan_cpce", {"filters": 8}, 8, {"shortcut": True}, 0.2, published=62_016),
        Contract("gan_circle", {"widths": (12, 8, 6)}, 6, {"zero_start": True, "dropout": 0.0}, 0.25),
        Contract("soup_single_2", **SOUP),
        Contract("soup_single_3", **SOUP),
        Contract("soup_single_4", **SOUP),
        Contract("soup_single_5", **SOUP),
        Contract("soup_single_6", **SOUP),
        Contract("soup_multi", published=622_986, **SOUP),
        Contract("soup_gan", published=622_986, **SOUP),
        Contract("soup_gan_official", {}, 18, published=622_986),
        Contract("soup_rrdb", {"features": 8, "growth": 4, "blocks": 1, "factor": 2}, 20),
        Contract("srresnet2d_4x", published=1_526_612, **SRGAN),
        Contract("srresnet2d_8x", published=1_674_325, **SRGAN),
        Contract("srresnet2d_aniso_4x", published=1_378_900, **SRGAN),
        Contract("srresnet2d_aniso_8x", published=1_452_757, **SRGAN),
        Contract("srgan_4x", published=1_526_612, **SRGAN),
        Contract("srgan_8x", published=1_674_325, **SRGAN),
        Contract("srgan_aniso_4x", published=1_378_900, **SRGAN),
        Contract("srgan_aniso_8x", published=1_452_757, **SRGAN),
        Contract("srgan_through_plane", published=1_378_900, **SRGAN),
    )
}


def registered():
    """The zoo's networks; those that other packages bring along keep the contract in their own tests."""
    return [
        spec.name
        for spec in methods.all()
        if spec.kind == "network" and not spec.alias_for and spec.build.startswith("mrsr_bench.")
    ]


NETWORKS = [name for name in registered() if name in CONTRACTS]


def small_spec(name):
    """The little one of a network's kind."""
    spec, contract = methods.get(name), CONTRACTS[name]
    scale = spec.scale
    if scale is not None and "factor" in contract.small:
        scale = (*scale[:-1], contract.small["factor"])
    return replace(spec, arguments={**spec.arguments, **contract.small}, scale=scale)


def one_of_a_kind(names):
    """Networks without those whose little one is the same as an earlier one's."""
    kinds = {
        (spec.build, repr(sorted(spec.arguments.items()))): name for name in names[::-1] for spec in [small_spec(name)]
    }
    return sorted(kinds.values())


SMALL = one_of_a_kind(NETWORKS)
TRAINED = [name for name in NETWORKS if methods.get(name).recipes]


def structured(shape, seed=0):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.standard_normal(shape), axis=-1).astype(np.float32) * 0.1


def batch(spec, size, n=2, seed=0):
    return torch.from_numpy(structured((n, 1, *size), seed))


def size_of(spec):
    return (7, 5, 6) if spec.dims == 3 else (11, 9)


def asked(spec):
    """The factors at which all of a network is at work; one empty call for a network that is not told the factor."""
    return [(float(s),) for s in range(2, 7)] if spec.conditioned else [()]


def scaled(spec, size):
    return tuple(n * f for n, f in zip(size, spec.scale or (1,) * len(size), strict=True))


def forward_of(spec, network):
    return lambda x: network(x, *asked(spec)[1 if spec.conditioned else 0])


def shown(network, image):
    """The network after it has seen a whole image, where it takes its scale from that."""
    if hasattr(network, "observe"):
        network.observe(torch.from_numpy(image))
    return network


def trained_like(spec, seed=0):
    """A network whose running statistics and weights are not those of the start."""
    network = build_network(spec, seed=seed).train()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for factor in asked(spec):
            network(batch(spec, (12,) * spec.dims), *factor)
    return network.eval()


def test_every_registered_network_has_its_line():
    missing = sorted(set(registered()) - set(CONTRACTS))
    assert not missing, (
        f"{missing[0]} is registered but not in the contract suite: add a line Contract({missing[0]!r}, arguments of a "
        f"little one, radius of its receptive field) to CONTRACTS in tests/zoo/test_contract.py"
    )


def test_every_line_is_of_a_registered_network():
    left = sorted(set(CONTRACTS) - set(registered()))
    assert not left, f"{left[0]} has a line in CONTRACTS but is not registered: take the line out or register it"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_the_parameters_it_declares_and_those_published(name):
    spec, contract = methods.get(name), CONTRACTS[name]
    counts = {label: p.numel() for label, p in build_network(spec).named_parameters()}
    assert sum(counts.values()) == spec.parameters
    if contract.published is not None:
        assert sum(n for label, n in counts.items() if label not in contract.beyond) == contract.published


@pytest.mark.parametrize("name", NETWORKS)
def test_the_shape_is_as_declared_and_every_parameter_gets_a_gradient(name):
    spec = methods.get(name)
    network = build_network(spec).train()
    size = size_of(spec)
    total = torch.zeros(())
    for factor in asked(spec):
        y = network(batch(spec, size), *factor)
        assert y.shape == (2, 1, *scaled(spec, size))
        total = total + y.square().mean()
    total.backward()
    for label, parameter in network.named_parameters():
        assert parameter.grad is not None, label
        assert torch.isfinite(parameter.grad).all(), label
        assert parameter.grad.abs().sum() > 0, label


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_drawn_from_its_seed(name):
    spec = methods.get(name)
    first, again, other = (build_network(spec, seed=s).state_dict() for s in (3, 3, 4))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


@pytest.mark.parametrize("name", SMALL)
def test_a_network_comes_back_from_safetensors_as_it_was(name, tmp_path):
    from safetensors.torch import load_file, save_file

    spec = small_spec(name)
    network = trained_like(spec)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, str(tmp_path / "w.safetensors"))
    other = build_network(spec, seed=9).eval()
    x = batch(spec, size_of(spec), n=1)
    forward, again = forward_of(spec, network), forward_of(spec, other)
    with torch.no_grad():
        wanted = forward(x)
        assert not torch.equal(again(x), wanted)
        other.load_state_dict(load_file(str(tmp_path / "w.safetensors")))
        assert torch.equal(again(x), wanted)
        assert torch.equal(forward(x), wanted)


@pytest.mark.parametrize("name", SMALL)
def test_inference_gives_what_the_differentiable_network_gives(name):
    spec = small_spec(name)
    forward = forward_of(spec, trained_like(spec))
    x = batch(spec, size_of(spec))
    with torch.inference_mode():
        inferred = forward(x)
    plain = forward(x.clone().requires_grad_()).detach()
    torch.testing.assert_close(inferred, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))


def reach(spec, network, axis, length):
    """The farthest input sample along an axis that the output at the middle depends on, in samples of the input."""
    size = [3] * spec.dims
    size[axis] = length
    x = batch(spec, size, n=1).requires_grad_()
    y = forward_of(spec, network)(x)
    by = spec.scale or (1,) * spec.dims
    middle = tuple(n // 2 * f for n, f in zip(size, by, strict=True))
    farthest = 0
    for inside in range(by[axis]):
        at = [*middle]
        at[axis] += inside
        (gradient,) = torch.autograd.grad(y[(0, 0, *at)], x, retain_graph=True)
        others = tuple(i for i in range(spec.dims) if i != axis)
        reached = torch.nonzero(gradient[0, 0].abs().sum(dim=others)).flatten()
        farthest = max(farthest, int((reached - length // 2).abs().max()))
    return farthest


@pytest.mark.parametrize("name", NETWORKS)
def test_the_margin_of_the_tiles_covers_the_receptive_field(name):
    spec = methods.get(name)
    network = build_network(spec).eval()
    for axis in (0, spec.dims - 1):
        assert reach(spec, network, axis, 2 * spec.tiling.margin + 7) <= spec.tiling.margin


@pytest.mark.parametrize("name", SMALL)
def test_tiles_with_the_receptive_fields_margin_equal_the_whole(name):
    spec, margin = small_spec(name), CONTRACTS[name].margin
    image = structured((2 * margin + 12, *(2 * margin + 5,) * (spec.dims - 1)))
    forward = forward_of(spec, shown(trained_like(spec), image))
    tiling = Tiling(window=2 * margin + 4, margin=margin)
    assert len(tiles(image.shape, tiling)) > 1
    whole = run_tiled(forward, image, Tiling(window=64, margin=margin), scale=spec.scale)
    tiled = run_tiled(forward, image, tiling, scale=spec.scale)
    assert whole.shape == scaled(spec, image.shape)
    assert np.abs(tiled - whole).max() <= 1e-4 * np.abs(whole).max()


@pytest.mark.parametrize("mode", ["eval", "tile"])
@pytest.mark.parametrize("name", SMALL)
def test_the_number_of_tiles_in_a_batch_changes_nothing(name, mode):
    spec = small_spec(name)
    stack = structured((3, *size_of(spec)))
    network = shown(trained_like(spec), stack)
    set_batch_norm(network, mode)
    tiling = Tiling(window=16, margin=2, batch_norm=mode)
    one, many = (run_stack(forward_of(spec, network), stack, tiling, batch=n, scale=spec.scale) for n in (1, 3))
    np.testing.assert_allclose(many, one, rtol=1e-5, atol=1e-5 * np.abs(one).max())


def patch_pair(spec):
    """LR and HR of one patch: noise on top for a network that keeps the grid, block means for one that upscales."""
    size = (8,) * spec.dims if spec.scale is None else size_of(spec)
    hr = batch(spec, scaled(spec, size), n=1, seed=5)
    if spec.scale is None:
        lr = hr + 0.1 * batch(spec, size, n=1, seed=6)
        return lr, hr, lr
    pool = torch.nn.functional.avg_pool3d if spec.dims == 3 else torch.nn.functional.avg_pool2d
    lr = pool(hr, spec.scale)
    repeated = lr
    for axis, factor in enumerate(spec.scale, start=2):
        repeated = repeated.repeat_interleave(factor, axis)
    return lr, hr, repeated


AS_PUBLISHED = {"fsrcnn3d": 4e-3, "gan_circle": 4e-3, "gan_cpce": 1e-2}
"""Cheap networks and the rate at which they learn a patch as the papers build them, without a declared start."""


def spread_left(spec, steps, rate):
    """How much of HR's mean absolute deviation from its mean the paper's own construction leaves, the rate falling.

    Intensities are positive, as magnitudes are: a network that ends in a ReLU can give nothing else.
    """
    network = build_network(spec).train()
    forward = forward_of(spec, network)
    lr, hr, _ = patch_pair(spec)
    darkest = torch.minimum(lr.min(), hr.min())
    lr, hr = lr - darkest, hr - darkest
    optimiser = torch.optim.Adam(network.parameters(), rate)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        loss = (forward(lr) - hr).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float((forward(lr) - hr).abs().mean().detach() / (hr - hr.mean()).abs().mean())


def share_left(spec, start, steps, lr_rate):
    """How much of the input's mean absolute error a network leaves after learning one patch."""
    network = build_network(spec, start).train()
    forward = forward_of(spec, network)
    lr, hr, repeated = patch_pair(spec)
    optimiser = torch.optim.Adam(network.parameters(), lr_rate)
    for _ in range(steps):
        loss = (forward(lr) - hr).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float((forward(lr) - hr).abs().mean().detach() / (repeated - hr).abs().mean())


@pytest.mark.parametrize("name", one_of_a_kind(TRAINED))
def test_a_patch_can_be_learnt_by_heart(name):
    assert share_left(small_spec(name), CONTRACTS[name].start, 100, 4e-3) < CONTRACTS[name].left


@pytest.mark.parametrize("name", AS_PUBLISHED)
def test_the_papers_own_construction_learns_a_patch_by_heart(name):
    assert spread_left(small_spec(name), 100, AS_PUBLISHED[name]) < 0.25


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_the_full_network_learns_a_patch_by_heart(name):
    assert share_left(methods.get(name), CONTRACTS[name].start, 100, 1e-3) < 0.6
