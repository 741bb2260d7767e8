"""SRDenseNet in three dimensions, a baseline of the mDCSRN paper (Tong et al. 2017; Chen et al. 2020)."""
