"""Commands that make models: ``dvfb train`` from a preset, ``dvfb adapt`` from labelled frames."""
