"""``dvfb annotate``: files read ahead, rows written as they come, figures."""
