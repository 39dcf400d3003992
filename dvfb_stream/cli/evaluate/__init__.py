"""`dvfb evaluate`: the tables of the paper, and how far a model can be trusted."""
