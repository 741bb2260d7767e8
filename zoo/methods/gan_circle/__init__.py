"""GAN-CIRCLE for MRI, on the network of You et al. 2019."""
