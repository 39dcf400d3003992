"""`dvfb models`: which model bundles there are, what is in one, and whether it is whole."""
