"""SRResNet in three dimensions, a baseline of the mDCSRN paper (Ledig et al. 2017; Chen et al. 2020)."""
