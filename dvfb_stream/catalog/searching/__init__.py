"""Answers a question about annotations, from the copy of a catalog and what the catalog itself says."""
