"""Commands that measure: a model on simulated or labelled frames, the tables of the paper; and what they print."""
