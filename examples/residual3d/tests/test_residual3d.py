"""What mrsr-bench asks of residual3d."""

import torch

from mrsr_bench.zoo.inference import build_network
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.training import resolve_recipe

SPEC = methods.get("residual3d")


def test_it_has_the_parameters_that_it_declares():
    assert sum(p.numel() for p in build_network(SPEC).parameters()) == SPEC.parameters


def test_the_shape_stays_and_every_parameter_gets_a_gradient():
    network = build_network(SPEC)
    image = torch.rand(2, 1, 7, 5, 6, generator=torch.Generator().manual_seed(0))
    output = network(image)
    assert output.shape == image.shape
    output.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_margin_of_the_tiles_covers_the_receptive_field():
    network, margin = build_network(SPEC).eval(), SPEC.tiling.margin
    image = torch.rand(1, 1, 2 * margin + 7, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    middle = image.shape[2] // 2
    (gradient,) = torch.autograd.grad(network(image)[0, 0, middle, 1, 1], image)
    reached = torch.nonzero(gradient[0, 0].abs().sum(dim=(1, 2))).flatten()
    assert int((reached - middle).abs().max()) <= margin


def test_its_recipes_can_be_read():
    for name in SPEC.recipes:
        assert resolve_recipe(SPEC, name).stages
