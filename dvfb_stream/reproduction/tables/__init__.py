"""The classifiers and the printed numbers of the tables of the paper."""
