"""``python -m mrsr_bench`` is the ``mrsr-bench`` command."""

from mrsr_bench.cli import main

if __name__ == "__main__":
    main()
