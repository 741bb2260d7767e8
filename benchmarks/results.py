"""Stored runs: what was computed is kept piece by piece, found again by its key, and never half-written.

A *piece* is one method on one subject: its scores and how they were made. It lives under ``.cache`` of the output
folder in a file named after its key, the SHA-256 of everything that could change it, and holds its own checksum; a
piece that is truncated or altered is computed again. A *run* is a folder made of pieces: ``run.json``,
``scores.parquet``, ``figures`` and, where metrics were read from curves, ``curves.json``, built beside its place and
renamed into it when whole.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import canonical_json, sha256_of

FORMAT = 1
"""Version of what is stored; a change makes every older piece a miss."""

CACHE_FOLDER = ".cache"
_SWAPS = 10
"""Attempts at taking the place of a run that other processes write too."""
RUN_FILE, SCORES_FILE, CURVES_FILE, FIGURES_FOLDER = "run.json", "scores.parquet", "curves.json", "figures"


@dataclass(frozen=True)
class Row:
    """One score: of a slice (``slice`` counts along the plane's normal) or, with ``slice`` None, of a volume.

    ``value`` is None where the metric could not be computed; then ``reason`` says why. ``mark`` is a caveat.
    """

    subject: str
    image: str
    slice: int | None
    metric: str
    convention: str
    value: float | None
    reason: str | None = None
    mark: str | None = None


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: numpy unwrapped, tuples as lists, non-finite numbers as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


def ingredients(
    *,
    method: Mapping[str, Any],
    weights_sha256: str | None,
    protocol_hash: str,
    degradation: Mapping[str, Any],
    metrics: Mapping[str, Any],
    seed: int,
    dtype: str,
    tiling: Mapping[str, Any] | None,
    batch_norm: str | None,
    device: str,
) -> dict[str, Any]:
    """All that decides a score besides the image; ``method``, ``degradation``, ``metrics``: names and versions."""
    return dict(plain({"format": FORMAT, **locals()}))


def piece_key(base: Mapping[str, Any], subject: str, images: Sequence[tuple[str, str]]) -> str:
    """Key of one subject under the ingredients ``base``; ``images`` are (name, fingerprint)."""
    return sha256_of({"base": base, "subject": subject, "images": [list(image) for image in images]})


class PieceStore:
    """Finished pieces under ``<out>/.cache``, by key."""

    def __init__(self, out: Path) -> None:
        self.root = out / CACHE_FOLDER

    def path(self, key: str) -> Path:
        """Where the piece of ``key`` lies, or would."""
        return self.root / key[:2] / f"{key}.json"

    def get(self, key: str) -> dict[str, Any] | None:
        """The piece, or None if it is not there or not what was written."""
        try:
            stored = json.loads(self.path(key).read_text(encoding="utf-8"))
            content = stored["content"]
            whole = stored["key"] == key and stored["sha256"] == sha256_of(content)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return dict(content) if whole else None

    def put(self, key: str, content: Mapping[str, Any]) -> None:
        """Store a finished piece, whole or not at all."""
        kept = plain(content)
        text = canonical_json({"key": key, "sha256": sha256_of(kept), "content": kept})
        write_text(self.path(key), text)


def write_text(path: Path, text: str) -> None:
    """Write a file of text as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; its folders are made.

    Raises:
        UserError: the place cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another folder with --out") from error
    finally:
        with suppress(OSError):  # where a folder of the path is a file, there is nothing to remove
            partial.unlink()


def check_writable(out: Path, option: str = "--out") -> None:
    """Refuse an output folder, which ``option`` named, before any work is done for it.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror}); choose another folder with {option}") from error
    if not os.access(out, os.W_OK):
        raise UserError(f"{out}: may not be written; choose another folder with {option}")


def file_name(text: str) -> str:
    """``text`` as a part of a file name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text).lstrip(".") or "_"


def write_scores(path: Path, rows: Iterable[Row]) -> None:
    """Write scores as Parquet, one row per score."""
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, list[Any]] = {f.name: [] for f in fields(Row)}
    for row in rows:
        for name, value in asdict(row).items():
            columns[name].append(value)
    types = {"slice": pa.int32(), "value": pa.float64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
    parquet.write_table(pa.table(columns, schema=schema), path)


def read_scores(path: Path) -> list[Row]:
    """The scores of a stored run.

    Raises:
        UserError: the file is missing or unreadable.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return [Row(**row) for row in parquet.read_table(path).to_pylist()]
    except (OSError, pa.ArrowException, TypeError) as error:
        raise UserError(f"{path}: not a readable table of scores; run it again with --fresh") from error


def write_run(
    out: Path,
    name: str,
    run: Mapping[str, Any],
    rows: Iterable[Row],
    figures: Mapping[str, Path],
    curves: Mapping[str, Any] | None = None,
) -> Path:
    """Write the run folder ``out/name``: whole or not at all, replacing an older one. Returns the folder.

    ``curves`` are by subject, image and metric: lists of numbers by name.

    Raises:
        UserError: the place cannot be written.
    """
    final = out / name
    partial, old = (out / f".{name}.{os.getpid()}.{kind}" for kind in ("partial", "old"))
    try:
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        (partial / FIGURES_FOLDER).mkdir(parents=True)
        for figure, source in figures.items():
            _link_or_copy(source, partial / FIGURES_FOLDER / figure)
        write_scores(partial / SCORES_FILE, rows)
        if curves:
            (partial / CURVES_FILE).write_text(canonical_json(plain(curves)) + "\n", encoding="utf-8")
        text = json.dumps(plain(run), indent=2, ensure_ascii=False, allow_nan=False)
        (partial / RUN_FILE).write_text(text + "\n", encoding="utf-8")
        _swap(partial, final, old)
    except OSError as error:
        raise UserError(f"{final}: cannot be written ({error.strerror}); choose another folder with --out") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return final


def _swap(new: Path, final: Path, old: Path) -> None:
    """Put the folder ``new`` in the place of ``final``, which another process may do at the same moment."""
    for attempt in range(_SWAPS):
        with contextlib.suppress(FileNotFoundError):
            final.rename(old)
        try:
            new.rename(final)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == _SWAPS - 1:
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            return


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def read_run(path: str | Path) -> dict[str, Any]:
    """``run.json`` of a run folder; a bare name is looked for in ``./runs``.

    Raises:
        UserError: there is no such run, or it is unreadable.
    """
    folder = Path(path)
    if not folder.exists() and (Path("runs") / folder).exists():
        folder = Path("runs") / folder
    file = folder / RUN_FILE if folder.is_dir() else folder
    if not file.is_file():
        raise UserError(f"{path}: no such run; expected a folder with {RUN_FILE}, as `mrsr-bench run` writes it")
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not a readable run; run it again with --fresh") from error
    kinds = {"protocol": str, "protocol_hash": str, "dataset": str, "seed": int, "scores": dict, "subjects": list}
    if not isinstance(run, dict) or not all(isinstance(run.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"{file}: not a run of this version; run it again with --fresh")
    return run
