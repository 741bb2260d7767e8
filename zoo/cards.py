"""Model cards."""
from __future__ import annotations
from pathlib import Path
from typing import Any
from mrsr_bench.zoo.method import MethodSpec
def write_card(spec: MethodSpec, config: dict[str, Any], folder: Path) -> Path:
    """Write the card."""
    path = folder / "README.md"
    path.write_text(f"# {spec.name}\n")
    return path
