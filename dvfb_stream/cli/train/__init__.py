"""`dvfb train`: from a preset to a bundle, and from a few labelled frames to an adapted one."""
