"""Everything a comparison is: datasets, degradations, metrics, protocols, evaluation, results, statistics."""
