"""What a blink may cost: which modules the command loads before it has anything to compute."""

import subprocess
import sys

import pytest

from mrsr_bench.benchmarks.catalogue import KINDS

HEAVY = {"torch", "scipy", "nibabel", "huggingface_hub"}
HEAVY_FOR_HELP = HEAVY | {"numpy", "pydantic", "rich", "yaml", "skimage", "matplotlib", "pyarrow", "psutil"}

PROBE = """
import sys
try:
    from mrsr_bench.cli import main
    main(sys.argv[1:]) if sys.argv[1:] else None
except SystemExit as stop:
    assert not stop.code, stop.code
print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def loaded(*arguments: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("arguments", [(), ("--help",), ("--version",)])
def test_help_loads_nothing_heavy(arguments):
    assert loaded(*arguments) & HEAVY_FOR_HELP == set()


@pytest.mark.parametrize("verb", ["run", "train", "upscale", "list", "show", "score", "compare", "doctor"])
def test_help_of_a_verb_loads_nothing_of_ours(verb):
    """Typer itself uses pydantic to describe the options of a verb."""
    assert loaded(verb, "--help") & (HEAVY_FOR_HELP - {"pydantic"}) == set()


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_listing_loads_no_framework(kind, form):
    assert loaded("list", kind, *form) & HEAVY == set()


@pytest.mark.parametrize("name", ["cubic", "phantom", "kspace_truncation", "psnr", "thick-4", "hcp", "soup-fig8"])
def test_showing_loads_no_framework(name):
    assert loaded("show", name) & HEAVY == set()


def test_ranking_needs_no_torch():
    code = "import sys, mrsr_bench.leaderboards.rank as r; r.rank({'a': {'s': 1.0}}, higher_is_better=True)"
    done = subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], timeout=60)
    assert done.returncode == 0
