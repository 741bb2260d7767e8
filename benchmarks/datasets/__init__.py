"""One file per dataset: where it comes from, its terms, its subjects and splits; each declares ``DATASETS``."""

from mrsr_bench.benchmarks.dataset import Dataset
from mrsr_bench.registry import Registry

datasets: Registry[Dataset] = Registry(
    "dataset", "mrsr_bench.benchmarks.datasets", "DATASETS", entry_points="mrsr_bench.datasets"
)
