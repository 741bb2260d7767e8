"""SOUP-GAN, from thick slices to thin ones at any factor (Zhang et al. 2022)."""
