"""mrsr-bench: the open benchmark suite and model zoo for MRI super-resolution.

Importing this package is free of heavy dependencies; torch, nibabel and scipy are
imported by the functions that use them.
"""

__version__ = "0.1.0"


class UserError(Exception):
    """Something the user can put right; the command prints it as one sentence and exits with code 2."""
