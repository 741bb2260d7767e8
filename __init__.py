"""mrsr-bench: the open benchmark suite and model zoo for MRI super-resolution.

Importing this package is free of heavy dependencies; torch, nibabel and scipy are
imported by the functions that use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from mrsr_bench.zoo.inference import LoadedMethod

__version__ = "0.1.0"


def load(name: str, *, revision: str | None = None, device: str = "auto", **settings: Any) -> LoadedMethod:
    """A method ready to ``upscale(lr, target)``: from the Hugging Face Hub (``user/name``), or of the zoo by its name.

    ``settings`` are the network's own, where it has any: ``load("soup_multi", blend="parameters")``.

    Raises:
        UserError: there is no such thing, or it is not fit to be used.
    """
    from mrsr_bench.zoo import hub

    return hub.load(name, revision=revision, device=device, **settings)


class UserError(Exception):
    """Something the user can put right; the command prints it as one sentence and exits with code 2."""
