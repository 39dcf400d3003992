"""What the Fourier-Bessel estimate costs beside other solvers and other transforms, and how that cost grows."""
