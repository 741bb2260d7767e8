"""FSRCNN in three dimensions, a baseline of the mDCSRN paper (Dong et al. 2016; Chen et al. 2020)."""
