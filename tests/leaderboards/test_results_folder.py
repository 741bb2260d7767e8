"""The accepted results in the repository: each file is a sound submission under its own name, and none stands twice.

``MRSR_BENCH_RESULTS`` names another folder, as the check of a pull request does: what is installed is not what is new.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from mrsr_bench.benchmarks.protocol import get_protocol, protocol_names
from mrsr_bench.leaderboards.board import make_board, read_results, results_folder
from mrsr_bench.leaderboards.schema import file_name_of, read_submissions
from mrsr_bench.leaderboards.verify import check

FOLDER = Path(os.environ.get("MRSR_BENCH_RESULTS") or results_folder())
FILES = sorted(path for path in FOLDER.iterdir() if path.name != ".gitkeep")


def test_there_is_something_to_check():
    assert FILES


def test_the_folder_holds_json_files_and_nothing_else():
    assert [path.name for path in FILES if path.suffix != ".json" or path.is_symlink() or not path.is_file()] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_one_submission_under_the_name_of_its_content(path):
    (submission,) = read_submissions(path)
    assert path.name == file_name_of(submission)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_protocol_is_one_of_ours_by_hash(path):
    (submission,) = read_submissions(path)
    assert submission.protocol in protocol_names()
    assert submission.protocol_hash == get_protocol(submission.protocol).hash


def test_no_run_and_no_content_stands_twice():
    found = read_results(FOLDER)
    assert [key for key, n in Counter(one.digest for one in found).items() if n > 1] == []
    same = Counter((one.run_key, one.contact) for one in found)
    assert [key for key, n in same.items() if n > 1] == []


def test_the_board_shows_every_file():
    found = make_board(read_results(FOLDER))
    assert len(found.entries) == len(FILES)
    assert all(entry.method in found.methods for _, entry in found.entries)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_was_accepted_would_be_accepted_today(path):
    (submission,) = read_submissions(path)
    others = [one for one in read_results(FOLDER) if one.digest != submission.digest]
    assert check(submission, others, accepted_before=True).problems == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_place_on_a_machine_is_named(path):
    assert re.findall(r"""["\s(](?:/[\w.-]+){2,}|[A-Z]:\\""", path.read_text(encoding="utf-8")) == []
