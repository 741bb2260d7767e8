"""Tables of subjects that come with a dataset, or that its user makes: one reader, one kind of error."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from mrsr_bench import UserError


def read_rows(path: Path, columns: Sequence[str], advice: str) -> list[dict[str, str]]:
    """The rows of a UTF-8 table with a header: ``columns`` of each, stripped of blanks, a missing cell as ``""``.

    Errors name the file alone and not its folder, which may tell who somebody is.

    Raises:
        UserError: the file cannot be read, is no text, or lacks a column; ``advice`` follows the reason.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            absent = [column for column in columns if column not in (reader.fieldnames or ())]
            if absent:
                raise UserError(f"{path.name}: has no column {' and no '.join(absent)}; {advice}")
            return [{column: (row[column] or "").strip() for column in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path.name}: not a readable table ({type(error).__name__}); {advice}") from error
