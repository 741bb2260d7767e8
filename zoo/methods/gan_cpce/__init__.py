"""GAN-CPCE for MRI, on the CPCE network of Shan et al. 2018."""
