"""One folder per method: ``method.py`` (facts, variants, recipes: plain data) and ``network.py`` (torch)."""

from mrsr_bench.registry import Registry
from mrsr_bench.zoo.method import MethodSpec

methods: Registry[MethodSpec] = Registry(
    "method", "mrsr_bench.zoo.methods", "METHODS", submodule="method", entry_points="mrsr_bench.methods"
)
