"""What papers' tables and figures ran, as plain data: one YAML file each, read by `mrsr_bench.benchmarks.reproduce`.

``published`` holds the papers' own values; where a value is not public there is none, and ``unpublished`` says why.
"""
