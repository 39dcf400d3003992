"""What a frame's sample scatters, drawn at random: diffuse scattering, textures, particles and crystals."""
