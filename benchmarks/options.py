"""Options that several verbs of the command share, and its exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXIT_OURS, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of everything that is random.")]
Suffix = Annotated[str | None, typer.Option(help="Which image of a subject, by BIDS suffix: T1w, T2w, ...")]
Fold = Annotated[
    int | None, typer.Option(help="Cross-validation: the fold (from 0) to test on, of a protocol with folds.")
]
Weights = Annotated[
    Path | None, typer.Option(help="Weights of the network: a safetensors file, a folder, or hf:user/name@revision.")
]
