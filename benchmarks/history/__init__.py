"""Annotating history: killed again and again, and as fast as it goes."""
