"""One file per acquisition model; each declares ``DEGRADATIONS``."""

from mrsr_bench.benchmarks.degradation import Degradation
from mrsr_bench.registry import Registry

degradations: Registry[Degradation] = Registry(
    "degradation", "mrsr_bench.benchmarks.degradations", "DEGRADATIONS", entry_points="mrsr_bench.degradations"
)
