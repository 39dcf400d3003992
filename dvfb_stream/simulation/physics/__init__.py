"""Formulas: intensities as functions of q and azimuth, each with its source; nothing here is drawn at random."""
