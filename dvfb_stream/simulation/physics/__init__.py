"""Formulas: intensities as functions of q and azimuth, each with its source; nothing here is drawn at random.

A parameter of a formula is a number or a tensor; tensors broadcast against the coordinates, so that one call
computes a whole batch: coordinates (R,) with parameters (n, 1) give (n, R). The result is on the coordinates'
device and has the type that torch's promotion gives.
"""
