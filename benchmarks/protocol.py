"""Protocol: dataset + split + task + normalisation + region + range + metrics, frozen and hashed.

A protocol is a YAML file in ``benchmarks/protocols``. Its hash, the SHA-256 of the canonical JSON of the parsed YAML,
goes into every result.
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


class Protocol:
    """A parsed protocol; attribute access to what evaluation needs, ``content`` for the whole of it."""

    def __init__(self, content: dict[str, Any]) -> None:
        for entry, implemented in IMPLEMENTED.items():
            if content.get(entry, implemented) != implemented:
                raise UserError(
                    f"the protocol {content.get('name')} asks for the {entry} {canonical_json(content[entry])}; "
                    f"this version implements {canonical_json(implemented)} only"
                )
        self.content = content
        self.name: str = content["name"]
        self.summary: str = content["summary"]
        self.degradation: str = content["task"]["degradation"]
        self.settings: dict[str, Any] = content["task"]["parameters"]
        self.metrics: tuple[str, ...] = tuple(content["metrics"])
        self.inference: dict[str, Any] = content.get("inference", {})

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
