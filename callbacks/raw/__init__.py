"""Raw runs: what their documents say, whatever order they come in, and the detector exposures in them."""
