"""Optimisers: Adam, as the papers have it, and Muon, for recipes that must make do with few updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from mrsr_bench.zoo.recipe import Optimiser

MUON_MOMENTUM = 0.95


def optimiser_for(module: nn.Module, settings: Optimiser) -> torch.optim.Optimizer:
    """The optimiser that a recipe asks for, over all parameters of ``module``."""
    if settings.method == "muon":
        return MuonAdam(module, lr=settings.lr, betas=settings.betas)
    return torch.optim.Adam(module.parameters(), lr=settings.lr, betas=settings.betas)


def is_matrix(parameter: Tensor) -> bool:
    """Whether a parameter is a map from several channels to several: the first and the last layer's are not."""
    return parameter.dim() > 1 and min(parameter.shape[:2]) > 1


class MuonAdam(torch.optim.Adam):
    """Muon (Jordan et al. 2024) for layers from several channels to several, Adam for all other parameters.

    A convolution's kernel counts as the matrix (outputs, inputs x taps). Muon's steps are scaled to the size of Adam's
    (Liu et al. 2025, arXiv 2502.16982), so that one learning rate serves both. `torch.optim.Muon` does the work, on
    flat copies, since it takes matrices alone.
    """

    def __init__(self, module: nn.Module, lr: float, betas: tuple[float, float]) -> None:
        parameters = list(module.parameters())
        self.kernels = [p for p in parameters if is_matrix(p)]
        self.flat = [nn.Parameter(p.detach().flatten(1).clone()) for p in self.kernels]
        super().__init__([p for p in parameters if not is_matrix(p)], lr=lr, betas=betas)
        self.muon = torch.optim.Muon(
            self.flat, lr=lr, weight_decay=0.0, momentum=MUON_MOMENTUM, adjust_lr_fn="match_rms_adamw"
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; parameters without a gradient stay."""
        loss: float | None = super().step(closure)
        for group in self.muon.param_groups:
            group["lr"] = self.param_groups[0]["lr"]
        for kernel, flat in zip(self.kernels, self.flat, strict=True):
            flat.grad = None if kernel.grad is None else kernel.grad.flatten(1).contiguous()
            flat.copy_(kernel.flatten(1))
        self.muon.step()  # type: ignore[no-untyped-call]
        for kernel, flat in zip(self.kernels, self.flat, strict=True):
            if kernel.grad is not None:
                kernel.copy_(flat.view_as(kernel))
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        super().zero_grad(set_to_none)
        for kernel in self.kernels:
            kernel.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        return {"adam": super().state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of both."""
        super().load_state_dict(state_dict["adam"])
        self.muon.load_state_dict(state_dict["muon"])
