"""Segmentation of whole heads by HighRes3DNet: what overlap of SR with HR is measured with."""
