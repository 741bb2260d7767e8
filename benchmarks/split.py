"""`mrsr-bench data split`: which subject of a dataset is in which split, with the hashes by which two sites compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType


def split(name: str, root: Path | None = None) -> dict[str, Any]:
    """Split to subjects of a dataset, how it came about (``rule``) and its SHA-256.

    ``list`` names the file in ``datasets/splits`` that says so; of a rule without a list ``rule_sha256`` is the hash of
    its content.

    Raises:
        UserError: there is no such dataset, it has no splits of its own, or its rule needs subjects that are not there.
    """
    from mrsr_bench.benchmarks.datasets import open_dataset
    from mrsr_bench.benchmarks.datasets.phantom import PhantomDataset
    from mrsr_bench.benchmarks.datasets.published import PublishedDataset
    from mrsr_bench.benchmarks.datasets.split_lists import committed, splits_sha256
    from mrsr_bench.benchmarks.protocol import sha256_of

    dataset = open_dataset(name)
    if isinstance(dataset, PublishedDataset):
        dataset = dataset.at(root)
        content = committed(dataset.split_list)
        splits = dataset.splits()
        if not any(splits.values()):
            raise UserError(
                f"{dataset.name}: the split follows from the subjects, and none is known in {dataset.place()}; "
                f"run: mrsr-bench data fetch {dataset.name}"
            )
        facts = {"list": dataset.split_list, **dataset.split_facts()}
        if "splits" not in content:
            facts["rule_sha256"] = sha256_of(content)
    elif root is not None:
        raise UserError(f"--root is where published datasets lie; {name} is none, so leave it out")
    elif isinstance(dataset, PhantomDataset):
        splits = dataset.splits()
        sizes = {part: len(subjects) for part, subjects in splits.items()}
        facts = {"rule": dataset.SPLIT_RULE, "sizes": sizes, "sha256": splits_sha256(splits), "final": True}
    else:
        raise UserError(
            f"{dataset.name}: split is for published datasets and phantoms; your own images are split by subfolders "
            "train, val and test, or by a column split in participants.tsv"
        )
    return {"dataset": dataset.name, **facts, "splits": splits}


def table(found: Mapping[str, Any]) -> RenderableType:
    """The splits for people, every subject by name."""
    from rich.markup import escape
    from rich.table import Table

    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for key in ("dataset", "list", "rule", "families", "note", "sha256", "rule_sha256"):
        if key in found:
            facts.add_row(key.replace("_", " "), escape(found[key]))
    for name, subjects in found["splits"].items():
        facts.add_row(f"{name} ({len(subjects)})", escape(", ".join(subjects)))
    return facts
