"""``dvfb demo``: the command, what it prints, the contact sheet."""
