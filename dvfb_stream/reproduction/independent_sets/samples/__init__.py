"""What lies in the beam: each sample is a function (setup, rng) -> components."""
