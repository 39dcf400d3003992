"""Annotates X-ray scattering images as they are taken."""
