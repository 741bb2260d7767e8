"""Muon for kernels, Adam for the rest; both resume, and idle parameters stay."""

import copy

import pytest
import torch
from torch import nn

from mrsr_bench.zoo.optimisers import MuonAdam, is_matrix, optimiser_for
from mrsr_bench.zoo.recipe import Optimiser


def drawn(seed=0):
    torch.manual_seed(seed)
    first, last = nn.Conv3d(1, 6, 3, padding=1), nn.Conv3d(8, 1, 3, padding=1)
    return nn.Sequential(first, nn.Conv3d(6, 8, 3, padding=1), last).to(memory_format=torch.channels_last_3d)


def moved(network, optimiser, steps=1, seed=1):
    torch.manual_seed(seed)
    for _ in range(steps):
        x, wanted = torch.rand(2, 2, 1, 5, 5, 5)
        optimiser.zero_grad()
        (network(x) - wanted).pow(2).mean().backward()
        optimiser.step()
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def test_a_recipe_chooses():
    network = drawn()
    assert type(optimiser_for(network, Optimiser(lr=1e-3))) is torch.optim.Adam
    assert isinstance(optimiser_for(network, Optimiser(lr=1e-3, method="muon")), MuonAdam)


def test_a_kernel_moves_by_an_orthogonal_matrix_and_the_rest_as_adam_would():
    network, twin = drawn(), drawn()
    before = moved(drawn(), torch.optim.Adam(drawn().parameters()), steps=0)
    after = moved(network, MuonAdam(network, lr=1e-2, betas=(0.9, 0.99)))
    adam = moved(twin, torch.optim.Adam(twin.parameters(), lr=1e-2, betas=(0.9, 0.99)))
    for name, value in after.items():
        step = (before[name] - value) / 1e-2
        if is_matrix(value):
            # 0.2 sqrt(162) times an orthogonal matrix, as near as five Newton-Schulz iterations in bfloat16 come.
            singular = torch.linalg.svdvals(step.flatten(1)) / (0.2 * 162**0.5)
            assert singular.min() > 0.5
            assert singular.max() < 1.5
        else:
            assert torch.equal(value, adam[name])
    assert [name for name, value in after.items() if is_matrix(value)] == ["1.weight"]


def test_it_resumes_with_the_same_bits():
    whole = drawn()
    wanted = moved(whole, MuonAdam(whole, lr=1e-2, betas=(0.9, 0.99)), steps=4)
    network = drawn()
    optimiser = MuonAdam(network, lr=1e-2, betas=(0.9, 0.99))
    torch.manual_seed(1)
    data = [torch.rand(2, 2, 1, 5, 5, 5) for _ in range(4)]
    for step, (x, target) in enumerate(data):
        if step == 2:
            state = copy.deepcopy((network.state_dict(), optimiser.state_dict()))
            network = drawn(seed=5)
            optimiser = MuonAdam(network, lr=1e-2, betas=(0.9, 0.99))
            network.load_state_dict(state[0])
            optimiser.load_state_dict(state[1])
        optimiser.zero_grad()
        (network(x) - target).pow(2).mean().backward()
        optimiser.step()
    assert all(torch.equal(value, wanted[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("method", ["adam", "muon"])
def test_a_module_that_is_not_asked_stays(method):
    network = nn.ModuleList([nn.Linear(3, 4), nn.Linear(3, 4)])
    optimiser = optimiser_for(network, Optimiser(lr=1e-2, method=method))
    for asked in (0, 1):
        before = copy.deepcopy(network[1 - asked].state_dict())
        optimiser.zero_grad()
        network[asked](torch.rand(2, 3)).sum().backward()
        optimiser.step()
        assert all(torch.equal(value, before[name]) for name, value in network[1 - asked].state_dict().items())


def test_the_learning_rate_that_is_set_is_that_of_both():
    network = drawn()
    optimiser = MuonAdam(network, lr=1e-2, betas=(0.9, 0.99))
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert all(torch.equal(value, before[name]) for name, value in moved(network, optimiser).items())
