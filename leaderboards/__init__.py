"""Everything a ranking is; torch-free."""
