"""Metrics beside a protocol's: which are computed, and how they join scores that are stored.

They take no part in a stored piece's key, so that a run is found again whether or not it has them. Each is stored with
its own ingredients (version, parameters); what another version computed is dropped when it is read. Those that nobody
asked for are computed along with SR and never cause it to be made again; those that were asked for do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import Protocol

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.metric import MetricSpec

USUAL = (
    "in_band_error",
    "out_of_band_error",
    "resolution",
    "resolution_r",
    "resolution_a",
    "resolution_s",
    "hfen",
    "gmsd",
    "tissue_dice",
)
"""Computed unless others are asked for. All of them take about 5.5 s for a volume of 256 x 256 x 170 voxels on one core
(hfen 2.4, resolution 1.4, the errors in bands 0.9, gmsd 0.8), where psnr, ssim and nrmse take 3.2."""
ALL, NONE = "all", "none"
STORED = "supplement"
"""Where a piece holds the ingredients of these metrics, by metric."""


@dataclass(frozen=True)
class Supplement:
    """The metrics beside the protocol's; where they were ``asked`` for, a stored piece without them is completed."""

    specs: Mapping[str, MetricSpec] = field(default_factory=dict)
    ingredients: Mapping[str, Any] = field(default_factory=dict)
    asked: bool = False

    def keys_for(self, *, labels: bool, only: Iterable[str] | None = None) -> list[str]:
        """The metrics of one image: those of tissue need ``labels``, unless they were asked for."""
        wanted = self.specs if only is None else only
        return [key for key in wanted if self.asked or labels or not key.startswith("tissue_")]

    def current(self, piece: Mapping[str, Any]) -> dict[str, Any]:
        """A stored piece without the values that another version of these metrics computed."""
        from mrsr_bench.benchmarks.metrics import metrics

        def same(key: str, made: Mapping[str, Any]) -> bool:
            if key in self.ingredients:
                return bool(self.ingredients[key] == made)
            return key in metrics.names() and metrics.get(key).version == made["version"]

        kept = {key: made for key, made in piece.get(STORED, {}).items() if same(key, made)}
        stale = set(piece.get(STORED, {})) - set(kept)
        if not stale:
            return dict(piece)
        rows = [row for row in piece["rows"] if row["metric"] not in stale]
        curves = {
            image: {key: curve for key, curve in of.items() if key not in stale}
            for image, of in piece.get("curves", {}).items()
        }
        return {**piece, "rows": rows, "curves": curves, STORED: kept}

    def lacking(self, piece: Mapping[str, Any]) -> list[str]:
        """The metrics that were asked for and that a stored piece does not hold."""
        return [key for key in self.specs if self.asked and key not in piece.get(STORED, {})]


def supplement_of(asked: Sequence[str] | None, protocol: Protocol, present: Iterable[str]) -> Supplement:
    """What is computed beside the metrics ``present``; ``asked``: names, ``all``, ``none``, or None for the usual ones.

    Raises:
        UserError: a name is unknown, or compares with HR where the protocol has none.
    """
    from mrsr_bench.benchmarks.availability import metric_ingredients
    from mrsr_bench.benchmarks.metrics import metrics

    names = USUAL if asked is None else tuple(dict.fromkeys(n.strip() for typed in asked for n in typed.split(",")))
    if set(names) & {ALL, NONE} and len(names) > 1:
        raise UserError(f"--metrics: {ALL} and {NONE} stand alone; got {', '.join(names)}")
    if names == (ALL,):
        chosen = [spec for spec in metrics.all() if protocol.has_reference or not spec.reference]
    else:
        chosen = [] if names == (NONE,) else [metrics.get(name) for name in names if name or asked is None]
    if not protocol.has_reference:
        compared = [spec.name for spec in chosen if spec.reference]
        if compared and asked is not None:
            raise UserError(
                f"the protocol {protocol.name} has no reference, so {', '.join(compared)} cannot be computed under it"
            )
        chosen = [spec for spec in chosen if not spec.reference]
    taken = set(present)
    specs = {spec.name: spec for spec in chosen if spec.name not in taken}
    return Supplement(specs, metric_ingredients(list(specs.values())), asked is not None)
