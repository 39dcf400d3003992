"""What is searched for, as people write it: ``four_fold >= 0.9 and not halo``; parsed, never run as code."""

from dvfb_stream.catalog.expression.errors import ExpressionError
from dvfb_stream.catalog.expression.parser import parse
from dvfb_stream.catalog.expression.syntax import Expression, labels_of

__all__ = ["Expression", "ExpressionError", "labels_of", "parse"]
