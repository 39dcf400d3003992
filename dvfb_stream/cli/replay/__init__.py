"""``dvfb record`` and ``dvfb replay``: what came in is written to files, and published again."""
