"""residual3d: a small residual 3D network, the example of a method in a package of its own."""
