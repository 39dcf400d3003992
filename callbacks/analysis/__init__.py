"""Analysis runs: rows of annotations, their documents, and the sinks that get them."""
