"""A package, so that all its tests can share one server: starting one takes seconds."""
