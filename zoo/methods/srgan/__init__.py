"""SRGAN for prostate MRI (Sood and Rusu 2019), on SRGAN (Ledig et al. 2017)."""
