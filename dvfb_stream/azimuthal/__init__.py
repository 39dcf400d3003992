"""How what a frame shows varies along the azimuth: harmonics of each ring, their order, and what noise allows."""
