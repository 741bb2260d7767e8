"""Protocol: dataset + split + task + normalisation + region + range + metrics, frozen and hashed.

A protocol is a YAML file in ``benchmarks/protocols``. Its hash, the SHA-256 of the canonical JSON of the parsed YAML,
goes into every result. What a protocol states, the code does; one that states anything else is refused.

``reference: none`` (only with the degradation ``as_acquired``) has no HR: metrics without reference, on LR brought
to the target grid. ``reference: paired`` (also only there) has a real HR of the same subject, which a dataset of pairs
gives; it is compared with only where the two lie on one another. ``folds`` divides the subjects of a dataset for
cross-validation (`mrsr_bench.benchmarks.folds`). ``intensities: uint8`` brings HR and LR to 8 bits
(`mrsr_bench.benchmarks.intensities`). ``task.weights`` names the protocol whose weights a network uses, where that is
not a task to train for.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import lru_cache
from importlib.resources import files
from typing import Any

from mrsr_bench import UserError
from mrsr_bench.registry import unknown_name


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no white space: the text that hashes are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of(value: object) -> str:
    """SHA-256 of the canonical JSON of ``value``, hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def subject_seed(seed: int, subject: str) -> int:
    """Seed of one subject: the first 8 bytes of SHA-256("{seed}:{subject}"), big-endian."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{subject}".encode()).digest()[:8], "big")


IMPLEMENTED: dict[str, Any] = {
    "normalisation": {"scale": "lr-p99.9-above-mean"},
    "region": {
        "mask": {
            "threshold": 0.1,
            "closing_radius": 2,
            "connectivity": 26,
            "largest_component": True,
            "fill_holes": True,
        },
        "hull": "lr-sample-centres",
    },
    "range": "hr-p99.9-above-mean",
}
"""What `zoo.inference` and `metrics.region` do. A protocol that states something else must not pass for it."""

WITHOUT_REFERENCE: dict[str, Any] = {
    **IMPLEMENTED,
    "region": {**IMPLEMENTED["region"], "image": "lr-cubic"},
    "range": "lr-cubic-p99.9-above-mean",
}
"""The same where there is no HR: mask and range come from LR, brought to the target grid by cubic splines."""

_ENTRIES = frozenset(
    {*IMPLEMENTED, "name", "version", "summary", "paper", "deviations", "dataset", "split", "task"}
    | {"reference", "intensities", "metrics", "inference", "folds"}
)
_CHOICES: dict[str, tuple[str, ...]] = {"reference": ("hr", "none", "paired"), "intensities": ("float32", "uint8")}
_REAL = "as_acquired"


class Protocol:
    """A parsed protocol; attribute access to what evaluation needs, ``content`` for the whole of it.

    Raises:
        UserError: it states something that is not implemented.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self.name: str = content["name"]
        self.summary: str = content["summary"]
        self.degradation: str = content["task"]["degradation"]
        self.settings: dict[str, Any] = content["task"]["parameters"]
        self.metrics: tuple[str, ...] = tuple(content["metrics"])
        self.inference: dict[str, Any] = content.get("inference", {})
        self.has_reference: bool = content.get("reference", "hr") != "none"
        self.of_real_pairs: bool = content.get("reference", "hr") == "paired"
        self.folds: dict[str, int] | None = content.get("folds")
        self.eight_bits: bool = content.get("intensities", "float32") == "uint8"
        self.of_a_paper: bool = "paper" in content
        self.weights_of: str | None = content["task"].get("weights")
        self._check()

    def _check(self) -> None:
        for entry, implemented in (IMPLEMENTED if self.has_reference else WITHOUT_REFERENCE).items():
            if self.content.get(entry, implemented) != implemented:
                self._refuse(entry, self.content[entry], f"{canonical_json(implemented)} only")
        for entry, choices in _CHOICES.items():
            if self.content.get(entry, choices[0]) not in choices:
                self._refuse(entry, self.content[entry], " and ".join(choices))
        if self.inference.get("dtype", "float32") != "float32":
            self._refuse("inference dtype", self.inference["dtype"], "float32 only")
        unknown = set(self.content) - _ENTRIES
        unknown |= {f"task.{key}" for key in set(self.content["task"]) - {"degradation", "parameters", "weights"}}
        unknown |= {f"inference.{key}" for key in set(self.inference) - {"tiling", "dtype"}}
        if unknown:
            raise UserError(
                f"the protocol {self.name} has the unknown entries {', '.join(sorted(unknown))}; "
                "this version can do nothing with them, so it does not run it"
            )
        if self.simulates_lr == (self.degradation == _REAL):
            raise UserError(
                f"the protocol {self.name} must state reference: none if, and only if, its degradation is {_REAL} "
                "(or paired, where the real HR is there too)"
            )
        folds = self.folds
        if folds is not None and not (
            isinstance(folds, dict)
            and set(folds) == {"count", "seed"}
            and all(type(n) is int for n in folds.values())
            and folds["count"] >= 2
        ):
            self._refuse("folds", folds, "a count of at least 2 and a seed")

    def _refuse(self, entry: str, asked: object, implemented: str) -> None:
        raise UserError(
            f"the protocol {self.name} asks for the {entry} {canonical_json(asked)}; "
            f"this version implements {implemented}"
        )

    @property
    def simulates_lr(self) -> bool:
        """Whether LR is made from HR, and not a real scan."""
        return self.has_reference and not self.of_real_pairs

    @property
    def factor(self) -> tuple[float, float, float]:
        """R x A x S; of a composition, the product over its steps."""
        steps = [step["parameters"] for step in self.settings.get("steps", ())] or [self.settings]
        r, a, s = (math.prod(float(step["factor"][axis]) for step in steps) for axis in range(3))
        return (r, a, s)

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of the parsed YAML."""
        return sha256_of(self.content)


@lru_cache(maxsize=1)
def _load_all() -> dict[str, Protocol]:
    import yaml

    found = {}
    for file in sorted(files("mrsr_bench.benchmarks.protocols").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            protocol = Protocol(yaml.safe_load(file.read_text(encoding="utf-8")))
            found[protocol.name] = protocol
    return found


def protocol_names() -> list[str]:
    """Names of all frozen protocols."""
    return list(_load_all())


def get_protocol(name: str) -> Protocol:
    """The protocol called ``name``.

    Raises:
        UserError: there is none; near names are suggested.
    """
    found = _load_all()
    if name not in found:
        raise unknown_name("protocol", name, found)
    return found[name]
