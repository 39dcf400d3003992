"""What people know of frames better than a model: said, listed, taken back, given to those who adapt models."""
