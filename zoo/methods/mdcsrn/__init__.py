"""mDCSRN and mDCSRN-GAN (Chen et al. 2020)."""
